"""A run of a project on this machine: its lock, its repetitions, its pipeline and its result."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from perennial.errors import PerennialError, RunInProgressError
from perennial.project import Project
from perennial.runner.project_checks import check_project
from perennial.runner.repetitions import find_due_attempt
from perennial.runner.step_display import StepDisplay
from perennial.runner.task import TaskFailure, describe_failure
from perennial.schema.proposal import finish_acceptance
from perennial.spans.window import decide_work
from perennial.storage.locks import hold_file_lock
from perennial.training.stages import check_search_asked, choose_stages
from schemas.records import Outcome, RunEnded, Selection

if TYPE_CHECKING:
    from rich.console import Console

EXIT_CODES: dict[Outcome, int] = {
    "promoted": 0,
    "kept_champion": 0,
    "nothing_new": 0,
    "data_rejected": 3,
    "failed": 1,
}


# With more features than these, TensorFlow Transform's analysis takes minutes.
_WIDE = 200


@dataclass(frozen=True)
class RunOptions:
    """The work of a run beyond looking for new data.

    `retrain` trains without new data, and `tune` searches for hyperparameters anew. `attempt`
    counts the repetitions of a run whose candidate was not good enough, from 0; each repetition
    draws other random numbers.
    """

    retrain: bool = False
    tune: bool = False
    attempt: int = 0

    @property
    def training(self) -> bool:
        """Tells whether the run trains even though nothing new has landed."""
        return self.retrain or self.tune or self.attempt > 0


@dataclass(frozen=True)
class RunResult:
    """The end of a run, the seconds that its steps took, and the exit code for it."""

    ended: RunEnded
    seconds: dict[str, float]
    exit_code: int


def run_project(project: Project, options: RunOptions, console: Console) -> RunResult:
    """Runs the loop once, and repeats it while the candidate is not good enough.

    It is repeated with other draws, at most `gate.repeats` times. Where a repetition was killed,
    failed or never began, and nothing has landed since, the run goes on with that repetition.

    Raises:
        ProjectError: The project has a mistake.
        RunInProgressError: Another run of this project is going on.
    """
    from perennial.registry.repair import reconcile_or_tell

    finish_acceptance(project)  # of a schema, where that command was killed
    check_project(project)
    if options.tune:
        check_search_asked(project)
    with hold_project(project):
        shutil.rmtree(project.scratch, ignore_errors=True)  # of tasks that were killed
        for line in reconcile_or_tell(project):
            console.print(f"note: {line}", highlight=False, markup=False)
        due = None if options.retrain or options.tune else find_due_attempt(project)
        if due is None:
            result = _run_once(project, options, console)
            due = find_due_attempt(project)
        while due is not None:
            attempt, repeats = due, project.settings.gate.repeats
            text = f"\nnot good enough; repetition {attempt} of {repeats}, with other draws"
            console.print(text, highlight=False)
            result = _run_once(project, RunOptions(retrain=True, attempt=attempt), console)
            due = find_due_attempt(project)
            if due == attempt:  # it failed: the next command tries it again
                break
        return result


def _run_once(project: Project, options: RunOptions, console: Console) -> RunResult:
    """Decides in this process whether there is work, and only then starts the pipeline."""
    run = new_run_name()
    with StepDisplay(console) as display:
        try:
            ended = _end_if_nothing_new(project, run, options, display)
        except PerennialError as error:
            failure = describe_failure("select_spans", error)
            return _record_failure(project, run, failure, display.seconds())
    if ended is not None:
        return RunResult(ended, display.seconds(), EXIT_CODES[ended.outcome])
    return _run_pipeline(project, run, options, console)


def _end_if_nothing_new(
    project: Project,
    run: str,
    options: RunOptions,
    display: StepDisplay,
) -> RunEnded | None:
    """Records a run that has no work, begun and ended at once; gives None where there is work.

    Raises:
        PerennialError: The spans cannot be found, or the ledger cannot be used.
    """
    from components.conclude_run.nothing_new import end_without_work
    from components.select_spans.step import find_window, make_selection, start_of
    from perennial.ledger.events import Ledger, NewEvent

    ledger = Ledger(project.ledger_url)
    began = time.monotonic()
    chosen = find_window(project, ledger.judged_spans())
    if decide_work(chosen.spans, chosen.new, options.training) == "train":
        return None
    asked = options.tune, options.attempt
    selection = make_selection(project, ledger, chosen, run, *asked, trains=False)
    display.ran("select_spans", time.monotonic() - began)
    began = time.monotonic()
    ended = end_without_work(project, ledger, selection)
    ledger.append(start_of(selection), NewEvent("run_ended", ended, run, key=f"run-ended:{run}"))
    display.ran("conclude_run", time.monotonic() - began)
    return ended


def _run_pipeline(project: Project, run: str, options: RunOptions, console: Console) -> RunResult:
    """Compiles and runs the pipeline; the outcome is read from the ledger."""
    from perennial.ledger.events import Ledger
    from perennial.runner.local_run import LocalRun
    from pipelines.compile import compile_pipeline

    tell_width(project, console)
    folder = project.state / "runs" / run
    compile_pipeline(folder / "pipeline.yaml", choose_stages(project))
    with StepDisplay(console) as display:
        local = LocalRun(
            pipeline=folder / "pipeline.yaml",
            artifacts=project.state / "artifacts",
            folder=folder,
            log=folder / "kubeflow.log",
            observer=display,
            warm=project.settings.runner.warm,
            warm_minutes=project.settings.runner.warm_minutes,
            at_once=project.settings.runner.at_once,
        )
        arguments = {"project": str(project.folder), "run": run, **asdict(options)}
        succeeded = local.execute(arguments)
    if not succeeded:
        return _record_failure(project, run, local.failures[0], display.seconds())
    ended = Ledger(project.ledger_url).run_end(run)
    if ended is None:
        failure = TaskFailure("the pipeline ended without recording an outcome", 1)
        return _record_failure(project, run, failure, display.seconds())
    return RunResult(ended, display.seconds(), EXIT_CODES[ended.outcome])


def tell_width(project: Project, console: Console) -> None:
    """Says before a run begins that its many features make TensorFlow Transform slow."""
    features = len(project.schema.feature)
    if features > _WIDE:
        console.print(
            f"note: {features:,} features: TensorFlow Transform's own work in analyse_features "
            "grows with the columns that preprocessing_fn analyses, whatever the rows, and takes "
            "minutes; as one vector they take seconds (docs/performance.md)",
            highlight=False,
            markup=False,
        )


def new_run_name() -> str:
    """Makes a name that sorts by time and that no other run has."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _record_failure(
    project: Project,
    run: str,
    failure: TaskFailure,
    seconds: dict[str, float],
) -> RunResult:
    """Records a failed run; data that could not be read is the data's fault, all else the run's."""
    from components.conclude_run.step import Findings, conclude_run

    outcome: Outcome = "data_rejected" if failure.exit_code == 3 else "failed"
    findings = Findings(
        selection=_read_selection(project, run),
        reasons=[failure.message],
        failed_step=failure.step,
    )
    ended = conclude_run(project, run, outcome, findings)
    return RunResult(ended, seconds, failure.exit_code)


def _read_selection(project: Project, run: str) -> Selection | None:
    from perennial.ledger.events import Ledger

    starts = (start.selection for _, start, _ in Ledger(project.ledger_url).runs())
    return next((selection for selection in starts if selection.run == run), None)


@contextmanager
def hold_project(project: Project) -> Iterator[None]:
    """Holds the project for one run; the kernel releases it when the process ends, however.

    Raises:
        RunInProgressError: Another process holds it.
    """
    project.state.mkdir(parents=True, exist_ok=True)
    path = project.state / "run.lock"
    with hold_file_lock(path, patience=0) as held:
        if not held:
            holder = path.read_text(encoding="utf-8").strip() or "another process"
            where, remedy = (
                f"project {project.settings.name}",
                "Wait until it ends; `perennial status` shows how.",
            )
            expected = "must have one run at a time"
            raise RunInProgressError(where, expected, f"a run by {holder}", remedy)
        since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        path.write_text(f"process {os.getpid()} since {since}", encoding="utf-8")
        yield
