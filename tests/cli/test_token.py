"""`perennial token`: makes, shows and takes back what opens the server."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.errors import ProjectError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    settings = "name: tiny\nlabel: label\ndata: {spans: 'data/{SPAN}.csv', key: id}\n"
    (tmp_path / "project.yaml").write_text(settings)
    return tmp_path


def call(*arguments: object) -> str:
    outcome = CliRunner().invoke(app, ["token", *map(str, arguments)])
    if outcome.exception is not None:
        raise outcome.exception
    return outcome.stdout


def test_a_token_is_shown_once_and_only_its_digest_is_kept(project: Path) -> None:
    secret = call("add", project, "shop").strip()
    other = call("add", project, "grafana", "--for", "administration").strip()
    file = project / ".perennial" / "tokens.json"
    text = file.read_text()
    assert secret.startswith("perennial_") and len(secret) > 50 and secret != other
    assert secret not in text and hashlib.sha256(secret.encode()).hexdigest() in text
    assert file.stat().st_mode & 0o777 == 0o600
    listed = json.loads(call("list", project, "--json"))
    assert [(each["name"], each["purpose"]) for each in listed] == [
        ("shop", "predicting"),
        ("grafana", "administration"),
    ]
    assert "digest" not in listed[0] and "grafana for administration" in call("list", project)
    assert "opens nothing any more" in call("revoke", project, "shop")
    assert "shop" not in call("list", project)


def test_mistakes_are_told(project: Path) -> None:
    assert "there are no tokens" in call("list", project)
    call("add", project, "shop")
    for arguments, words in {
        ("add", "shop"): "must be a new name",
        ("add", "two words"): "must be up to 64 letters",
        ("revoke", "sohp"): "must be one of the tokens. Received: shop",
    }.items():
        command, name = arguments
        with pytest.raises(ProjectError, match=words):
            call(command, project, name)
    (project / ".perennial" / "tokens.json").write_text('{"tokens": 3}')
    with pytest.raises(ProjectError, match=r"must be a file of tokens. Received: tokens: "):
        call("list", project)


def test_the_place_of_the_file_is_a_setting_and_a_variable(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = project / "project.yaml"
    settings.write_text(settings.read_text() + "serving: {tokens: here.json}\n")
    call("add", project, "shop")
    assert "shop" in (project / "here.json").read_text()
    monkeypatch.setenv("PERENNIAL_TOKEN_FILE", str(project / "there.json"))
    call("add", project, "other")
    assert "other" in (project / "there.json").read_text()
