"""A run of a project on this machine: its lease, its repetitions, its pipeline and its result.

What a cluster has to do too is in the pipeline; here is what is of this machine: the process that
holds the lease for the whole run, the display, the exit code, and a run without work, which ends
before there is a pipeline.
"""

from __future__ import annotations

import secrets
import shutil
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from components.select_spans.repetitions import find_due_attempt
from perennial.errors import LeaseLostError, PerennialError, StoreError
from perennial.ledger.events import Ledger, NewEvent
from perennial.ledger.failures import describe_failure, record_failure
from perennial.ledger.lease import Lease, hold_lease
from perennial.ledger.task_lease import RUN_VARIABLE
from perennial.project import Project
from perennial.runner.container import check_image
from perennial.runner.pod import check_isolated, make_pod
from perennial.runner.project_checks import check_project
from perennial.runner.step_display import StepDisplay
from perennial.runner.task import TaskFailure
from perennial.schema.proposal import finish_acceptance
from perennial.spans.window import decide_work
from perennial.training.stages import check_search_asked, choose_stages
from schemas.records import Outcome, RunEnded, StepFailed
from schemas.triggers import Trigger

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
    """The work of a run beyond looking for new data, and how its steps are kept apart.

    `retrain` trains without new data, and `tune` searches for hyperparameters anew. `attempt`
    counts the repetitions of a run whose candidate was not good enough, from 0; each repetition
    draws other random numbers. `isolated` runs each step as a pod would run, and `image` does so
    in a container of it. `trigger` is what began the run.
    """

    retrain: bool = False
    tune: bool = False
    attempt: int = 0
    isolated: bool = False
    image: str | None = None
    trigger: Trigger = "hand"

    @property
    def arguments(self) -> dict[str, bool | int | str]:
        """Gives those that are arguments of the pipeline."""
        return {
            "retrain": self.retrain,
            "tune": self.tune,
            "attempt": self.attempt,
            "trigger": self.trigger,
        }

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
        LeaseLostError: This process was asleep for so long that another run took over.
    """
    from perennial.registry.repair import reconcile_or_tell

    if options.isolated or options.image:
        check_isolated(project)
    if options.image:
        check_image(options.image)
    finish_acceptance(project)  # of a schema, where that command was killed
    check_project(project)
    if options.tune:
        check_search_asked(project)
    with hold_project(project, new_run_name()) as lease:
        shutil.rmtree(project.scratch, ignore_errors=True)  # of tasks that were killed
        for line in reconcile_or_tell(project):
            console.print(f"note: {line}", highlight=False, markup=False)
        attempt = None if options.retrain or options.tune else find_due_attempt(project)
        if attempt is None:
            result = _run_once(project, lease, options, console)
        else:
            result = _repeat(project, lease, attempt, options, console)
        while (due := find_due_attempt(project)) is not None:
            if due == attempt:  # it failed: the next command tries it again
                break
            attempt = due
            lease.pass_to(new_run_name())
            result = _repeat(project, lease, attempt, options, console)
        return result


def _repeat(
    project: Project, lease: Lease, attempt: int, options: RunOptions, console: Console
) -> RunResult:
    repeats = project.settings.gate.repeats
    text = f"\nnot good enough; repetition {attempt} of {repeats}, with other draws"
    console.print(text, highlight=False)
    repeated = replace(options, retrain=True, tune=False, attempt=attempt)
    return _run_once(project, lease, repeated, console)


def _run_once(project: Project, lease: Lease, options: RunOptions, console: Console) -> RunResult:
    """Decides in this process whether there is work, and only then starts the pipeline."""
    with StepDisplay(console) as display:
        try:
            ended = _end_if_nothing_new(project, lease.run, options, display)
        except LeaseLostError:
            raise
        except PerennialError as error:
            failure = describe_failure("select_spans", error)
            ended = _end_here(project, lease, failure)
            return RunResult(ended, display.seconds(), failure.exit_code)
    if ended is not None:
        return RunResult(ended, display.seconds(), exit_code_of(ended))
    return _run_pipeline(project, lease, options, console)


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

    ledger = Ledger(project.ledger_url)
    began = time.monotonic()
    chosen = find_window(project, ledger.judged_spans())
    if decide_work(chosen.spans, chosen.new, options.training) == "train":
        return None
    asked = options.trigger, options.tune, options.attempt
    selection = make_selection(project, ledger, chosen, run, *asked, trains=False)
    display.ran("select_spans", time.monotonic() - began)
    began = time.monotonic()
    ended = end_without_work(project, ledger, selection)
    end = NewEvent("run_ended", ended, run, f"run-ended:{run}", selection.fence)
    ledger.append(start_of(selection), end)
    display.ran("conclude_run", time.monotonic() - began)
    return ended


def _run_pipeline(
    project: Project, lease: Lease, options: RunOptions, console: Console
) -> RunResult:
    """Packages the project, compiles and runs the pipeline; the outcome is read from the ledger.

    What is changed in the folder while the run goes on counts in the next one.

    Raises:
        ProjectError: The project cannot be packaged.
        LeaseLostError: Another run took over meanwhile; the steps of this one were ended.
    """
    from perennial.package.publish import publish_package
    from perennial.runner.local_run import LocalRun
    from pipelines.compile import compile_pipeline

    tell_width(project, console)
    run = lease.run
    try:
        package = publish_package(project)
    except (StoreError, OSError) as error:
        unpackaged = describe_failure("package", error)
        return RunResult(_end_here(project, lease, unpackaged), {}, unpackaged.exit_code)
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
            environment={RUN_VARIABLE: run},
            killed=partial(_record_killed, project, lease),
            pod=(
                partial(make_pod, project, image=options.image)
                if options.isolated or options.image
                else None
            ),
            isolation="container" if options.image else None,
        )
        arguments = {"project": str(package.reference), **options.arguments}
        with lease.calling_on_loss(local.kill):
            local.execute(arguments)
    lease.check()
    ledger = Ledger(project.ledger_url)
    ended = ledger.run_end(run)
    if ended is None:  # the exit task could not record it
        message = "the pipeline ended without recording an outcome"
        unknown = TaskFailure(message, 1, "conclude_run")
        failure = local.failures[0] if local.failures else unknown
        ended = _end_here(project, lease, _killed(failure))
    return RunResult(ended, display.seconds(), exit_code_of(ended))


def exit_code_of(ended: RunEnded) -> int:
    """Gives the exit code of a command that ran the loop, or waited for its end on a cluster."""
    return EXIT_CODES[ended.outcome] if ended.exit_code is None else ended.exit_code


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


def _record_killed(project: Project, lease: Lease, failure: TaskFailure) -> None:
    """Records that a step was ended by a signal, which it could not do; what ended it may pass."""
    with suppress(PerennialError):  # the exit task says that a step was ended
        record_failure(Ledger(project.ledger_url), lease.run, _killed(failure), lease.fence)


def _killed(failure: TaskFailure) -> StepFailed:
    return StepFailed(
        step=failure.step or "conclude_run",
        outcome="failed",
        message=failure.message,
        exit_code=failure.exit_code,
        final=False,
    )


def _end_here(project: Project, lease: Lease, failure: StepFailed) -> RunEnded:
    """Ends a run in this process as its exit task would, by a failure that it knows of.

    Raises:
        LeaseLostError: Another run has taken the project over.
        LedgerError: The ledger cannot be written.
    """
    from components.conclude_run.ending import end_run
    from perennial.results.store import Results

    record_failure(Ledger(project.ledger_url), lease.run, failure, lease.fence)
    results = Results(project.root, project.state)
    ended = end_run(project, results, lease.run, lease.fence)
    assert ended is not None
    return ended


def hold_project(project: Project, run: str) -> AbstractContextManager[Lease]:
    """Holds the project's lease for a run.

    Raises:
        RunInProgressError: Another run holds it.
    """
    project.state.mkdir(parents=True, exist_ok=True)
    name, seconds = project.settings.name, project.settings.runner.lease_seconds
    return hold_lease(Ledger(project.ledger_url), name, run, seconds)
