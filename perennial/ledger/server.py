"""The ledger's table on a database server, by SQLAlchemy: PostgreSQL in production."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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
    inspect,
    text,
)
from sqlalchemy import insert as insert_into
from sqlalchemy import select as select_from
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from perennial.ledger.table import DuplicateKeyError, NewRow, Row, StorageError
from perennial.storage.locks import wait_for_lock

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
)
for _statement in (
    "CREATE OR REPLACE FUNCTION events_append_only() RETURNS trigger AS "
    "'BEGIN RAISE EXCEPTION ''the ledger is append-only''; END' LANGUAGE plpgsql",
    # For each statement, not each row: TRUNCATE fires no other trigger.
    "CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events "
    "FOR EACH STATEMENT EXECUTE FUNCTION events_append_only()",
):
    event.listen(EVENTS, "after_create", DDL(_statement).execute_if(dialect="postgresql"))

# Keeps two processes from creating the table at once. Source: PostgreSQL's advisory locks; any
# number does.
_LOCK_CREATION = "SELECT pg_advisory_xact_lock(20170)"
# The lock of those who change the registry; tells it from others of the same database.
_LOCK_NUMBER = 20171


def render_url(url: str) -> str:
    """Gives the URL without its password.

    Raises:
        StorageError: It is none.
    """
    with _reported():
        return make_url(url).render_as_string(hide_password=True)


class ServerTable:
    """Reads and appends rows of a server's database.

    Args:
        url: SQLAlchemy URL.

    Raises:
        StorageError: The database cannot be reached.
    """

    def __init__(self, url: str) -> None:
        with _reported():
            self._engine = create_engine(make_url(url), pool_pre_ping=True)
            _create(self._engine)

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def insert(self, rows: Sequence[NewRow]) -> None:
        """Inserts all rows in one transaction.

        Raises:
            DuplicateKeyError: A key is taken.
            StorageError: The database does not accept them.
        """
        with _reported(), self._engine.begin() as connection:
            connection.execute(insert_into(EVENTS), [row._asdict() for row in rows])

    def select(
        self,
        kinds: Sequence[str],
        run: str | None = None,
        after: int = 0,
        newest: int | None = None,
    ) -> list[Row]:
        """Reads rows of these kinds and this run, numbered above `after`, oldest first.

        Raises:
            StorageError: The database cannot be read.
        """
        columns = (EVENTS.c[name] for name in Row._fields)
        query = (
            select_from(*columns).where(EVENTS.c.number > after).order_by(EVENTS.c.number.desc())
        )
        if kinds:
            query = query.where(EVENTS.c.kind.in_(kinds))
        if run is not None:
            query = query.where(EVENTS.c.run == run)
        if newest is not None:
            query = query.limit(newest)
        with _reported(), self._engine.connect() as connection:
            return [Row(*values) for values in reversed(connection.execute(query).all())]

    @contextmanager
    def hold_lock(self, patience: float) -> Iterator[bool]:
        """Holds PostgreSQL's advisory lock; gives whether it was free within `patience` seconds."""
        if self._engine.dialect.name != "postgresql":
            yield True  # no lock is known there
            return
        with _reported():
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with connection:
            # From the pool: closed at the end, which gives the lock back even after an error.
            connection.detach()
            yield wait_for_lock(lambda: _try_lock(connection), patience)


def _create(engine: Engine) -> None:
    """Creates the table with the triggers that make it append-only, in one transaction."""
    if inspect(engine).has_table(EVENTS.name):
        return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(_LOCK_CREATION)
        _metadata.create_all(connection)


def _try_lock(connection: Connection) -> bool:
    with _reported():
        return bool(
            connection.execute(
                text("SELECT pg_try_advisory_lock(:number)"), {"number": _LOCK_NUMBER}
            ).scalar()
        )


@contextmanager
def _reported() -> Iterator[None]:
    """Turns the database's errors into errors of storage."""
    try:
        yield
    except IntegrityError as error:
        raise DuplicateKeyError(_first_line(error)) from error
    except (SQLAlchemyError, OSError, ImportError) as error:
        raise StorageError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]
