"""Finds in a ledger what people are to be told of. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from perennial.ledger.events import Event, body_of
from schemas.project import MessagesSettings
from schemas.records import ABEnded, Deployment, EventKind, Notice, RunEnded, RunStarted, SpanJudged

# The events that notices are made of.
NOTICED: tuple[EventKind, ...] = (
    *("run_started", "run_ended", "span_quarantined", "deployment", "ab_ended"),
)
_MOST_NAMED = 5


def find_notices(
    events: Sequence[Event], settings: MessagesSettings, now: datetime
) -> list[Notice]:
    """Gives all notices of a project's history, oldest first.

    Args:
        events: The ledger's events of the kinds in `NOTICED`, oldest first.
        settings: What messages are about.
        now: The time, with its zone.
    """
    notices = [
        *_of_runs(events, settings),
        *_of_rollbacks(events),
        *_of_tests(events),
        *_overdue(events, settings, now),
    ]
    return sorted(
        (notice for notice in notices if notice.kind in settings.about),
        key=lambda notice: notice.at,
    )


def _of_runs(events: Sequence[Event], settings: MessagesSettings) -> Iterator[Notice]:
    quarantined: dict[str, list[SpanJudged]] = {}
    repetitions: set[str | None] = set()
    kept = 0
    for event in events:
        if event.kind == "run_started" and body_of(event, RunStarted).selection.attempt:
            repetitions.add(event.run)
        if event.kind == "span_quarantined" and event.run is not None:
            quarantined.setdefault(event.run, []).append(body_of(event, SpanJudged))
        if event.kind != "run_ended":
            continue
        ended = body_of(event, RunEnded)
        spans = quarantined.pop(event.run or "", [])
        if ended.outcome == "failed":
            yield _notice(event, ended, "failed", f"run {event.run} failed")
        elif ended.outcome == "data_rejected":
            yield _notice(event, ended, "data_rejected", "the data was refused", _reasons(spans))
        elif spans:
            names = _list([judged.span.name for judged in spans])
            summary = f"quarantined, and waiting for a person: {names}"
            yield _notice(event, ended, "quarantined", summary, _reasons(spans))
        if ended.outcome == "promoted":
            kept = 0
        elif ended.outcome == "kept_champion" and event.run not in repetitions:
            kept += 1
            if kept % settings.kept_champion == 0:
                times = f"{kept} times in a row" if kept > 1 else "once again"
                yield _notice(event, ended, "kept_champion", f"the champion was kept {times}")


def _of_rollbacks(events: Sequence[Event]) -> Iterator[Notice]:
    for event in events:
        if event.kind != "deployment":
            continue
        deployed = body_of(event, Deployment)
        if deployed.action == "rollback":
            yield Notice(
                id=f"rolled_back-{event.number}",
                kind="rolled_back",
                at=event.at,
                run=event.run,
                summary=f"version {deployed.version} serves again: rolled back by {deployed.by}",
                reasons=[deployed.why],
            )


def _of_tests(events: Sequence[Event]) -> Iterator[Notice]:
    for event in events:
        if event.kind != "ab_ended":
            continue
        ended = body_of(event, ABEnded)
        if ended.outcome == "rolled_back":
            yield Notice(
                id=f"rolled_back-{event.number}",
                kind="rolled_back",
                at=event.at,
                summary=f"the challenger of A/B test {ended.test} was taken back",
                reasons=ended.reasons,
            )


def _overdue(
    events: Sequence[Event], settings: MessagesSettings, now: datetime
) -> Iterator[Notice]:
    """Tells once that no run has come to its end for too long."""
    if settings.overdue_hours is None or not events:
        return
    good = [
        event
        for event in events
        if event.kind == "run_ended" and body_of(event, RunEnded).outcome != "failed"
    ]
    last = good[-1] if good else events[0]
    at = datetime.fromisoformat(last.at) + timedelta(hours=settings.overdue_hours)
    if now >= at:
        since = f"{last.at[:16].replace('T', ' ')} UTC"
        yield Notice(
            id=f"overdue-{last.number}",
            kind="overdue",
            at=at.astimezone(UTC).isoformat(timespec="milliseconds"),
            summary=f"no run has come to its end since {since}",
        )


def _notice(
    event: Event, ended: RunEnded, kind: str, summary: str, reasons: Sequence[str] = ()
) -> Notice:
    return Notice.model_validate(
        {
            "id": f"{kind}-{event.number}",
            "kind": kind,
            "at": event.at,
            "run": event.run,
            "summary": summary,
            "reasons": list(reasons) or ended.reasons,
            "report": ended.report,
        }
    )


def _reasons(spans: Sequence[SpanJudged]) -> list[str]:
    return [f"{judged.span.name}: {reason}" for judged in spans for reason in judged.reasons]


def _list(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = ", ".join(names[:_MOST_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown
