"""A version's files lie among the artifacts of its own run.

Paths, URIs, dots, links and disguises.
"""

from __future__ import annotations

import pytest

from perennial.registry.model_sources import lies_within

ROOT = "mlflow-artifacts:/1/abc/artifacts"


@pytest.mark.parametrize(
    ("source", "root"),
    [
        (f"{ROOT}/model", ROOT),
        ("s3://bucket/1/abc/artifacts/model", "s3://bucket/1/abc/artifacts"),
        ("/state/registry/abc/artifacts/model", "file:///state/registry/abc/artifacts"),
        ("file:///state/a%20b/artifacts/model", "/state/a b/artifacts"),
    ],
)
def test_inside(source, root):
    assert lies_within(source, root)


@pytest.mark.parametrize(
    ("source", "root"),
    [
        ("mlflow-artifacts:/1/other/artifacts/model", ROOT),
        (f"{ROOT}-more/model", ROOT),
        (f"{ROOT}/../../other/artifacts/model", ROOT),
        (f"{ROOT}/%2e%2e/%2e%2e/other", ROOT),
        (f"{ROOT}/%252e%252e/other", ROOT),
        (f"{ROOT}/model?x=1", ROOT),
        (f"{ROOT}/model#x", ROOT),
        ("mlflow-artifacts://elsewhere/1/abc/artifacts/model", ROOT),
        ("s3://other/1/abc/artifacts/model", "s3://bucket/1/abc/artifacts"),
        ("https://elsewhere/1/abc/artifacts/model", ROOT),
        ("/etc", "file:///state/registry/abc/artifacts"),
        ("/state/registry/abc/artifacts/../../other/artifacts", "/state/registry/abc/artifacts"),
        ("file:///state/registry/abc/artifacts/%2e%2e/secret", "/state/registry/abc/artifacts"),
        ("", "/state/registry/abc/artifacts"),
        ("models:/m-123", ROOT),
        ("runs:/abc/model", ROOT),
        ("s3://bucket/model", "s3://bucket"),
    ],
)
def test_outside(source, root):
    assert not lies_within(source, root)


def test_a_link_that_leads_out_is_outside(tmp_path):
    root, secret = tmp_path / "artifacts", tmp_path / "secret"
    root.mkdir()
    secret.mkdir()
    (root / "model").symlink_to(secret)
    assert not lies_within(str(root / "model"), str(root))
    assert lies_within(str(secret / "file"), secret.as_uri())
