"""Span versions on the screen, from the landed spans and the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from perennial.cli.formats import format_minute, plain_console
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
    "reopened": "cyan",
    "rejected": "red",
}
_TABLE_WIDTH = 100  # below it a table would fold its cells
_LONGEST_REASON = 100  # characters of it in a table


@dataclass(frozen=True)
class SpanVersion:
    """One version of a span.

    `at` (ISO 8601) is when its state was decided on; while it is new, when it landed.
    """

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
    """Lists every version that landed or was judged, oldest span first."""
    judged = Ledger(project.ledger_url).judged_spans()
    known = [verdict.judged.span for verdicts in judged.values() for verdict in verdicts]
    spans = {(span.name, span.fingerprint): span for span in known}
    landed = number_versions(find_landed(project), judged)
    there = {(span.name, span.fingerprint): span for span in landed}
    spans |= there
    versions = [_make_version(span, judged, key in there) for key, span in spans.items()]
    return sorted(versions, key=lambda version: (span_order(version.span), version.version))


def show_versions(versions: list[SpanVersion]) -> None:
    """Prints a table of versions, or some lines for each where the terminal is narrow.

    No name is ever cut.
    """
    console = plain_console(soft_wrap=False)
    if not versions:
        console.print("no span has landed")
    elif console.width < _TABLE_WIDTH:
        for version in versions:
            span, number, state, rows, set_aside, at, why = _cells(version)
            counts = f"  {rows} rows, {set_aside} set aside" if rows else ""
            headline = f"[bold]{span}[/] version {number}  {state}{counts}"
            text = "\n  ".join(part for part in (headline, at, why) if part)
            console.print(text, highlight=False, soft_wrap=True)
    else:
        console.print(_table(versions), highlight=False)


def _table(versions: list[SpanVersion]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("span", "version", "state", "rows", "set aside", "when", "why"):
        fits_one_line = heading not in ("span", "why")
        table.add_column(heading, overflow="fold", no_wrap=fits_one_line)
        if heading in ("version", "rows", "set aside"):
            table.columns[-1].justify = "right"
    for version in versions:
        table.add_row(*_cells(version))
    return table


def show_span(project: Project, name: str) -> None:
    """Prints all that is known of a span.

    Raises:
        DataError: There is no such span.
    """
    all_versions = list_versions(project)
    versions = [version for version in all_versions if version.span == name]
    if not versions:
        raise unknown_span(name, {version.span for version in all_versions})
    ledger, console = Ledger(project.ledger_url), plain_console()
    verdicts = ledger.judged_spans().get(name, [])
    for number, version in enumerate(versions):
        if number:
            console.print()
        console.print(f"span {name} version {version.version}", style="bold", highlight=False)
        for line in _describe(version, verdicts, ledger):
            console.print(f"  {line}", highlight=False, markup=False)


def _describe(
    version: SpanVersion,
    verdicts: Sequence[SpanVerdict],
    ledger: Ledger,
) -> Iterator[str]:
    yield f"state        {version.state}"
    yield f"fingerprint  {version.fingerprint}"
    place = f"yes: {version.uri}" if version.lies_there else f"no more (was {version.uri})"
    yield f"lies there   {place}"
    verdicts = _verdicts_on(version.fingerprint, verdicts)
    for verdict in verdicts:
        yield _verdict_line(verdict)
        yield from (f"             {reason}" for reason in verdict.judged.reasons)
    quarantined_by = {verdict.run for verdict in verdicts if verdict.verdict == "quarantined"}
    trained = list(_trainings(ledger, version, quarantined_by))
    yield from trained or ["trained by   no run"]


def _verdicts_on(fingerprint: str, verdicts: Sequence[SpanVerdict]) -> list[SpanVerdict]:
    return [verdict for verdict in verdicts if verdict.judged.span.fingerprint == fingerprint]


def _verdict_line(verdict: SpanVerdict) -> str:
    by = verdict.judged.by or f"run {verdict.run}"
    line = f"{format_minute(verdict.at)}  {verdict.verdict} by {by}"
    if verdict.judged.by is None:
        line += f": {verdict.judged.rows} rows, {verdict.judged.set_aside} set aside"
    return line


def _trainings(
    ledger: Ledger,
    version: SpanVersion,
    quarantined_by: set[str | None],
) -> Iterator[str]:
    """Describes the runs that trained on a version, and the models that they made of it."""
    decisions = ledger.events("decision")
    models = {event.run: body_of(event, DecisionMade).version for event in decisions}
    for event, start, end in ledger.runs():
        window = [(span.name, span.fingerprint) for span in start.selection.window]
        if (version.span, version.fingerprint) not in window or event.run in quarantined_by:
            continue
        ended = body_of(end, RunEnded) if end else None
        model = (ended.version if ended else None) or models.get(event.run)
        if model is not None:
            outcome = ended.outcome if ended else "not ended"
            yield f"trained by   run {event.run} ({outcome}): registry version {model}"


def _make_version(span: Span, judged: Judgements, lies_there: bool) -> SpanVersion:
    verdicts = _verdicts_on(span.fingerprint, judged.get(span.name, []))
    state = state_of(span, judged)
    newest = verdicts[-1] if verdicts else None
    deciding = next((each for each in reversed(verdicts) if each.verdict == state), None)
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
    if len(reasons) > _LONGEST_REASON:
        reasons = f"{reasons[:_LONGEST_REASON]}…"
    gone = "" if version.lies_there else "does not lie there any more"
    return [
        escape(version.span),
        str(version.version),
        f"[{COLOURS[version.state]}]{version.state}[/]",
        "" if version.rows is None else str(version.rows),
        "" if version.set_aside is None else str(version.set_aside),
        format_minute(version.at) if version.at else "",
        escape("; ".join(part for part in (reasons, gone) if part)),
    ]


def _landed_at(uri: str) -> str | None:
    """Gives the time when a local span landed: that of its newest file."""
    if is_url(uri):
        return None
    newest = max((Path(file).stat().st_mtime for file in list_files(uri)), default=None)
    if newest is None:
        return None
    return datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")
