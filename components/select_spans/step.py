"""Decides what a run works on: what is new since the watermark, and which spans make the window."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from components.select_spans.former import choose_former
from perennial.errors import ProjectError
from perennial.ledger.events import Ledger, NewEvent, started
from perennial.project import Project
from perennial.spans.landed import find_landed
from perennial.spans.window import (
    Judgements,
    Window,
    choose_window,
    decide_work,
    number_versions,
    rows_outside,
)
from perennial.storage.watched_files import served_fingerprint
from perennial.training.hyperparameters import usable
from perennial.training.stages import choose_stages
from schemas.project import ProjectSettings
from schemas.records import Champion, Instance, RunStarted, Selection, Tuned
from schemas.triggers import TRIGGERS, Trigger

# Between the seeds of repetitions of a run; more than its draws and instances take.
_SEEDS_PER_ATTEMPT = 1000


def select_spans(
    project: Project,
    run: str,
    tune: bool = False,
    attempt: int = 0,
    retrain: bool = False,
    trigger: str = "hand",
) -> Selection:
    """Selects the window of a run and records in the ledger that the run began.

    A run that was cut short is taken up again: the same window and the same champion to compare
    with, so that everything it had finished is found in the root.

    Args:
        project: The project.
        run: Name of the run.
        tune: Whether a person asks for a search for hyperparameters.
        attempt: Counts the repetitions of a run whose candidate was not good enough: each draws
            other weights.
        retrain: Whether a person asks to train without new data.
        trigger: What began the run, of `Trigger`.

    Raises:
        ProjectError: The span pattern does not work, or nothing begins a run by that name.
        DataError: Spans cannot be found or read, or a judged version changed in its place.
    """
    begun_by = check_trigger(trigger)
    ledger = Ledger(project.ledger_url)
    judged = ledger.judged_spans()
    chosen = find_window(project, judged)
    trains = decide_work(chosen.spans, chosen.new, asked=retrain or tune or attempt > 0) == "train"
    selection = make_selection(project, ledger, chosen, run, begun_by, tune, attempt, trains)
    ledger.append_once(start_of(selection))
    known_rows = rows_outside(judged, chosen.spans) if trains else {}
    return selection.model_copy(update={"known_rows": known_rows})


def make_selection(
    project: Project,
    ledger: Ledger,
    chosen: Window,
    run: str,
    trigger: Trigger,
    tune: bool,
    attempt: int,
    trains: bool,
) -> Selection:
    """Makes the selection for a window; leaves out what only training reads unless it trains."""
    interrupted = None
    if (
        chosen.new or attempt
    ):  # whoever asks to train again without new data does not want an earlier run's results
        interrupted = find_interrupted(
            started(ledger.runs()), chosen, project.project_digest(), attempt
        )
    compared = comparison_champion(ledger.champion(), interrupted, ledger)
    if interrupted is not None:
        former = interrupted.former
    else:
        days = project.settings.evaluate.former_days
        former = choose_former(ledger.deployments(), days, datetime.now(UTC))
    tuned, why = _tuned(project, ledger, interrupted, tune)
    seed = project.settings.train.seed + attempt * _SEEDS_PER_ATTEMPT
    return Selection(
        run=run,
        resumes=interrupted.run if interrupted else None,
        window=chosen.spans,
        new_spans=chosen.new,
        released=chosen.released,
        champion=compared,
        former=former,
        instances=make_instances(project.settings, compared is not None, seed),
        tuned=tuned,
        tune_reason=why,
        attempt=attempt,
        trigger=trigger,
        seed=seed,
        served=served_fingerprint(project) if trains else "",
        stages=choose_stages(project).names,
        data_digest=project.digest_of("ingest_examples"),
        rules_digest=project.digest_of("check_examples"),
        statistics_digest=project.digest_of("compute_statistics"),
        checks_digest=project.digest_of("validate_data"),
        project_digest=project.project_digest(),
        schema_digest=project.schema_digest(),
        git_commit=project.git_commit(),
        package=project.package.reference.digest if project.package else None,
        fence=ledger.fence_of(run),
    )


def check_trigger(trigger: str) -> Trigger:
    """Gives what began the run, as the pipeline was told it.

    Raises:
        ProjectError: It is nothing that begins a run.
    """
    known: Trigger
    for known in TRIGGERS:
        if trigger == known:
            return known
    raise ProjectError(
        "the pipeline's parameter trigger",
        f"must be one of {', '.join(TRIGGERS)}",
        trigger,
        "Begin the run again with one of them, or without the parameter.",
    )


def start_of(selection: Selection) -> NewEvent:
    """Makes the event that records that a run began; it is appended only once."""
    key, started = f"run-started:{selection.run}", RunStarted(selection=selection)
    return NewEvent("run_started", started, selection.run, key, selection.fence)


def find_window(project: Project, judged: Judgements) -> Window:
    """Chooses the window of what has landed, by what the ledger says of it.

    Raises:
        ProjectError: The span pattern does not work.
        DataError: Spans cannot be found or read, or a judged version changed in its place.
    """
    return choose_window(
        number_versions(find_landed(project), judged), judged, project.settings.data.window
    )


def find_interrupted(
    unfinished: Sequence[RunStarted], window: Window, project_digest: str, attempt: int
) -> Selection | None:
    """Finds the newest unfinished run on the same spans, project and draws, if there is one."""
    selected = (window.spans, window.new, project_digest, attempt)
    for start in reversed(unfinished):
        earlier = start.selection
        recorded = (earlier.window, earlier.new_spans, earlier.project_digest, earlier.attempt)
        if recorded == selected:
            return earlier
    return None


def comparison_champion(
    current: Champion | None, interrupted: Selection | None, ledger: Ledger
) -> Champion | None:
    """Chooses the champion to compare with: never what the interrupted run itself deployed."""
    if interrupted is None or current is None:
        return current
    deployed_by = next(event.run for event, _ in reversed(ledger.deployments()))
    family = _resumed_runs(interrupted, ledger)
    return interrupted.champion if deployed_by in family else current


def make_instances(settings: ProjectSettings, champion: bool, seed: int) -> list[Instance]:
    """Makes the instances of a run, with seeds from `seed` on and the same hyperparameters.

    Where there is a champion, some more start from its weights.
    """
    best = settings.tune.best
    cold = [
        Instance(name=f"instance-{number + 1}", seed=seed + number, rank=number % best)
        for number in range(settings.train.instances)
    ]
    patched = [
        Instance(name=f"patched-{number + 1}", seed=seed + number, start="patched")
        for number in range(settings.patch.instances if champion else 0)
    ]
    return cold + patched


def _tuned(
    project: Project, ledger: Ledger, interrupted: Selection | None, asked: bool
) -> tuple[Tuned | None, str]:
    """Gives the earlier search that is still to be used, or says why there is to be a new one."""
    if interrupted is not None and not asked:
        return (
            interrupted.tuned,
            interrupted.tune_reason,
        )  # so that what it had found is in the root
    return usable(ledger.tuned(), datetime.now(UTC), project.settings.tune.max_age_days, asked)


def _resumed_runs(interrupted: Selection, ledger: Ledger) -> set[str]:
    """Lists the interrupted run and the interrupted runs that it had itself resumed."""
    resumes = {start.selection.run: start.selection.resumes for _, start, _ in ledger.runs()}
    family: set[str] = set()
    run: str | None = interrupted.run
    while run is not None and run not in family:
        family.add(run)
        run = resumes.get(run)
    return family
