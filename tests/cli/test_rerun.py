"""`perennial rerun`: what it refuses. Whole reruns are in tests/e2e/test_loop.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import components
from perennial.cli.main import app
from perennial.results.run_records import RunRecords
from perennial.runner.rerun import REFUSED
from perennial.step_inputs import PREPARATION, STEP_INPUTS
from schemas.records import TaskInputs
from tests.perennial.folders import make_project
from tests.stored import results_of


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "digits")


def rerun(project, *arguments):
    return CliRunner().invoke(app, ["rerun", str(project.folder), *arguments])


def test_every_step_is_refused_or_keeps_a_result():
    steps = {path.parent.name for path in Path(components.__file__).parent.glob("*/component.py")}
    kept = {*STEP_INPUTS, "prepare_span"} - {*PREPARATION}
    assert steps == kept | set(REFUSED) and not kept & set(REFUSED)


@pytest.mark.parametrize(("step", "does"), REFUSED.items(), ids=REFUSED)
def test_a_step_that_changes_ledger_or_registry_is_refused(project, step, does):
    done = rerun(project, "run-1", step)
    assert done.exit_code == 1 and does in str(done.exception)
    assert f"`perennial logs PROJECT run-1 {step}`" in str(done.exception)


def test_a_task_that_the_run_has_not_is_answered_with_those_that_it_has(project, tmp_path):
    assert "Received: no inputs of this run" in str(
        rerun(project, "run-1", "train_model").exception
    )
    records = RunRecords(results_of(project), "run-1")
    for part in ("instance-1", "instance-2"):
        records.begin(TaskInputs(step="train_model", part=part))
    done = rerun(project, "run-1", "evaluate_model")
    tasks = "inputs of train_model instance-1, train_model instance-2"
    assert tasks in str(done.exception)
    assert tasks in str(rerun(project, "run-1", "train_model").exception)
    assert "train_model instance-3 of run run-1" in str(
        rerun(project, "run-1", "train_model", "instance-3").exception
    )
