"""A person's decision about a span: to release it from quarantine, judge it again, or reject it."""

from __future__ import annotations

import difflib
from typing import Literal, NamedTuple

from perennial.errors import DataError, LedgerError
from perennial.ledger.events import Ledger, NewEvent, SpanVerdict, body_of
from perennial.ledger.people import person
from perennial.project import Project
from perennial.spans.landed import find_landed
from perennial.spans.names import LandedSpan
from perennial.spans.window import Judgements, State, choose_window, number_versions, state_of
from schemas.records import EventKind, RunStarted, Span, SpanJudged

Act = Literal["release", "judge", "reject"]
# What a person may decide about, first what a decision without a version means.
_DECIDABLE: dict[Act, tuple[State, ...]] = {
    "release": ("quarantined",),
    "judge": ("quarantined",),
    "reject": ("quarantined", "reopened", "released", "accepted"),
}
_EVENTS: dict[Act, EventKind] = {
    "release": "span_released",
    "judge": "span_reopened",
    "reject": "span_rejected",
}


class SpanDecision(NamedTuple):
    """A person's decision, what held before, and the consequence for the next window."""

    judged: SpanJudged
    before: State
    consequence: str


def decide_span(
    project: Project, act: Act, name: str, version: int | None, why: str
) -> SpanDecision:
    """Records that a person releases a span version, has it judged again, or rejects it.

    Without a version it is that of `_default`.

    What could not be read can be released once the schema, or another setting by which it is read,
    is not the one that it was read by: the next run reads it anew.

    Raises:
        DataError: There is no such version, or it is in no state in which this can be decided.
        LedgerError: Somebody else decided about it at the same time.
    """
    ledger = Ledger(project.ledger_url)
    landed = find_landed(project)
    judged = ledger.judged_spans()
    newest = _newest_verdicts(judged, name, landed)
    states = {
        of_version: state_of(event.judged.span, judged) for of_version, event in newest.items()
    }
    chosen = version if version is not None else _default(act, states)
    _check_decidable(act, name, chosen, states, newest)
    if act == "release":
        _check_readable(project, ledger, newest[chosen])
    body = newest[chosen].judged.model_copy(update={"by": person(), "reasons": [why]})
    # Of two people at once, only one decides after the verdict that both have seen.
    event = NewEvent(_EVENTS[act], body, key=f"span-decision-after:{newest[chosen].number}")
    if not ledger.append_once(event):
        raise _decided_already(ledger, body.span)
    return SpanDecision(body, states[chosen], _consequence(project, ledger, landed, body.span))


def unknown_span(name: str, known: set[str]) -> DataError:
    """Makes the message for a name that no landed or judged span has."""
    near = difflib.get_close_matches(name, known, 3, cutoff=0.5)
    remedy = f"Did you mean {' or '.join(near)}?" if near else "`perennial spans list` shows them."
    return DataError(
        f"span {name}", "must have landed or been judged before", "no such span", remedy
    )


def _newest_verdicts(
    judged: Judgements, name: str, landed: list[LandedSpan]
) -> dict[int, SpanVerdict]:
    """Gives the newest verdict on each version of a span."""
    if name in judged:
        return {event.judged.span.version: event for event in judged[name]}
    known = {span.name for span in landed}
    if name in known:
        remedy = "The next run that reads it judges it."
        raise DataError(f"span {name}", "must have been judged by a run", "it is new", remedy)
    raise unknown_span(name, known | set(judged))


def _default(act: Act, states: dict[int, State]) -> int:
    """Chooses the newest quarantined version, else (to reject) that in use, else the newest."""
    for state in _DECIDABLE[act]:
        if versions := [version for version, held in states.items() if held == state]:
            return max(versions)
    return max(states)


def _check_decidable(
    act: Act,
    name: str,
    version: int,
    states: dict[int, State],
    newest: dict[int, SpanVerdict],
) -> None:
    where = f"span {name} version {version}"
    if version not in states:
        known = ", ".join(map(str, sorted(states)))
        raise DataError(
            f"span {name}",
            f"must have been judged in version {version}",
            f"versions {known}",
            "Name one.",
        )
    if states[version] not in _DECIDABLE[act]:
        expected = f"must be {' or '.join(_DECIDABLE[act])} for this"
        raise DataError(
            where, expected, f"it is {states[version]}", "`perennial spans show` tells its history."
        )


def _check_readable(project: Project, ledger: Ledger, verdict: SpanVerdict) -> None:
    """Checks that a span could be read, or is read by other types or settings now.

    Raises:
        DataError: It could not be read, and would be read in the same way again.
    """
    if verdict.judged.readable:
        return
    starts = ledger.events("run_started", run=verdict.run) if verdict.run else []
    read_by = {body_of(event, RunStarted).selection.data_digest for event in starts}
    if read_by and project.digest_of("ingest_examples") not in read_by:
        return
    span = verdict.judged.span
    raise DataError(
        f"span {span.name} version {span.version}",
        "must be readable to be released",
        "; ".join(verdict.judged.reasons) or "unreadable",
        "Land it again, whole; or change the schema (`perennial schema diff`), then have it judged "
        "again (`perennial spans judge`).",
    )


def _decided_already(ledger: Ledger, span: Span) -> LedgerError:
    latest = ledger.judged_spans()[span.name][-1]
    by = latest.judged.by or f"run {latest.run}"
    received = f"{latest.verdict} by {by} ({'; '.join(latest.judged.reasons)})"
    where = f"span {span.name} version {span.version}"
    return LedgerError(
        where, "must be as it was when you decided", received, "Look again, then decide anew."
    )


def _consequence(project: Project, ledger: Ledger, landed: list[LandedSpan], span: Span) -> str:
    """Says what the next run does with a span after the decision."""
    judged = ledger.judged_spans()
    does = "judges it again" if state_of(span, judged) == "reopened" else "trains on it"
    spans = number_versions(landed, judged)
    window = choose_window(spans, judged, project.settings.data.window)
    taken = next((other for other in window.spans if other.name == span.name), None)
    if state_of(span, judged) == "rejected":
        instead = f"; version {taken.version} takes its place" if taken else ""
        return f"later windows go without it{instead}"
    if span.fingerprint not in [other.fingerprint for other in spans if other.name == span.name]:
        return f"it does not lie there any more: land it again, then the next run {does}"
    if taken is None:
        return f"no run {does}: newer spans fill the window of {project.settings.data.window}"
    if taken.fingerprint != span.fingerprint:
        return f"no run {does}: its version {taken.version} takes its place"
    return f"the next run {does}"
