"""The ledger: the append-only record of spans, runs, decisions and deployments.

One table of events. State (the champion, the accepted spans, the unfinished run) is never stored:
it is read off the events, so it cannot disagree with them. An event may carry a key; the key is
unique, which makes a repeated step append nothing and lets only one of two concurrent writers win.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar, cast

from perennial.errors import BusyError, LedgerError
from perennial.ledger.database import open_table, public_url
from perennial.ledger.table import DuplicateKeyError, NewRow, Row, StorageError
from schemas.records import (
    Champion,
    DecisionMade,
    Deployment,
    EventKind,
    Record,
    RegistrationBegun,
    RunEnded,
    RunStarted,
    SchemaAccepted,
    SpanJudged,
    Tuned,
)

BODIES: dict[EventKind, type[Record]] = {
    "run_started": RunStarted,
    "span_accepted": SpanJudged,
    "span_quarantined": SpanJudged,
    "span_released": SpanJudged,
    "span_reopened": SpanJudged,
    "span_rejected": SpanJudged,
    "schema_accepted": SchemaAccepted,
    "hyperparameters_tuned": Tuned,
    "registration_begun": RegistrationBegun,
    "decision": DecisionMade,
    "deployment": Deployment,
    "run_ended": RunEnded,
}
PATIENCE = 900.0  # seconds: another process may be storing a large model
B = TypeVar("B", bound=Record)
Verdict = Literal["accepted", "quarantined", "released", "reopened", "rejected"]
_VERDICTS: dict[EventKind, Verdict] = {
    "span_accepted": "accepted",
    "span_quarantined": "quarantined",
    "span_released": "released",
    "span_reopened": "reopened",
    "span_rejected": "rejected",
}


@dataclass(frozen=True)
class NewEvent:
    """An event to append. One with a key is appended once, however often it is tried."""

    kind: EventKind
    body: Record
    run: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Event:
    """An appended event: number in the ledger, time (UTC, ISO 8601) and content."""

    number: int
    at: str
    kind: EventKind
    run: str | None
    body: Record


@dataclass(frozen=True)
class SpanVerdict:
    """A verdict on a span version: the event's number, time, run (None: a person), and content."""

    number: int
    at: str
    run: str | None
    verdict: Verdict
    judged: SpanJudged


class Ledger:
    """Reads and appends events.

    Args:
        url: SQLAlchemy URL: `sqlite:///PATH` for one machine, PostgreSQL for many.

    Raises:
        LedgerError: The database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self._where = "ledger"
        with self._reported("be readable"):
            self._where = f"ledger at {public_url(url)}"
            self._table = open_table(url)

    def close(self) -> None:
        """Closes the connections."""
        self._table.close()

    def append(self, *new: NewEvent) -> None:
        """Appends events in one transaction: all of them, or none.

        Raises:
            LedgerError: An event's key is taken already, or the database does not accept it.
        """
        rows = [NewRow(_now(), e.kind, e.run, e.key, e.body.model_dump_json()) for e in new]
        try:
            with self._reported("accept new events"):
                self._table.insert(rows)
        except DuplicateKeyError as error:
            keys = ", ".join(e.key for e in new if e.key)
            raise LedgerError(
                "ledger", "must not hold the same event twice", keys, "It was recorded before."
            ) from error

    def append_once(self, new: NewEvent) -> bool:
        """Appends an event unless its key is in the ledger; tells whether it was appended."""
        try:
            self.append(new)
        except LedgerError as error:
            if not isinstance(error.__cause__, DuplicateKeyError):
                raise
            return False
        return True

    @contextmanager
    def exclusive(self, patience: float = PATIENCE) -> Iterator[None]:
        """Lets only one of all processes that share this ledger run the block at a time.

        Raises:
            BusyError: Another one held it for `patience` seconds.
        """
        with ExitStack() as stack:
            with self._reported("be readable"):
                held = stack.enter_context(self._table.hold_lock(patience))
            if not held:
                remedy = "Try again when it is done."
                raise BusyError(
                    self._where,
                    "must be free to change the registry",
                    "another process at work",
                    remedy,
                )
            yield

    def events(self, *kinds: EventKind, run: str | None = None, after: int = 0) -> list[Event]:
        """Reads all events of the given kinds (of every kind when none is given), oldest first.

        Args:
            kinds: Of what.
            run: Only of this run.
            after: Only those with a higher number.
        """
        with self._reported("be readable"):
            rows = self._table.select(kinds, run=run, after=after)
        return [_parse(row) for row in rows]

    def newest(self, kind: EventKind) -> Event | None:
        """Reads only the newest event of a kind, if there is one."""
        with self._reported("be readable"):
            rows = self._table.select([kind], newest=1)
        return _parse(rows[0]) if rows else None

    def deployments(self) -> list[tuple[Event, Deployment]]:
        """Reads every deployment, oldest first."""
        return [(e, body_of(e, Deployment)) for e in self.events("deployment")]

    def champion(self) -> Champion | None:
        """Gives the version that serves now: the newest deployment."""
        newest = self.newest("deployment")
        if newest is None:
            return None
        deployment = body_of(newest, Deployment)
        return Champion(
            version=deployment.version, digest=deployment.digest, deployment=newest.number
        )

    def highest_version(self) -> int:
        """Gives the highest number of a registry version that is recorded, 0 without one."""
        made = [body_of(event, DecisionMade).version for event in self.events("decision")]
        deployed = [deployment.version for _, deployment in self.deployments()]
        return max((int(number) for number in made + deployed), default=0)

    def deploy(self, deployment: Deployment, run: str | None) -> None:
        """Makes a version the champion, if the champion is still the one that it `replaces`.

        Raises:
            LedgerError: Another deployment came in between.
        """
        current = self.champion()
        number = current.deployment if current else None
        if number != deployment.replaces:
            raise _stale_champion(deployment, current)
        try:
            # The key lets only one of two concurrent deployments replace the same champion.
            self.append(NewEvent("deployment", deployment, run, key=f"deployment-after:{number}"))
        except LedgerError as error:
            if isinstance(error.__cause__, DuplicateKeyError):
                raise _stale_champion(deployment, self.champion()) from error
            raise

    def judged_spans(self) -> dict[str, list[SpanVerdict]]:
        """Gives for each span's name every verdict on any of its versions, oldest first."""
        verdicts: dict[str, list[SpanVerdict]] = {}
        for e in self.events(*_VERDICTS):
            judged = body_of(e, SpanJudged)
            verdicts.setdefault(judged.span.name, []).append(
                SpanVerdict(e.number, e.at, e.run, _VERDICTS[e.kind], judged)
            )
        return verdicts

    def runs(self) -> list[tuple[Event, RunStarted, Event | None]]:
        """Reads every run, oldest first: its start, what it selected, and its end if it has one."""
        ends = {e.run: e for e in self.events("run_ended")}
        return [(e, body_of(e, RunStarted), ends.get(e.run)) for e in self.events("run_started")]

    def newest_run(self) -> tuple[Event, RunStarted, Event | None] | None:
        """Reads the newest run in the same form; None: there was none."""
        start = self.newest("run_started")
        if start is None:
            return None
        ends = self.events("run_ended", run=start.run)
        return start, body_of(start, RunStarted), ends[-1] if ends else None

    def tuned(self) -> Tuned | None:
        """Gives the outcome of the newest search for hyperparameters."""
        event = self.newest("hyperparameters_tuned")
        return body_of(event, Tuned) if event else None

    def run_end(self, run: str) -> RunEnded | None:
        """Tells how a run ended; None while it has not."""
        ends = self.events("run_ended", run=run)
        return body_of(ends[0], RunEnded) if ends else None

    @contextmanager
    def _reported(self, expected: str) -> Iterator[None]:
        """Turns database errors, other than a key that is taken, into a message."""
        try:
            yield
        except DuplicateKeyError:
            raise
        except (StorageError, OSError) as error:
            remedy = "Check ledger.url and free disk space."
            raise LedgerError(self._where, f"must {expected}", error, remedy) from error


def body_of(event: Event, kind: type[B]) -> B:
    """Reads the body of an event as the record that belongs to its kind.

    Raises:
        LedgerError: The event is of another kind.
    """
    if not isinstance(event.body, kind):
        raise LedgerError(
            f"ledger event {event.number}", f"must be a {kind.__name__}", event.kind, "Report this."
        )
    return event.body


def started(runs: Sequence[tuple[Event, RunStarted, Event | None]]) -> list[RunStarted]:
    """Lists interrupted or failed runs, oldest first: the next run continues where they stopped."""
    return [
        start for _, start, end in runs if end is None or body_of(end, RunEnded).outcome == "failed"
    ]


def _parse(row: Row) -> Event:
    kind = cast("EventKind", row.kind)
    return Event(
        row.number, row.at, kind, row.run, BODIES[kind].model_validate(json.loads(row.body))
    )


def _stale_champion(deployment: Deployment, current: Champion | None) -> LedgerError:
    return LedgerError(
        f"deployment of version {deployment.version}",
        f"must replace deployment {deployment.replaces}, which it was compared with",
        f"deployment {current.deployment} (version {current.version}) serves now"
        if current
        else "nothing serves now",
        "Run again to compare with the version that serves.",
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
