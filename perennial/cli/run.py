"""`perennial run`: executes the compiled pipeline on this machine and tells how it ended."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from rich.console import Console

from perennial.cli.console import COLOURS, StepDisplay
from perennial.cli.repetitions import find_due_attempt
from perennial.errors import PerennialError, RunInProgressError
from perennial.project import Project
from perennial.runner.project_checks import check_project
from perennial.runner.task import TaskFailure, describe
from perennial.schema.proposal import finish_acceptance
from perennial.spans.window import decide_work
from perennial.training.stages import check_search_asked, choose_stages
from schemas.records import Outcome, RunEnded, Selection

EXIT_CODES: dict[Outcome, int] = {"promoted": 0, "kept_champion": 0, "nothing_new": 0, "data_rejected": 3, "failed": 1}


@dataclass(frozen=True)
class Asked:
    """What is asked of a run: to train without new data, to search for hyperparameters anew, to draw other weights.

    `attempt` counts the repetitions of a run whose candidate was not good enough, from 0.
    """

    retrain: bool = False
    tune: bool = False
    attempt: int = 0

    @property
    def training(self) -> bool:
        """Whether training is asked for even though nothing new has landed."""
        return self.retrain or self.tune or self.attempt > 0


@dataclass(frozen=True)
class RunResult:
    """How a run ended, how long its steps took (seconds), and the exit code that says so."""

    ended: RunEnded
    seconds: dict[str, float]
    exit_code: int

    def to_json(self, project: Project) -> str:
        """One line of JSON for programs."""
        report = str(project.folder / self.ended.report) if self.ended.report else None
        return json.dumps({**self.ended.model_dump(mode="json"), "seconds": self.seconds, "report": report})


def run_project(project: Project, asked: Asked, console: Console) -> RunResult:
    """Runs the loop once; again with other draws, at most `gate.repeats` times, while the candidate is not good enough.

    Where a repetition was killed, failed or never began, and nothing has landed since, the run goes on with that.

    Raises:
        ProjectError: The project has a mistake.
        RunInProgressError: Another run of this project is going on.
    """
    from perennial.registry.repair import reconcile_or_tell

    finish_acceptance(project)  # of a schema, where that command was killed
    check_project(project)
    if asked.tune:
        check_search_asked(project)
    with _locked(project):
        for line in reconcile_or_tell(project):
            console.print(f"note: {line}", highlight=False, markup=False)
        due = None if asked.retrain or asked.tune else find_due_attempt(project)
        if due is None:
            result = _run_once(project, asked, console)
            due = find_due_attempt(project)
        while due is not None:
            attempt, repeats = due, project.settings.gate.repeats
            console.print(f"\nnot good enough; repetition {attempt} of {repeats}, with other draws", highlight=False)
            result = _run_once(project, Asked(retrain=True, attempt=attempt), console)
            due = find_due_attempt(project)
            if due == attempt:  # it failed: the next command tries it again
                break
        return result


def _run_once(project: Project, asked: Asked, console: Console) -> RunResult:
    """Decides in this process whether there is anything to do, and only then compiles and starts the pipeline."""
    run = new_run_name()
    with StepDisplay(console) as display:
        try:
            ended = _end_if_nothing_new(project, run, asked, display)
        except PerennialError as error:
            return _failed(project, run, describe("select_spans", error), display.seconds())
    if ended is not None:
        return RunResult(ended, display.seconds(), EXIT_CODES[ended.outcome])
    return _run_pipeline(project, run, asked, console)


def _end_if_nothing_new(project: Project, run: str, asked: Asked, display: StepDisplay) -> RunEnded | None:
    """Records a run that has nothing to do, begun and ended at once; None where there is something to do.

    Raises:
        PerennialError: The spans cannot be found, or the ledger cannot be used.
    """
    from components.conclude_run.nothing_new import end_without_work
    from components.select_spans.step import find_window, make_selection, start_of
    from perennial.ledger.events import Ledger, NewEvent

    ledger = Ledger(project.ledger_url)
    began = time.monotonic()
    chosen = find_window(project, ledger.judged_spans())
    if decide_work(chosen.spans, chosen.new, asked.training) == "train":
        return None
    selection = make_selection(project, ledger, chosen, run, asked.tune, asked.attempt, trains=False)
    display.ran("select_spans", time.monotonic() - began)
    began = time.monotonic()
    ended = end_without_work(project, ledger, selection)
    ledger.append(start_of(selection), NewEvent("run_ended", ended, run, key=f"run-ended:{run}"))
    display.ran("conclude_run", time.monotonic() - began)
    return ended


def _run_pipeline(project: Project, run: str, asked: Asked, console: Console) -> RunResult:
    from perennial.runner.local_run import LocalRun
    from pipelines.compile import compile_pipeline

    folder = project.state / "runs" / run
    compile_pipeline(folder / "pipeline.yaml", choose_stages(project))
    with StepDisplay(console) as display:
        local = LocalRun(
            pipeline=folder / "pipeline.yaml",
            artifacts=project.state / "artifacts",
            cache=project.state / "cache",
            folder=folder,
            log=folder / "kubeflow.log",
            observer=display,
            warm=project.settings.runner.warm,
            warm_minutes=project.settings.runner.warm_minutes,
            at_once=project.settings.runner.at_once,
        )
        succeeded = local.execute({"project": str(project.folder), "run": run, **asdict(asked)})
    if succeeded:
        return _finished(project, run, display.seconds())
    return _failed(project, run, local.failures[0], display.seconds())


def show_result(result: RunResult, project: Project, console: Console) -> None:
    """Prints the outcome, its reasons and where to read more."""
    ended = result.ended
    console.print(f"\n[bold {COLOURS[ended.outcome]}]{ended.outcome}[/]  {summarise(ended)}", highlight=False)
    for reason in ended.reasons:
        console.print("  • ", end="")
        console.print(reason, highlight=False, markup=False)
    if ended.report:
        console.print(
            f"[dim]report[/]  {os.path.relpath(project.folder / ended.report)}", highlight=False, soft_wrap=True
        )


def summarise(ended: RunEnded) -> str:
    """The outcome in one sentence."""
    stays = f"champion version {ended.champion} keeps serving" if ended.champion else "nothing serves yet"
    sentences: dict[Outcome, str] = {
        "promoted": f"version {ended.version} is the champion now",
        "kept_champion": f"version {ended.version} was registered, {stays}",
        "nothing_new": f"nothing new has landed, {stays}",
        "data_rejected": f"the data was refused, {stays}",
        "failed": f"the run failed, {stays}; run again to go on where it stopped",
    }
    return sentences[ended.outcome]


def new_run_name() -> str:
    """A name that sorts by time and that no other run has."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _finished(project: Project, run: str, seconds: dict[str, float]) -> RunResult:
    from perennial.ledger.events import Ledger

    ended = Ledger(project.ledger_url).run_end(run)
    if ended is None:
        return _failed(project, run, TaskFailure("the pipeline ended without recording an outcome", 1), seconds)
    return RunResult(ended, seconds, EXIT_CODES[ended.outcome])


def _failed(project: Project, run: str, failure: TaskFailure, seconds: dict[str, float]) -> RunResult:
    """Records a failed run; data that could not be read is the data's fault, all else the run's."""
    from components.conclude_run.step import Findings, conclude_run

    outcome: Outcome = "data_rejected" if failure.exit_code == 3 else "failed"
    findings = Findings(selection=_selection(project, run), reasons=[failure.message], failed_step=failure.step)
    ended = conclude_run(project, run, outcome, findings)
    return RunResult(ended, seconds, failure.exit_code)


def _selection(project: Project, run: str) -> Selection | None:
    from perennial.ledger.events import Ledger

    starts = (start.selection for _, start, _ in Ledger(project.ledger_url).runs())
    return next((selection for selection in starts if selection.run == run), None)


@contextmanager
def _locked(project: Project) -> Iterator[None]:
    """Holds the project for one run. The kernel gives the lock back when the process ends, however it ends.

    Raises:
        RunInProgressError: Another process holds it.
    """
    project.state.mkdir(parents=True, exist_ok=True)
    path = project.state / "run.lock"
    with path.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            where, holder = f"project {project.settings.name}", lock.read().strip() or "another process"
            remedy = "Wait until it ends; `perennial status` shows how."
            raise RunInProgressError(where, "must have one run at a time", f"a run by {holder}", remedy) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        lock.flush()
        yield
