"""What `perennial spans list` and `show` tell, read off the landed spans and the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from perennial.ledger.events import Ledger, SpanVerdict, body_of
from perennial.project import Project
from perennial.spans.landed import find_landed
from perennial.spans.names import span_order
from perennial.spans.quarantine import unknown_span
from perennial.spans.window import Judgements, State, number_versions, state_of
from perennial.storage.files import is_url, list_files
from schemas.records import DecisionMade, RunEnded, Span

COLOURS: dict[State, str] = {
    "new": "cyan",
    "accepted": "green",
    "quarantined": "yellow",
    "released": "cyan",
    "rejected": "red",
}
_WIDEST = 400  # where no terminal folds the lines
_NARROW = 100
_SHORT = 100


@dataclass(frozen=True)
class SpanVersion:
    """One version of a span. `at` (ISO 8601) is when its state was decided on; when it landed, while it is new."""

    span: str
    version: int
    state: State
    rows: int | None
    set_aside: int | None
    at: str | None
    reasons: list[str]
    by: str | None
    lies_there: bool
    uri: str
    fingerprint: str


def list_versions(project: Project) -> list[SpanVersion]:
    """Every version that landed or was judged, oldest span first."""
    judged = Ledger(project.ledger_url).judged_spans()
    landed = number_versions(find_landed(project), judged)
    there = {(span.name, span.fingerprint): span for span in landed}
    known = {(said.judged.span.name, said.judged.span.fingerprint): said.judged.span for said in _all(judged)}
    spans = (known | there).values()
    found = [_describe(span, judged, (span.name, span.fingerprint) in there) for span in spans]
    return sorted(found, key=lambda version: (span_order(version.span), version.version))


def show_versions(versions: list[SpanVersion]) -> None:
    """Prints a table of versions, or two lines for each where the terminal is narrow; no name is ever cut."""
    console = _console()
    if not versions:
        console.print("no span has landed")
    elif console.width < _NARROW:
        for version in versions:
            span, number, state, rows, aside, when, why = _cells(version)
            counts = f"  {rows} rows, {aside} set aside" if rows else ""
            text = f"[bold]{span}[/] version {number}  {state}{counts}" + "".join(f"\n  {x}" for x in (when, why) if x)
            console.print(text, highlight=False, soft_wrap=True)
    else:
        console.print(_table(versions), highlight=False)


def _table(versions: list[SpanVersion]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("span", "version", "state", "rows", "set aside", "when", "why"):
        long, number = heading in ("span", "why"), heading in ("version", "rows", "set aside")
        table.add_column(heading, overflow="fold", no_wrap=not long, justify="right" if number else "left")
    for version in versions:
        table.add_row(*_cells(version))
    return table


def show_span(project: Project, name: str) -> None:
    """Prints all that is known of a span.

    Raises:
        DataError: There is no such span.
    """
    versions = list_versions(project)
    found = [version for version in versions if version.span == name]
    if not found:
        raise unknown_span(name, {version.span for version in versions})
    ledger, console = Ledger(project.ledger_url), _console(soft_wrap=True)
    said = ledger.judged_spans().get(name, [])
    for number, version in enumerate(found):
        console.print("\n" * (number > 0) + f"span {name} version {version.version}", style="bold", highlight=False)
        for line in _explain(version, said, ledger):
            console.print(f"  {line}", highlight=False, markup=False)


def _explain(version: SpanVersion, said: list[SpanVerdict], ledger: Ledger) -> Iterator[str]:
    yield f"state        {version.state}"
    yield f"fingerprint  {version.fingerprint}"
    yield f"lies there   {f'yes: {version.uri}' if version.lies_there else f'no more (was {version.uri})'}"
    verdicts = [verdict for verdict in said if verdict.judged.span.fingerprint == version.fingerprint]
    for verdict in verdicts:
        yield _verdict_line(verdict)
        yield from (f"             {reason}" for reason in verdict.judged.reasons)
    quarantined_by = {verdict.run for verdict in verdicts if verdict.verdict == "quarantined"}
    trained = list(_trainings(ledger, version, quarantined_by))
    yield from trained or ["trained by   no run"]


def _verdict_line(verdict: SpanVerdict) -> str:
    by = verdict.judged.by or f"run {verdict.run}"
    line = f"{_when(verdict.at)}  {verdict.verdict} by {by}"
    if verdict.judged.by is None:
        line += f": {verdict.judged.rows} rows, {verdict.judged.set_aside} set aside"
    return line


def _trainings(ledger: Ledger, version: SpanVersion, quarantined_by: set[str | None]) -> Iterator[str]:
    """The runs that trained on a version, and the models that they made of it."""
    models = {event.run: body_of(event, DecisionMade).version for event in ledger.events("decision")}
    for event, start, end in ledger.runs():
        window = [(span.name, span.fingerprint) for span in start.selection.window]
        if (version.span, version.fingerprint) not in window or event.run in quarantined_by:
            continue
        ended = body_of(end, RunEnded) if end else None
        model = (ended.version if ended else None) or models.get(event.run)
        if model is not None:
            outcome = ended.outcome if ended else "not ended"
            yield f"trained by   run {event.run} ({outcome}): registry version {model}"


def _describe(span: Span, judged: Judgements, lies_there: bool) -> SpanVersion:
    verdicts = [said for said in judged.get(span.name, []) if said.judged.span.fingerprint == span.fingerprint]
    state, newest = state_of(span, judged), verdicts[-1] if verdicts else None
    deciding = next((said for said in reversed(verdicts) if said.verdict == state), None)
    return SpanVersion(
        span=span.name,
        version=span.version,
        state=state,
        rows=newest.judged.rows if newest else None,
        set_aside=newest.judged.set_aside if newest else None,
        at=deciding.at if deciding else _landed_at(span.uri),
        reasons=deciding.judged.reasons if deciding else [],
        by=deciding.judged.by if deciding else None,
        lies_there=lies_there,
        uri=span.uri,
        fingerprint=span.fingerprint,
    )


def _cells(version: SpanVersion) -> list[str]:
    reasons = "; ".join(version.reasons)
    shown = reasons if len(reasons) <= _SHORT else f"{reasons[:_SHORT]}…"
    why = [shown] if shown else []
    why += [] if version.lies_there else ["does not lie there any more"]
    numbers = ["" if value is None else str(value) for value in (version.rows, version.set_aside)]
    state = f"[{COLOURS[version.state]}]{version.state}[/]"
    when = _when(version.at) if version.at else ""
    return [escape(version.span), str(version.version), state, *numbers, when, escape("; ".join(why))]


def _all(judged: Judgements) -> Iterator[SpanVerdict]:
    for verdicts in judged.values():
        yield from verdicts


def _landed_at(uri: str) -> str | None:
    """When a local span landed: the time of its newest file."""
    if is_url(uri):
        return None
    newest = max((Path(file).stat().st_mtime for file in list_files(uri)), default=None)
    return datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds") if newest is not None else None


def _when(at: str) -> str:
    return f"{at[:10]} {at[11:16]} UTC"


def _console(soft_wrap: bool = False) -> Console:
    console = Console(soft_wrap=soft_wrap)
    return console if console.is_terminal else Console(soft_wrap=soft_wrap, width=_WIDEST)
