"""The ledger's table: one table of events that cannot be changed or deleted, and the opening of its database."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from sqlalchemy import DDL, Column, Engine, Integer, MetaData, String, Table, Text, create_engine, event, inspect
from sqlalchemy.engine import URL

_metadata = MetaData()
EVENTS = Table(
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
        EVENTS,
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
    event.listen(EVENTS, "after_create", DDL(_statement).execute_if(dialect="postgresql"))

_BUSY_SECONDS = 30.0
_RETRY_SECONDS = 0.01
# Keeps two processes from creating the table at once. Source: PostgreSQL's advisory locks; any number does.
_LOCK_CREATION = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(20170)"}


def open_engine(url: URL) -> Engine:
    """Opens the database; a folder for a file that is not there yet is made."""
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        # Readers (the server) never wait for a writer; a commit is on disk before it returns.
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turns write-ahead logging on, waiting for those who open or close the same file.

    SQLite does not wait by itself here: where waiting while it holds a read lock could be a deadlock, it answers
    SQLITE_BUSY at once, whatever the timeout (https://www.sqlite.org/c3ref/busy_handler.html).
    """
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_RETRY_SECONDS)


def create_table(engine: Engine) -> None:
    """Creates the table with its triggers in one transaction: a table without them would not be append-only."""
    if inspect(engine).has_table(EVENTS.name):
        return
    with engine.begin() as connection:
        if lock := _LOCK_CREATION.get(engine.dialect.name):
            connection.exec_driver_sql(lock)
        _metadata.create_all(connection)
