"""Tasks of a run that no process is around, as pods of a cluster are.

Each learns its run from its surroundings, and nothing from those before it but what lies in the
ledger and in the root.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.conclude_run.component import conclude_run
from components.conclude_run.ending import end_run
from components.select_spans.component import select_spans
from components.stored_step import StagedTask
from perennial.errors import (
    DataError,
    DeadlineError,
    FailedBeforeError,
    LeaseLostError,
    ProjectError,
    RunInProgressError,
    StoreError,
    TrainingError,
)
from perennial.ledger import events
from perennial.ledger.events import Ledger, NewEvent
from perennial.ledger.lease import hold_lease
from perennial.ledger.task_lease import RUN_VARIABLE
from perennial.ledger.verification import verify_ledger
from perennial.project import load_project
from perennial.results.run_records import RunRecords
from perennial.results.store import Results
from perennial.training.stages import choose_stages
from schemas.records import Criterion, Decision, DecisionMade, Reference, RunEnded, TaskInputs
from tests.perennial.folders import make_project
from tests.perennial.records import judged, run_ended
from tests.receiver import run_receiver
from tests.stored import FileArtifact

FORK = multiprocessing.get_context("fork")
FAULT = ("day.csv", "must have a label", "no such column", "Land it again.")
LONG_AGO = 3600.0


@pytest.fixture
def project(tmp_path):
    project = make_project(tmp_path / "digits")
    (project.folder / "data").mkdir()
    land(project, "2026-01-01")
    return project


@pytest.fixture
def ledger(project):
    return Ledger(project.ledger_url)


@pytest.fixture
def run(monkeypatch):
    """Says which run the tasks of this process belong to, as a pod's label does."""

    def belong(name: str) -> str:
        monkeypatch.setenv(RUN_VARIABLE, name)
        return name

    belong("run-1")
    return belong


def land(project, name):
    path = project.folder / "data" / f"{name}.parquet"
    path.write_text(name)
    os.utime(path, (time.time() - LONG_AGO,) * 2)


def change(project, section, **values):
    """The project with other settings of a section in its file."""
    return make_project(project.folder, **{section: values})


def select(project, retrain=False):
    """The first task of a run; gives `train` or `nothing_new`."""
    stages = choose_stages(project).names
    selection = FileArtifact(project.folder / "selection")
    return select_spans.python_func(
        str(project.folder), stages, retrain, False, 0, "hand", selection
    )[0]


def work(project, error=None, step="train_model", part="instance-1"):
    """A task of a loop that does nothing, or fails."""
    with StagedTask(str(project.folder), step, part):
        if error is not None:
            raise error


def conclude(project):
    """The exit task; gives the report that the dashboard shows."""
    report = FileArtifact(project.folder / "shown" / "report.html")
    conclude_run.python_func(str(project.folder), report)
    return Path(report.path).read_text()


def outcome_of(project, name="run-1"):
    return RunEnded.model_validate_json(
        (Path(project.root) / "runs" / name / "outcome.json").read_text()
    )


def test_a_run_holds_the_project_from_its_first_task_to_its_exit_task(project, ledger, run):
    """The first task's process is gone, which is no sign that its run is."""
    selecting = FORK.Process(target=select, args=(project,))
    selecting.start()
    selecting.join()
    assert selecting.exitcode == 0
    run("run-2")
    with pytest.raises(RunInProgressError, match="run run-1 by process"):
        select(project)
    assert conclude(project) == ""  # of the run that never began, nothing is ended
    run("run-1")
    work(project)
    assert ledger.lease().run == "run-1" and not ledger.lease().released
    work(project, step="push_model", part="")
    assert "</html>" in conclude(project)
    assert ledger.lease().released and ledger.run_end("run-1").outcome == "promoted"
    assert outcome_of(project) == ledger.run_end("run-1") and ledger.run_end("run-2") is None
    run("run-2")
    assert select(project) == "train"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DataError(*FAULT), "data_rejected"),
        (ProjectError(*FAULT), "failed"),
        (TrainingError(*FAULT), "failed"),
        (ValueError("a mistake of the model's code"), "failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_would_fail_again_is_recorded_once_and_not_tried_again(
    project, ledger, run, error, outcome
):
    """A cluster starts another attempt of whatever failed."""
    select(project)
    with pytest.raises(type(error)):
        work(project, error)
    with pytest.raises(FailedBeforeError) as again:
        work(project)
    recorded = [event.body for event in ledger.events("step_failed")]
    assert [(one.step, one.part, one.final) for one in recorded] == [
        ("train_model", "instance-1", True)
    ]
    assert str(again.value) == recorded[0].message and str(error) in recorded[0].message
    assert again.value.exit_code == recorded[0].exit_code == getattr(error, "exit_code", 1)
    work(project, part="instance-2")  # the others of its loop go on
    assert str(error).partition(" ")[0] in conclude(project)
    ended = ledger.run_end("run-1")
    assert (ended.outcome, ended.reasons) == (outcome, [recorded[0].message])
    assert outcome_of(project) == ended and ledger.lease().released
    assert all(row.fence for row in ledger.read_chain(1, 99))
    verify_ledger(ledger)


@pytest.mark.parametrize(
    "error", [StoreError(*FAULT), ConnectionResetError(), MemoryError()], ids=lambda e: type(e)
)
def test_a_fault_of_the_machine_is_tried_again_and_does_not_count_then(project, ledger, run, error):
    select(project)
    with pytest.raises(type(error)):
        work(project, error)
    assert not ledger.events("step_failed")[0].body.final
    work(project)
    work(project, step="push_model", part="")
    conclude(project)
    assert ledger.run_end("run-1").outcome == "promoted"


def test_of_several_attempts_the_last_one_says_why(project, ledger, run):
    select(project)
    for error in (StoreError(*FAULT), DataError(*FAULT)):
        with pytest.raises(type(error)):
            work(project, error)
    conclude(project)
    assert ledger.run_end("run-1").outcome == "data_rejected"


def test_a_failed_run_that_is_tried_again_takes_the_lease_again_and_supersedes_its_failure(
    project, ledger, run
):
    """As a person does on the dashboard: tasks that succeeded do not run again."""
    select(project)
    with pytest.raises(StoreError):
        work(project, StoreError(*FAULT))
    conclude(project)
    assert outcome_of(project).outcome == "failed" and ledger.lease().released
    work(project)
    work(project, step="push_model", part="")
    conclude(project)
    assert outcome_of(project).outcome == ledger.run_end("run-1").outcome == "promoted"
    first, second = (event.number for event in ledger.events("lease_taken"))
    end = ledger.read_chain(second, 99)[-1]
    assert (end.kind, end.fence) == ("run_ended", second) and ledger.lease().released
    assert first < second


def test_a_run_that_is_tried_again_after_another_one_began_records_nothing(project, ledger, run):
    select(project)
    conclude(project)
    run("run-2")
    select(project)
    run("run-1")
    with pytest.raises(LeaseLostError, match="run run-2 took over"):
        work(project)
    assert not ledger.events("step_failed")


def test_a_task_that_was_killed_leaves_a_run_that_says_so(project, ledger, run):
    select(project)
    conclude(project)
    ended = ledger.run_end("run-1")
    assert ended.outcome == "failed" and "ended before it could say why" in ended.reasons[0]
    assert "done: select_spans" in ended.reasons[0]


def test_a_task_leaves_what_it_was_given_and_no_place_that_may_hold_a_password(
    project, ledger, run, monkeypatch, tmp_path
):
    """Also where it fails: a person then runs it again."""
    select(project)
    window = Reference(step="validate_data", key="k", output="window", digest="d", size=1)
    window.write(tmp_path / "window")
    package = f"s3://me:a-password@bucket/packages/{'0' * 64}.tar"
    given = {
        "parameterValues": {"project": package, "instance": {"name": "instance-1"}},
        "artifacts": {"models": {"artifacts": [{"uri": str(tmp_path / "window")}]}},
    }
    command = ["executor_main", "--executor_input", json.dumps({"inputs": given})]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(DataError):
        work(project, DataError(*FAULT))
    records = RunRecords(Results(project.root, project.state), "run-1")
    assert records.inputs() == [
        TaskInputs(
            step="train_model",
            part="instance-1",
            package="0" * 64,
            parameters={"instance": {"name": "instance-1"}},
            artifacts={"models": [window]},
        )
    ]
    (kept,) = Path(project.root, "runs", "run-1", "inputs").rglob("*.json")
    assert "a-password" not in kept.read_text()


def test_a_root_that_cannot_be_read_hides_no_failure_and_makes_none(
    project, ledger, run, monkeypatch
):
    select(project)
    with monkeypatch.context() as patched:
        patched.setattr(RunRecords, "made", refuse)
        with pytest.raises(StoreError):  # how the run ended is not known: another attempt asks
            end_run(project, Results(project.root, project.state), "run-1", ledger.lease().fence)
        assert ledger.run_end("run-1") is None
        with pytest.raises(StoreError):
            work(project, StoreError(*FAULT))
        end_run(project, Results(project.root, project.state), "run-1", ledger.lease().fence)
    ended = ledger.run_end("run-1")
    assert (ended.outcome, ended.reasons) == ("failed", [str(StoreError(*FAULT))])


def refuse(_):
    raise StoreError("root s3://bucket", "must be readable", "503", "Run again.")


def test_two_runs_with_the_same_parameters_are_two_runs(project, ledger, run):
    """A schedule gives each of its runs the same."""
    for number in (1, 2):
        run(f"run-{number}")
        assert select(project) == "train"
        work(project, step="push_model", part="")
        conclude(project)
    assert [start.selection.run for _, start, _ in ledger.runs()] == ["run-1", "run-2"]
    assert [event.run for event in ledger.events("run_ended")] == ["run-1", "run-2"]


def test_a_run_without_work_ends_as_such(project, ledger, run):
    (project.folder / "data" / "2026-01-01.parquet").unlink()
    assert select(project) == "nothing_new"
    conclude(project)
    assert outcome_of(project).outcome == "nothing_new"


def test_the_next_run_of_a_schedule_is_the_repetition_that_is_due(project, ledger, run):
    project = change(project, "gate", repeats=1)
    select(project)
    criterion = Criterion(name="accuracy", passed=False, compared=True, explanation="a reason")
    decision = Decision(promote=False, criteria=[criterion], reasons=[], not_compared=[])
    made = DecisionMade(decision=decision, version="1", digest="d")
    (span,) = ledger.newest_run()[1].selection.window
    ledger.append(NewEvent("decision", made, "run-1"), judged(True, span), run_ended("run-1"))
    ledger.release_lease(ledger.lease().fence)
    run("run-2")
    assert select(project) == "train"
    assert ledger.newest_run()[1].selection.attempt == 1
    conclude(project)


def test_a_mistake_in_the_project_is_recorded_before_anything_is_selected(project, ledger, run):
    (project.folder / "model.py").write_text("def build_model(): ...\n")
    with pytest.raises(ProjectError, match="preprocessing_fn"):
        select(project)
    conclude(project)
    ended = ledger.run_end("run-1")
    assert ended.outcome == "failed" and "preprocessing_fn" in ended.reasons[0]


def test_a_run_that_takes_too_long_is_ended_by_its_tasks(project, ledger, run, monkeypatch):
    project = change(project, "kubeflow", run_minutes=60)
    then = datetime.now(UTC) - timedelta(minutes=61)
    with monkeypatch.context() as patched:
        patched.setattr(events, "_now", then.isoformat)
        with pytest.raises(DeadlineError):
            select(project)
    with pytest.raises(DeadlineError, match=r"within kubeflow.run_minutes \(60\)"):
        work(project)
    conclude(project)
    ended = ledger.run_end("run-1")
    assert ended.outcome == "failed" and "kubeflow.run_minutes" in ended.reasons[0]
    assert ledger.lease().released


def test_a_task_that_was_asleep_while_another_run_took_over_is_stopped(project, ledger, run):
    project = change(project, "kubeflow", lease_minutes=0.01)
    select(project)
    receive, send = FORK.Pipe(duplex=False)
    sleeper = FORK.Process(target=sleep_in_a_task, args=(project, send))
    sleeper.start()
    assert receive.poll(20) and receive.recv() == "works"
    time.sleep(1.0)  # longer than the lease lasts: it shows signs of life
    assert ledger.lease().age < ledger.lease().seconds
    os.kill(sleeper.pid, signal.SIGSTOP)
    deadline = time.monotonic() + 20
    while ledger.lease().age <= ledger.lease().seconds:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with hold_lease(ledger, "digits", "run-2", 600):
        os.kill(sleeper.pid, signal.SIGCONT)
        assert receive.poll(20)
        assert "run run-2 took over" in receive.recv()
        sleeper.join(20)
    assert not ledger.events("step_failed")
    assert [path.name for path in made_by(project)] == ["select_spans.json"]


def sleep_in_a_task(project, send):
    try:
        with StagedTask(str(project.folder), "train_model", "instance-1"):
            send.send("works")
            time.sleep(60)
    except LeaseLostError as error:
        send.send(str(error))


def made_by(project, name="run-1"):
    return sorted((Path(project.root) / "runs" / name / "made").rglob("*.json"))


def test_what_tasks_leave_is_small(project, run):
    select(project)
    work(project)
    assert [path.name for path in made_by(project)] == ["select_spans.json", "instance-1.json"]
    assert all(path.stat().st_size < 1024 for path in made_by(project))
    assert json.loads(made_by(project)[0].read_text())["value"] == "train"


def test_a_step_that_is_called_by_itself_is_of_no_run(project, ledger, monkeypatch):
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    work(project)
    assert ledger.events() == [] and load_project(project.folder).state.is_dir()
    with pytest.raises(ProjectError, match=RUN_VARIABLE):
        select(project)


def test_the_exit_task_tells_people_that_the_run_failed(project, ledger, run, monkeypatch, capsys):
    slack = [{"name": "chat", "url_variable": "SLACK_URL"}]
    change(project, "messages", slack=slack, digest_minutes=0)
    select(project)
    with pytest.raises(TrainingError):
        work(project, TrainingError(*FAULT))
    with run_receiver() as receiver:
        monkeypatch.setenv("SLACK_URL", receiver.url)
        conclude(project)
        ((_, body),) = receiver.accepted
    assert "run run-1 failed" in json.loads(body)["text"] and "day.csv" in json.loads(body)["text"]
    assert ledger.run_end("run-1").outcome == "failed"
    monkeypatch.delenv("SLACK_URL")
    run("run-2")
    select(project)
    with pytest.raises(TrainingError):
        work(project, TrainingError(*FAULT))
    assert "</html>" in conclude(project)  # that nobody is told changes no run's end
    assert "note: message of 1 notice to chat: waits" in capsys.readouterr().out
    assert ledger.run_end("run-2").outcome == "failed"
