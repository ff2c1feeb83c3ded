"""The ledger's table on a server of PostgreSQL, by SQLAlchemy.

Only `migrate` changes the tables (`perennial ledger migrate`); everything else needs no more than
the rights to select and insert, and to update the row of the lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    DDL,
    Boolean,
    Column,
    Connection,
    Double,
    Engine,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    bindparam,
    create_engine,
    event,
    func,
    text,
    update,
)
from sqlalchemy import insert as insert_into
from sqlalchemy import select as select_from
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from perennial.ledger.chain import chain_row, chain_rows
from perennial.ledger.table import (
    FORMAT,
    ChainedRow,
    DuplicateKeyError,
    FormatError,
    LeaseClaim,
    LeaseRow,
    NewRow,
    Row,
    StorageError,
    check_fences,
)
from perennial.storage.locks import wait_for_lock

_metadata = MetaData()
EVENTS = Table(
    "events",
    _metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("run", String(64), nullable=True),
    Column("key", String(256), nullable=True, unique=True),
    Column("body", Text, nullable=False),
    Column("fence", Integer, nullable=True),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
)
# At most one row. `beat_at` is the server's clock, in seconds.
LEASE = Table(
    "lease",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("fence", Integer, nullable=False),
    Column("run", String(64), nullable=False),
    Column("owner", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("beats", Integer, nullable=False),
    Column("released", Boolean, nullable=False),
    Column("beat_at", Double, nullable=False),
)
LEDGER_FORMAT = Table("ledger_format", _metadata, Column("format", Integer, nullable=False))
for _statement in (
    "CREATE OR REPLACE FUNCTION events_append_only() RETURNS trigger AS "
    "'BEGIN RAISE EXCEPTION ''the ledger is append-only''; END' LANGUAGE plpgsql",
    # For each statement, not each row: TRUNCATE fires no other trigger.
    "CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events "
    "FOR EACH STATEMENT EXECUTE FUNCTION events_append_only()",
):
    event.listen(EVENTS, "after_create", DDL(_statement).execute_if(dialect="postgresql"))

# Of format 1 to format 2; the rows are chained between the two.
_ADD_CHAIN = (
    "ALTER TABLE events ADD COLUMN fence INTEGER, ADD COLUMN previous VARCHAR(64), "
    "ADD COLUMN digest VARCHAR(64)",
    "ALTER TABLE events DISABLE TRIGGER events_append_only",
)
_SEAL_CHAIN = (
    "ALTER TABLE events ALTER COLUMN previous SET NOT NULL, ALTER COLUMN digest SET NOT NULL, "
    "ALTER COLUMN number DROP DEFAULT",
    "ALTER TABLE events ENABLE TRIGGER events_append_only",
)
# PostgreSQL's advisory locks; any numbers do. One writer at a time changes the tables, appends to
# the chain, or changes the registry.
_LOCK_CREATION = "SELECT pg_advisory_xact_lock(20170)"
_LOCK_NUMBER = 20171
_LOCK_CHAIN = "SELECT pg_advisory_xact_lock(20172)"
_TABLES = "SELECT to_regclass('ledger_format') IS NOT NULL, to_regclass('events') IS NOT NULL"
_CLOCK = func.extract("epoch", func.clock_timestamp()).cast(Double)


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
        FormatError: The tables are not there, or not in today's format.
        StorageError: The database cannot be reached, or is not PostgreSQL.
    """

    def __init__(self, url: str) -> None:
        with _reported():
            self._engine = _engine(url)
            with self._engine.connect() as connection:
                _check_format(connection)

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def insert(self, rows: Sequence[NewRow]) -> None:
        """Inserts all rows in one transaction.

        Raises:
            DuplicateKeyError: A key is taken.
            StaleFenceError: A row carries the number of a lease that is not held any more.
            StorageError: The database does not accept them.
        """
        with self._writing() as connection:
            check_fences(rows, _lease(connection))
            _append(connection, rows)

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

    def read_chain(self, after: int, count: int) -> list[ChainedRow]:
        """Reads at most `count` whole rows, numbered above `after`, oldest first.

        Raises:
            StorageError: The database cannot be read.
        """
        query = _whole_rows().where(EVENTS.c.number > after).order_by(EVENTS.c.number).limit(count)
        with _reported(), self._engine.connect() as connection:
            return [ChainedRow(*values) for values in connection.execute(query)]

    def newest_link(self) -> ChainedRow | None:
        """Reads the newest whole row; None: there is none.

        Raises:
            StorageError: The database cannot be read.
        """
        with _reported(), self._engine.connect() as connection:
            return _newest(connection)

    def read_lease(self) -> LeaseRow | None:
        """Reads the lease; None: nobody ever took it.

        Raises:
            StorageError: The database cannot be read.
        """
        with _reported(), self._engine.connect() as connection:
            return _lease(connection)

    def take_lease(self, claim: Callable[[LeaseRow | None], LeaseClaim | None]) -> int | None:
        """Takes the lease, in one transaction with the event that records it; gives its number.

        Raises:
            StorageError: The database does not accept it.
        """
        with self._writing() as connection:
            lease = _lease(connection, lock=True)
            claimed = claim(lease)
            if claimed is None:
                return None
            (taken,) = _append(connection, [claimed.event])
            values = {
                "fence": taken.number,
                "run": taken.run,
                "owner": claimed.owner,
                "seconds": claimed.seconds,
                "beats": 0,
                "released": False,
                "beat_at": _CLOCK,
            }
            first = insert_into(LEASE).values(id=1, **values)
            connection.execute(first if lease is None else update(LEASE).values(**values))
            return taken.number

    def renew_lease(self, fence: int) -> bool:
        """Records a sign of life; False: the lease has been given back or taken over.

        Raises:
            StorageError: The database does not accept it.
        """
        held = LEASE.c.fence == fence, LEASE.c.released.is_(False)
        beat = update(LEASE).where(*held).values(beats=LEASE.c.beats + 1, beat_at=_CLOCK)
        with _reported(), self._engine.begin() as connection:
            return connection.execute(beat).rowcount == 1

    def release_lease(self, fence: int) -> None:
        """Gives the lease back, unless it has been taken over.

        Raises:
            StorageError: The database does not accept it.
        """
        with _reported(), self._engine.begin() as connection:
            connection.execute(update(LEASE).where(LEASE.c.fence == fence).values(released=True))

    @contextmanager
    def hold_lock(self, patience: float) -> Iterator[bool]:
        """Holds PostgreSQL's advisory lock; gives whether it was free within `patience` seconds."""
        with _reported():
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with connection:
            # From the pool: closed at the end, which gives the lock back even after an error.
            connection.detach()
            yield wait_for_lock(lambda: _try_lock(connection), patience)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Opens a transaction that alone appends to the chain, in tables of today's format."""
        with _reported(), self._engine.begin() as connection:
            connection.exec_driver_sql(_LOCK_CHAIN)
            _check_format(connection)
            yield connection


def migrate_server(url: str) -> int:
    """Makes the tables, or brings them to today's format, in one transaction.

    Returns:
        The format that they had; 0: there were none.

    Raises:
        FormatError: A newer version of the product made them.
        StorageError: The database cannot be reached, is not PostgreSQL, or does not allow it.
    """
    with _reported():
        engine = _engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql(_LOCK_CREATION)
            existing = _format(connection)
            if existing > FORMAT:
                raise FormatError(existing)
            if existing == 1:
                _chain_events(connection)
            if existing < FORMAT:
                _metadata.create_all(connection)
                connection.execute(insert_into(LEDGER_FORMAT), [{"format": FORMAT}])
        engine.dispose()
    return existing


def _engine(url: str) -> Engine:
    """Makes the connections to a server.

    Raises:
        StorageError: It is not PostgreSQL, whose locks and triggers keep the ledger.
    """
    engine = create_engine(make_url(url), pool_pre_ping=True)
    if engine.dialect.name != "postgresql":
        raise StorageError(f"{engine.dialect.name}: a ledger lies in PostgreSQL or SQLite")
    return engine


def _check_format(connection: Connection) -> None:
    if (existing := _format(connection)) != FORMAT:
        raise FormatError(existing)


def _format(connection: Connection) -> int:
    """Reads the format of the tables, 0 where there are none."""
    numbered, events = connection.exec_driver_sql(_TABLES).one()
    if numbered:
        return int(connection.execute(select_from(func.max(LEDGER_FORMAT.c.format))).scalar_one())
    return 1 if events else 0


def _chain_events(connection: Connection) -> None:
    """Brings the events of format 1 to format 2: the same, each with its digest.

    Other writers wait for the first statement's lock, and are refused after it: they write no
    digests.
    """
    for statement in _ADD_CHAIN:
        connection.exec_driver_sql(statement)
    columns = (EVENTS.c[name] for name in ("number", *NewRow._fields))
    chained: list[ChainedRow] = []
    for number, *values in connection.execute(
        select_from(*columns).order_by(EVENTS.c.number)
    ).all():
        chained.append(chain_row(number, NewRow(*values), chained[-1] if chained else None))
    digests = (
        update(EVENTS)
        .where(EVENTS.c.number == bindparam("event"))
        .values(previous=bindparam("before"), digest=bindparam("own"))
    )
    if chained:
        parameters = [
            {"event": row.number, "before": row.previous, "own": row.digest} for row in chained
        ]
        connection.execute(digests, parameters)
    for statement in _SEAL_CHAIN:
        connection.exec_driver_sql(statement)


def _append(connection: Connection, rows: Sequence[NewRow]) -> list[ChainedRow]:
    """Appends rows to the chain, inside a transaction that keeps other writers out."""
    chained = chain_rows(rows, _newest(connection))
    connection.execute(insert_into(EVENTS), [row._asdict() for row in chained])
    return chained


def _whole_rows() -> Select[Any]:
    return select_from(*(EVENTS.c[name] for name in ChainedRow._fields))


def _newest(connection: Connection) -> ChainedRow | None:
    row = connection.execute(_whole_rows().order_by(EVENTS.c.number.desc()).limit(1)).first()
    return ChainedRow(*row) if row else None


def _lease(connection: Connection, lock: bool = False) -> LeaseRow | None:
    """Reads the lease, and keeps its owner's beats waiting where it is about to be taken over.

    Its age is not known where the server's clock was set back since its newest beat.
    """
    columns = (LEASE.c[name] for name in LeaseRow._fields if name != "age")
    query = select_from(*columns, (_CLOCK - LEASE.c.beat_at).label("age"))
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        return None
    lease = LeaseRow(**row._asdict())
    return lease if lease.age is None or lease.age >= 0 else lease._replace(age=None)


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
