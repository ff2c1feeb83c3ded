"""The ledger: the append-only record of spans, runs, decisions and deployments.

One table of events. State (the champion, the accepted spans, the unfinished run) is never stored: it is read off the
events, so it cannot disagree with them. An event may carry a key; the key is unique, which makes a
repeated step append nothing and lets only one of two concurrent writers win.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar

from sqlalchemy import Connection, insert, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError as DuplicateKey
from sqlalchemy.exc import SQLAlchemyError

from perennial.errors import LedgerError
from perennial.ledger_table import EVENTS, create_table, open_engine
from perennial.locking import hold_lock
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
Verdict = Literal["accepted", "quarantined", "released", "rejected"]
_VERDICTS: dict[EventKind, Verdict] = {
    "span_accepted": "accepted",
    "span_quarantined": "quarantined",
    "span_released": "released",
    "span_rejected": "rejected",
}


class BusyError(LedgerError):
    """Another process is changing the registry."""


@dataclass(frozen=True)
class NewEvent:
    """An event to append. With a key, it is appended once however often it is tried."""

    kind: EventKind
    body: Record
    run: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Event:
    """An appended event: its number in the ledger, when (UTC, ISO 8601) and what."""

    number: int
    at: str
    kind: EventKind
    run: str | None
    body: Record


@dataclass(frozen=True)
class SpanVerdict:
    """What was said of a span version: the event's number, when, by which run (None: by a person), and what."""

    number: int
    at: str
    run: str | None
    verdict: Verdict
    judged: SpanJudged


class Ledger:
    """Reads and appends events.

    Args:
        url: SQLAlchemy URL: SQLite for one machine, PostgreSQL for many.

    Raises:
        LedgerError: The database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self._where = "ledger"
        with self._reported("be readable"):
            parsed = make_url(url)
            self._where = f"ledger at {parsed.render_as_string(hide_password=True)}"
            self._engine = open_engine(parsed)
            create_table(self._engine)

    def close(self) -> None:
        """Gives the connections back."""
        self._engine.dispose()

    def append(self, *new: NewEvent) -> None:
        """Appends events in one transaction: all of them, or none.

        Raises:
            LedgerError: An event's key is taken already, or the database does not accept it.
        """
        rows = [
            {"at": _now(), "kind": e.kind, "run": e.run, "key": e.key, "body": e.body.model_dump_json()} for e in new
        ]
        try:
            with self._reported("accept new events"), self._engine.begin() as connection:
                connection.execute(insert(EVENTS), rows)
        except DuplicateKey as error:
            keys = ", ".join(e.key for e in new if e.key)
            raise LedgerError(
                "ledger", "must not hold the same event twice", keys, "It was recorded before."
            ) from error

    def append_once(self, new: NewEvent) -> bool:
        """Appends an event unless its key is in the ledger; tells whether it was appended."""
        try:
            self.append(new)
        except LedgerError as error:
            if not isinstance(error.__cause__, DuplicateKey):
                raise
            return False
        return True

    @contextmanager
    def exclusive(self, patience: float = PATIENCE) -> Iterator[None]:
        """Lets one process at a time, of all that share this ledger, run the block.

        Raises:
            BusyError: Another one held it for `patience` seconds.
        """
        with ExitStack() as stack:
            with self._reported("be readable"):
                held = stack.enter_context(hold_lock(self._engine, patience))
            if not held:
                remedy = "Try again when it is done."
                raise BusyError(self._where, "must be free to change the registry", "another process at work", remedy)
            yield

    def events(self, *kinds: EventKind) -> list[Event]:
        """All events of the given kinds (of every kind, when none is given), oldest first."""
        query = select(EVENTS).order_by(EVENTS.c.number)
        if kinds:
            query = query.where(EVENTS.c.kind.in_(kinds))
        with self._reported("be readable"), self._engine.connect() as connection:
            return list(_read(connection, query))

    def deployments(self) -> list[tuple[Event, Deployment]]:
        """Every deployment, oldest first."""
        return [(e, body_of(e, Deployment)) for e in self.events("deployment")]

    def champion(self) -> Champion | None:
        """The version that serves now: the newest deployment."""
        query = select(EVENTS).where(EVENTS.c.kind == "deployment").order_by(EVENTS.c.number.desc()).limit(1)
        with self._reported("be readable"), self._engine.connect() as connection:
            newest = next(_read(connection, query), None)
        if newest is None:
            return None
        deployment = body_of(newest, Deployment)
        return Champion(version=deployment.version, digest=deployment.digest, deployment=newest.number)

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
            if isinstance(error.__cause__, DuplicateKey):
                raise _stale_champion(deployment, self.champion()) from error
            raise

    def judged_spans(self) -> dict[str, list[SpanVerdict]]:
        """Span name -> every verdict on any of its versions, oldest first."""
        found: dict[str, list[SpanVerdict]] = {}
        for e in self.events(*_VERDICTS):
            judged = body_of(e, SpanJudged)
            found.setdefault(judged.span.name, []).append(SpanVerdict(e.number, e.at, e.run, _VERDICTS[e.kind], judged))
        return found

    def runs(self) -> list[tuple[Event, RunStarted, Event | None]]:
        """Every run, oldest first: its start, what it selected, and its end if it has one."""
        ends = {e.run: e for e in self.events("run_ended")}
        return [(e, body_of(e, RunStarted), ends.get(e.run)) for e in self.events("run_started")]

    def tuned(self) -> Tuned | None:
        """The outcome of the newest search for hyperparameters."""
        found = self.events("hyperparameters_tuned")
        return body_of(found[-1], Tuned) if found else None

    def run_end(self, run: str) -> RunEnded | None:
        """How a run ended, or None while it has not."""
        found = (body_of(e, RunEnded) for e in self.events("run_ended") if e.run == run)
        return next(found, None)

    @contextmanager
    def _reported(self, expected: str) -> Iterator[None]:
        """Turns database errors, other than a taken key, into a message."""
        try:
            yield
        except DuplicateKey:
            raise
        except (SQLAlchemyError, OSError, ImportError) as error:
            cause = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise LedgerError(
                self._where, f"must {expected}", cause, "Check ledger.url and free disk space."
            ) from error


def body_of(event: Event, kind: type[B]) -> B:
    """The body of an event as the record that its kind promises.

    Raises:
        LedgerError: The event is of another kind.
    """
    if not isinstance(event.body, kind):
        raise LedgerError(f"ledger event {event.number}", f"must be a {kind.__name__}", event.kind, "Report this.")
    return event.body


def started(runs: Sequence[tuple[Event, RunStarted, Event | None]]) -> list[RunStarted]:
    """The runs that were cut short or failed, oldest first: the next run goes on where they stopped."""
    return [start for _, start, end in runs if end is None or body_of(end, RunEnded).outcome == "failed"]


def _read(connection: Connection, query: object) -> Iterator[Event]:
    for row in connection.execute(query):  # type: ignore[call-overload]
        body = BODIES[row.kind].model_validate(json.loads(row.body))
        yield Event(row.number, row.at, row.kind, row.run, body)


def _stale_champion(deployment: Deployment, current: Champion | None) -> LedgerError:
    return LedgerError(
        f"deployment of version {deployment.version}",
        f"must replace deployment {deployment.replaces}, which it was compared with",
        f"deployment {current.deployment} (version {current.version}) serves now" if current else "nothing serves now",
        "Run again to compare with the version that serves.",
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
