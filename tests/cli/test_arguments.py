"""Arguments and options that several commands share."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from perennial.cli.main import app


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
