"""Decides what a run works on: what is new since the ledger's watermark, and which spans make the window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perennial.ledger import Ledger, NewEvent, started
from perennial.project import Project
from perennial.spans import LandedSpan, find_spans
from schemas.records import Champion, Instance, RunStarted, Selection, Span, SpanJudged

Judgements = Mapping[str, Sequence[tuple[bool, SpanJudged]]]


def select_spans(project: Project, run: str) -> Selection:
    """Selects the window of a run and records in the ledger that the run began.

    A run that was cut short is taken up again: the same window and the same champion to compare with, so
    that everything it had finished is found in the cache.

    Raises:
        ProjectError: The span pattern does not work.
    """
    ledger = Ledger(project.ledger_url)
    landed = find_spans(project.folder, project.settings.data.spans)
    spans = number_versions(landed, ledger.judged_spans())
    window, new = choose_window(spans, ledger.judged_spans(), project.settings.data.window)
    champion = ledger.champion()
    interrupted = find_interrupted(started(ledger.runs()), window, new, project.project_digest())
    selection = Selection(
        run=run,
        resumes=interrupted.run if interrupted else None,
        window=window,
        new_spans=new,
        champion=comparison_champion(champion, interrupted, ledger),
        instances=make_instances(project.settings.train.instances, project.settings.train.seed),
        data_digest=project.data_digest(),
        checks_digest=project.checks_digest(),
        project_digest=project.project_digest(),
        schema_digest=project.schema_digest(),
        git_commit=project.git_commit(),
    )
    ledger.append_once(NewEvent("run_started", RunStarted(selection=selection), run, key=f"run-started:{run}"))
    return selection


def number_versions(landed: Sequence[LandedSpan], judged: Judgements) -> list[Span]:
    """Gives each landed span its version: 1, or one more than the newest version of other bytes that was judged."""
    spans = []
    for found in landed:
        versions = {verdict.span.fingerprint: verdict.span.version for _, verdict in judged.get(found.name, [])}
        version = versions.get(found.fingerprint, max(versions.values(), default=0) + 1)
        spans.append(Span(name=found.name, version=version, uri=str(found.path), fingerprint=found.fingerprint))
    return spans


def choose_window(spans: Sequence[Span], judged: Judgements, size: int) -> tuple[list[Span], list[str]]:
    """The newest `size` spans that are accepted or not yet judged, oldest first, and the names of the latter.

    A rejected version never comes back; the span does when it lands again with other bytes.
    """
    # By name too: two spans may hold the same bytes, and each has its own verdict.
    accepted = {(v.span.name, v.span.fingerprint): ok for verdicts in judged.values() for ok, v in verdicts}
    usable = [span for span in spans if accepted.get((span.name, span.fingerprint), True)]
    window = usable[-size:]
    return window, [span.name for span in window if (span.name, span.fingerprint) not in accepted]


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
