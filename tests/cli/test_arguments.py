"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perennial.cli.main import app
from tests.perennial.folders import make_project


@pytest.mark.parametrize(
    "command",
    [
        ["promote"],
        ["rollback"],
        ["spans", "release"],
        ["spans", "judge"],
        ["spans", "reject"],
        ["schema", "accept"],
    ],
)
def test_a_decision_is_refused_with_a_blank_reason(command: list[str], tmp_path: object) -> None:
    span = ["2026-01-01"] if command[0] == "spans" else []
    done = CliRunner().invoke(app, [*command, str(tmp_path), *span, "--why", "  "])
    assert done.exit_code == 2 and "must say why" in done.output


def test_a_root_on_the_command_line_comes_before_the_variable_and_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "digits")
    monkeypatch.setenv("PERENNIAL_ROOT", str(tmp_path / "of the variable"))
    root = tmp_path / "elsewhere"
    done = CliRunner().invoke(app, ["--root", str(root), "package", str(project.folder)])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1].startswith(f"{root}/digits/packages/")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "elsewhere"]
    assert os.environ["PERENNIAL_ROOT"] == str(tmp_path / "of the variable")
