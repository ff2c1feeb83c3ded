"""The ledger: the append-only record of spans, runs, decisions and deployments.

One table of events. State (the champion, the accepted spans, the unfinished run) is never stored: it is read off the
events, so it cannot disagree with them. An event may carry a key; the key is unique, which makes a
repeated step append nothing and lets only one of two concurrent writers win.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import (
    DDL,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    inspect,
    select,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError as DuplicateKey
from sqlalchemy.exc import SQLAlchemyError

from perennial.errors import LedgerError
from schemas.records import (
    Champion,
    DecisionMade,
    Deployment,
    EventKind,
    Record,
    RunEnded,
    RunStarted,
    SpanJudged,
)

_metadata = MetaData()
_events = Table(
    "events",
    _metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", String(32), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("run", String(64), nullable=True),
    Column("key", String(256), nullable=True, unique=True),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)
for _change in ("UPDATE", "DELETE"):
    event.listen(
        _events,
        "after_create",
        DDL(
            f"CREATE TRIGGER events_no_{_change.lower()} BEFORE {_change} ON events "
            "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        ).execute_if(dialect="sqlite"),
    )
for _statement in (
    "CREATE OR REPLACE FUNCTION events_append_only() RETURNS trigger AS "
    "'BEGIN RAISE EXCEPTION ''the ledger is append-only''; END' LANGUAGE plpgsql",
    # For each statement, not each row: TRUNCATE fires no other trigger.
    "CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events "
    "FOR EACH STATEMENT EXECUTE FUNCTION events_append_only()",
):
    event.listen(_events, "after_create", DDL(_statement).execute_if(dialect="postgresql"))

_BUSY_SECONDS = 30.0
# Keeps two processes from creating the table at once. Source: PostgreSQL's advisory locks; any number does.
_LOCK_CREATION = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(20170)"}

BODIES: dict[EventKind, type[Record]] = {
    "run_started": RunStarted,
    "span_accepted": SpanJudged,
    "span_rejected": SpanJudged,
    "decision": DecisionMade,
    "deployment": Deployment,
    "run_ended": RunEnded,
}
B = TypeVar("B", bound=Record)


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
            self._engine = _open(parsed)
            _create(self._engine)

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
                connection.execute(insert(_events), rows)
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

    def events(self, *kinds: EventKind) -> list[Event]:
        """All events of the given kinds (of every kind, when none is given), oldest first."""
        query = select(_events).order_by(_events.c.number)
        if kinds:
            query = query.where(_events.c.kind.in_(kinds))
        with self._reported("be readable"), self._engine.connect() as connection:
            return list(_read(connection, query))

    def deployments(self) -> list[tuple[Event, Deployment]]:
        """Every deployment, oldest first."""
        return [(e, body_of(e, Deployment)) for e in self.events("deployment")]

    def champion(self) -> Champion | None:
        """The version that serves now: the newest deployment."""
        query = select(_events).where(_events.c.kind == "deployment").order_by(_events.c.number.desc()).limit(1)
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

    def judged_spans(self) -> dict[str, list[tuple[bool, SpanJudged]]]:
        """Span name -> every verdict on it (accepted?, what), oldest first."""
        found: dict[str, list[tuple[bool, SpanJudged]]] = {}
        for e in self.events("span_accepted", "span_rejected"):
            judged = body_of(e, SpanJudged)
            found.setdefault(judged.span.name, []).append((e.kind == "span_accepted", judged))
        return found

    def runs(self) -> list[tuple[Event, RunStarted, Event | None]]:
        """Every run, oldest first: its start, what it selected, and its end if it has one."""
        ends = {e.run: e for e in self.events("run_ended")}
        return [(e, body_of(e, RunStarted), ends.get(e.run)) for e in self.events("run_started")]

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


def _open(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _configure(connection: object, _record: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        # Readers (the server) never wait for a writer; a commit is on disk before it returns.
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    return engine


def _create(engine: Engine) -> None:
    """Creates the table with its triggers in one transaction: a table without them would not be append-only."""
    if inspect(engine).has_table(_events.name):
        return
    with engine.begin() as connection:
        if lock := _LOCK_CREATION.get(engine.dialect.name):
            connection.exec_driver_sql(lock)
        _metadata.create_all(connection)


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
