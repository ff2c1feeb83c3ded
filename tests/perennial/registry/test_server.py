"""The registry on a real MLflow server on PostgreSQL.

Models go over HTTP, and sources are checked.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from perennial.errors import IntegrityError, RegistryError
from perennial.registry.versions import Registry
from perennial.storage.digests import digest_folder
from tests.perennial.folders import make_model, make_project

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def registry(server_project):
    return Registry(server_project)


def test_models_go_and_come_over_http(registry, tmp_path):
    models = [make_model(tmp_path / name, name) for name in "ab"]
    versions = [
        registry.register(replace(model, documents={"evaluation.json": "{}"})) for model in models
    ]
    assert [version.version for version in versions] == [
        "1",
        "2",
    ] and registry.versions() == versions
    assert all(version.source.startswith("mlflow-artifacts:/") for version in versions)
    assert [digest_folder(registry.fetch(version)) for version in versions] == [
        model.digest for model in models
    ]
    assert registry.register(make_model(tmp_path / "again", "a")) == versions[0]
    assert registry.document(versions[0], "evaluation.json") == "{}"
    assert registry.document(versions[0], "decision.json") is None
    assert registry.lineage("1") == {
        "digest": models[0].digest,
        "run": "run-a",
        "spans": "2026-01-01@1",
    }


def test_aliases(registry, tmp_path):
    for name in "ab":
        registry.register(make_model(tmp_path / name, name))
    assert registry.set_aliases("1") and registry.aliases() == {"champion": "1", "challenger": "2"}
    assert (
        registry.set_aliases("2")
        and registry.aliases() == {"champion": "2"}
        and not registry.set_aliases("2")
    )


def test_damage_on_the_server_is_refused(registry, server_project, mlflow_server, tmp_path):
    version = registry.register(make_model(tmp_path / "a", "a"))
    folder = Path(str(registry._client.get_run(version.mlflow_run).info.artifact_uri))
    stored = Path(mlflow_server.folder).glob(
        f"artifacts/*/{version.mlflow_run}/artifacts/model/saved_model.pb"
    )
    next(stored).write_bytes(b"b")
    assert folder  # its address is not a folder of this machine
    with pytest.raises(IntegrityError, match=version.digest):
        registry.fetch(version)
    assert list((server_project.state / "models").glob("*")) == []


def test_the_server_refuses_sources_of_elsewhere(registry, tmp_path):
    first, second = (registry.register(make_model(tmp_path / name, name)) for name in "ab")
    for source in (
        "/etc",
        "file:///etc",
        first.source.replace("/model", "/other"),
        second.source,
        "s3://bucket/model",
    ):
        with pytest.raises(MlflowException, match="Invalid model version source"):
            registry._client.create_model_version(
                registry.name, source=source, run_id=first.mlflow_run
            )
    assert registry.versions() == [first, second]


def test_a_server_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        project = make_project(tmp_path / "digits", registry={"uri": f"http://127.0.0.1:{port}"})
        with pytest.raises(
            RegistryError, match=f"registry at http://127.0.0.1:{port} must be reachable"
        ):
            Registry(project).versions()
