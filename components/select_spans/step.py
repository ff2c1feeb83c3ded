"""Decides what a run works on: what is new since the ledger's watermark, and which spans make the window."""

from __future__ import annotations

from collections.abc import Sequence

from perennial.ledger import Ledger, NewEvent, started
from perennial.project import Project
from perennial.spans import find_landed
from perennial.window import choose_window, number_versions
from schemas.records import Champion, Instance, RunStarted, Selection, Span


def select_spans(project: Project, run: str) -> Selection:
    """Selects the window of a run and records in the ledger that the run began.

    A run that was cut short is taken up again: the same window and the same champion to compare with, so
    that everything it had finished is found in the cache.

    Raises:
        ProjectError: The span pattern does not work.
        DataError: Spans cannot be found or read, or a judged version changed in its place.
    """
    ledger = Ledger(project.ledger_url)
    judged = ledger.judged_spans()
    chosen = choose_window(number_versions(find_landed(project), judged), judged, project.settings.data.window)
    champion = ledger.champion()
    interrupted = find_interrupted(started(ledger.runs()), chosen.spans, chosen.new, project.project_digest())
    selection = Selection(
        run=run,
        resumes=interrupted.run if interrupted else None,
        window=chosen.spans,
        new_spans=chosen.new,
        released=chosen.released,
        champion=comparison_champion(champion, interrupted, ledger),
        instances=make_instances(project.settings.train.instances, project.settings.train.seed),
        data_digest=project.data_digest(),
        rules_digest=project.rules_digest(),
        checks_digest=project.checks_digest(),
        project_digest=project.project_digest(),
        schema_digest=project.schema_digest(),
        git_commit=project.git_commit(),
    )
    ledger.append_once(NewEvent("run_started", RunStarted(selection=selection), run, key=f"run-started:{run}"))
    return selection


def find_interrupted(
    unfinished: Sequence[RunStarted], window: Sequence[Span], new: Sequence[str], project_digest: str
) -> Selection | None:
    """The newest unfinished run that worked on the same spans with the same project, if there is one."""
    for start in reversed(unfinished):
        earlier = start.selection
        if new and (earlier.window, earlier.new_spans, earlier.project_digest) == (
            list(window),
            list(new),
            project_digest,
        ):
            return earlier
    return None


def comparison_champion(current: Champion | None, interrupted: Selection | None, ledger: Ledger) -> Champion | None:
    """The champion to compare with: the current one, unless the interrupted run itself deployed that one."""
    if interrupted is None or current is None:
        return current
    deployed_by = next(event.run for event, _ in reversed(ledger.deployments()))
    family = _resumed_runs(interrupted, ledger)
    return interrupted.champion if deployed_by in family else current


def make_instances(count: int, seed: int) -> list[Instance]:
    """The instances of a run, with seeds that follow each other."""
    return [Instance(name=f"instance-{number + 1}", seed=seed + number) for number in range(count)]


def _resumed_runs(interrupted: Selection, ledger: Ledger) -> set[str]:
    """The interrupted run and the interrupted runs that it had itself taken up."""
    resumes = {start.selection.run: start.selection.resumes for _, start, _ in ledger.runs()}
    family: set[str] = set()
    run: str | None = interrupted.run
    while run is not None and run not in family:
        family.add(run)
        run = resumes.get(run)
    return family
