"""The warnings of a run, in every command that tells of runs; and a line of JSON, whatever happens."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.cli.run import result_json, show_result
from perennial.ledger.events import Ledger
from perennial.runner import project_run
from perennial.runner.project_run import RunResult
from schemas.records import RunWarning, RunWarnings
from tests.perennial.folders import make_project
from tests.perennial.judged import whole_run

WARNINGS = [
    RunWarning(
        kind="drift",
        subject=name,
        feature=name,
        span="2026-01-02",
        message="Jensen-Shannon 0.3 from the window",
        numbers={"distance": 0.3, "threshold": 0.01},
    )
    for name in ("fare", "miles", "hour", "zone")
]
TOLD = "drift: fare in span 2026-01-02: Jensen-Shannon 0.3 from the window"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Version 1 was pushed by a run with four warnings."""
    project = make_project(tmp_path_factory.mktemp("warned") / "digits")
    whole_run(project, "run-1", "a", warnings=WARNINGS)
    return project


def invoke(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments", [("status",), ("history",), ("history", "--at", "NOW"), ("explain", "1")]
)
def test_the_first_warnings_are_told_with_the_page_that_has_the_rest(project, arguments):
    command, *rest = arguments
    at = Ledger(project.ledger_url).events("run_ended")[-1].at
    output = invoke(command, project.folder, *(at if part == "NOW" else part for part in rest))
    assert "4 warnings (.perennial/runs/run-1/report.html)" in output and f"! {TOLD}" in output
    assert "miles" in output and "hour" in output and "zone" not in output


def test_history_has_them_as_records(project):
    (period,) = json.loads(invoke("history", project.folder, "--json"))
    assert (period["warned"], period["report"]) == (4, ".perennial/runs/run-1/report.html")
    assert period["warnings"] == [warning.model_dump(mode="json") for warning in WARNINGS[:3]]


def test_the_run_prints_the_first_and_its_json_has_all(project):
    ended = Ledger(project.ledger_url).run_end("run-1")
    output = io.StringIO()
    show_result(ended, project, Console(file=output, soft_wrap=True))
    lines = output.getvalue().splitlines()
    assert any(line.startswith("4 warnings (") for line in lines) and f"  ! {TOLD}" in lines
    result = RunResult(ended, {"select_spans": 0.1}, 0)
    # Where the file beside the report is gone, the ledger's are there.
    assert len(json.loads(result_json(result, project))["warnings"]) == 3
    RunWarnings(warnings=WARNINGS).write((project.folder / ended.report).parent)
    record = json.loads(result_json(result, project))
    assert record["warnings"] == [warning.model_dump(mode="json") for warning in WARNINGS]
    assert (record["outcome"], record["warned"]) == ("promoted", 4)


ENDS = {
    "a full disk": (OSError(28, "No space left on device"), "no space left on the disk"),
    "a mistake of ours": (KeyError("champion"), "KeyError: 'champion'"),
    "Ctrl-C": (KeyboardInterrupt(), "interrupted"),
}


@pytest.mark.parametrize(("error", "reason"), ENDS.values(), ids=ENDS)
def test_json_has_its_line_whatever_happens(project, monkeypatch, error, reason):
    def run_project(*_):
        raise error

    monkeypatch.setattr(project_run, "run_project", run_project)
    done = CliRunner().invoke(app, ["run", str(project.folder), "--json"])
    record = json.loads(done.stdout.splitlines()[-1])
    assert done.exit_code != 0 and record["outcome"] == "failed"
    assert reason in record["reasons"][0] and record["warnings"] == []
