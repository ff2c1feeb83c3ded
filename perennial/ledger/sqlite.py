"""The ledger's table in a file of SQLite, by Python's own `sqlite3`.

To read a file with write-ahead logging, SQLite writes a file beside it. Where nothing can be
written (a full disk, a read-only folder), the file is read as it lies there, or from a copy.

A file of an earlier format is brought to today's when it is opened, in one transaction.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from perennial.errors import describe_system_error
from perennial.ledger.chain import chain_row, chain_rows
from perennial.ledger.owner import boot_id
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
from perennial.storage.locks import hold_file_lock

_CREATE = (
    "CREATE TABLE events ("
    "number INTEGER PRIMARY KEY NOT NULL, at VARCHAR(32) NOT NULL, kind VARCHAR(32) NOT NULL, "
    "run VARCHAR(64), key VARCHAR(256) UNIQUE, body TEXT NOT NULL, fence INTEGER, "
    "previous VARCHAR(64) NOT NULL, digest VARCHAR(64) NOT NULL)",
    *(
        f"CREATE TRIGGER events_no_{change.lower()} BEFORE {change} ON events "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        for change in ("UPDATE", "DELETE")
    ),
    # At most one row. `beat_at` is CLOCK_BOOTTIME, which is never set, of the boot `boot`.
    "CREATE TABLE lease ("
    "id INTEGER PRIMARY KEY CHECK (id = 1), fence INTEGER NOT NULL, run VARCHAR(64) NOT NULL, "
    "owner TEXT NOT NULL, seconds REAL NOT NULL, beats INTEGER NOT NULL, "
    "released INTEGER NOT NULL, beat_at REAL NOT NULL, boot VARCHAR(64) NOT NULL)",
    "CREATE TABLE ledger_format (format INTEGER NOT NULL)",
    f"INSERT INTO ledger_format (format) VALUES ({FORMAT})",
)
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
_COLUMNS = ", ".join(ChainedRow._fields)
_INSERT = f"INSERT INTO events ({_COLUMNS}) VALUES ({', '.join('?' * len(ChainedRow._fields))})"
_NEWEST = f"SELECT {_COLUMNS} FROM events ORDER BY number DESC LIMIT 1"
_LEASE = "SELECT fence, run, owner, seconds, beats, released, beat_at, boot FROM lease"
_TAKE = (
    "INSERT OR REPLACE INTO lease (id, fence, run, owner, seconds, beats, released, beat_at, boot) "
    "VALUES (1, ?, ?, ?, ?, 0, 0, ?, ?)"
)
# What SQLite answers, and the system's own errors, where a file can be read but not written.
_NOT_WRITABLE = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
_NOT_WRITABLE_ERRNO = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM)
# Where a copy may lie: the usual place, and memory, which a full disk leaves.
_COPY_FOLDERS = (None, "/dev/shm")
_BUSY_SECONDS = 30.0
_RETRY_SECONDS = 0.01


class SqliteTable:
    """Reads and appends rows of one file; creates it and its folder where there is none.

    Where nothing can be written, it is read all the same; without a file there are no rows.

    Args:
        path: The file.
        reads_only: Whether it is enough that it can be read.

    Attributes:
        opened_format: The format that it had before it was opened; 0: there was no file.

    Raises:
        FormatError: A newer version of the product made it.
        StorageError: It cannot be opened, or is no database.
    """

    def __init__(self, path: str, reads_only: bool = True) -> None:
        self._path = Path(path)
        # Connections that no thread uses now: a reader does not wait for a writer of the same
        # process either.
        self._free: list[sqlite3.Connection] = []
        self.opened_format = FORMAT
        try:
            self._prepare()
        except StorageError as error:
            if not reads_only or not _only_reads(error):
                raise

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that are not in use."""
        while self._free:
            self._free.pop().close()

    def insert(self, rows: Sequence[NewRow]) -> None:
        """Inserts all rows in one transaction.

        Raises:
            DuplicateKeyError: A key is taken.
            StaleFenceError: A row carries the number of a lease that is not held any more.
            StorageError: The file does not accept them.
        """
        with self._writing() as connection:
            check_fences(rows, _lease(connection.execute(_LEASE).fetchall()))
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
            StorageError: The file cannot be read.
        """
        query, values = (
            "SELECT number, at, kind, run, body FROM events WHERE number > ?",
            [after, *kinds],
        )
        if kinds:
            query += f" AND kind IN ({', '.join('?' * len(kinds))})"
        if run is not None:
            query += " AND run = ?"
            values.append(run)
        query += " ORDER BY number DESC"
        if newest is not None:
            query += " LIMIT ?"
            values.append(newest)
        return [Row(*each) for each in reversed(self._read(query, values))]

    def read_chain(self, after: int, count: int) -> list[ChainedRow]:
        """Reads at most `count` whole rows, numbered above `after`, oldest first.

        Raises:
            StorageError: The file cannot be read.
        """
        query = f"SELECT {_COLUMNS} FROM events WHERE number > ? ORDER BY number LIMIT ?"
        return [ChainedRow(*each) for each in self._read(query, [after, count])]

    def newest_link(self) -> ChainedRow | None:
        """Reads the newest whole row; None: there is none.

        Raises:
            StorageError: The file cannot be read.
        """
        return next((ChainedRow(*each) for each in self._read(_NEWEST, [])), None)

    def read_lease(self) -> LeaseRow | None:
        """Reads the lease; None: nobody ever took it.

        Raises:
            StorageError: The file cannot be read.
        """
        if not self._read(f"{_TABLES} AND name = 'lease'", []):
            return None  # an earlier format, where nothing can be written
        return _lease(self._read(_LEASE, []))

    def take_lease(self, claim: Callable[[LeaseRow | None], LeaseClaim | None]) -> int | None:
        """Takes the lease, in one transaction with the event that records it; gives its number.

        Raises:
            StorageError: The file does not accept it.
        """
        with self._writing() as connection:
            claimed = claim(_lease(connection.execute(_LEASE).fetchall()))
            if claimed is None:
                return None
            (taken,) = _append(connection, [claimed.event])
            values = taken.number, taken.run, claimed.owner, claimed.seconds
            connection.execute(_TAKE, (*values, _clock(), boot_id()))
            return taken.number

    def renew_lease(self, fence: int) -> bool:
        """Records a sign of life; False: the lease has been given back or taken over.

        Raises:
            StorageError: The file does not accept it.
        """
        query = (
            "UPDATE lease SET beats = beats + 1, beat_at = ?, boot = ? "
            "WHERE fence = ? AND NOT released"
        )
        with self._connected() as connection:
            return connection.execute(query, (_clock(), boot_id(), fence)).rowcount == 1

    def release_lease(self, fence: int) -> None:
        """Gives the lease back, unless it has been taken over.

        Raises:
            StorageError: The file does not accept it.
        """
        with self._connected() as connection:
            connection.execute("UPDATE lease SET released = 1 WHERE fence = ?", (fence,))

    def hold_lock(self, patience: float) -> AbstractContextManager[bool]:
        """Holds the lock of a file beside the database; gives whether it was free in time."""
        return hold_file_lock(Path(f"{self._path}.lock"), patience)

    def _prepare(self) -> None:
        """Creates the folder and the tables where there are none, or brings them to the format.

        Raises:
            FormatError: A newer version of the product wrote them.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(str(error)) from error
        with self._connected() as connection:
            if _format(connection) == FORMAT:
                return
            with _transaction(connection):
                # Read again: another process may have been first.
                self.opened_format = _format(connection)
                if self.opened_format > FORMAT:
                    raise FormatError(self.opened_format)
                if self.opened_format == 0:
                    _create(connection)
                elif self.opened_format == 1:
                    _chain_events(connection)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Opens a transaction that writes, in tables of today's format.

        Raises:
            FormatError: A newer version of the product has migrated them since they were opened.
        """
        with self._connected() as connection, _transaction(connection):
            if (existing := _format(connection)) != FORMAT:
                raise FormatError(existing)
            yield connection

    def _read(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """Reads rows, also where nothing can be written."""
        try:
            with self._connected() as connection:
                return connection.execute(query, values).fetchall()
        except StorageError as error:
            if not _only_reads(error):
                raise
            return self._read_without_writing(query, values, error)

    def _read_without_writing(
        self, query: str, values: Sequence[object], error: StorageError
    ) -> list[tuple[Any, ...]]:
        """Reads rows where SQLite cannot write beside the file; there is no file: there are none.

        Raises:
            StorageError: The file cannot be read either.
        """
        if not self._path.exists():
            return []
        if not self._path.is_file():
            raise error
        try:
            with _unwritten(self._path) as connection:
                existing = _format(connection)
                if existing > FORMAT:
                    raise FormatError(existing)
                return connection.execute(query, values).fetchall() if existing else []
        except (sqlite3.Error, OSError) as failure:
            raise StorageError(_first_line(failure)) from failure

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Gives a connection, and SQLite's errors as those of storage."""
        try:
            connection = self._free.pop() if self._free else self._connect()
            yield connection
        except sqlite3.IntegrityError as error:
            raise DuplicateKeyError(_first_line(error)) from error
        except sqlite3.Error as error:
            raise StorageError(self._describe(error)) from error
        self._free.append(connection)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            # Readers (the server) never wait for a writer; a commit is on disk before it returns.
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous=FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _describe(self, error: sqlite3.Error) -> str:
        """Describes an error of SQLite.

        It calls a full disk an I/O error, and a read-only one a file that cannot be opened.
        """
        folder = self._path.parent
        if isinstance(error, sqlite3.OperationalError):
            with suppress(OSError):
                disk = os.statvfs(folder)
                if disk.f_bavail == 0:
                    return "no space left on the disk"
                unwritable = error.sqlite_errorcode & 0xFF in _NOT_WRITABLE
                if unwritable and disk.f_flag & os.ST_RDONLY:
                    read_only = OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))
                    return describe_system_error(read_only) or str(read_only)
        return describe_system_error(error) or _first_line(error)


def _format(connection: sqlite3.Connection) -> int:
    """Reads the format of the tables, 0 where there are none."""
    tables = {name for (name,) in connection.execute(_TABLES)}
    if "ledger_format" in tables:
        (existing,) = connection.execute("SELECT MAX(format) FROM ledger_format").fetchone()
        return int(existing)
    return 1 if "events" in tables else 0


def _create(connection: sqlite3.Connection) -> None:
    """Creates the tables, with the triggers that keep the events append-only."""
    for statement in _CREATE:
        connection.execute(statement)


def _chain_events(connection: sqlite3.Connection) -> None:
    """Brings tables of format 1 to format 2: the same events, each with its digest."""
    for change in ("update", "delete"):
        connection.execute(f"DROP TRIGGER IF EXISTS events_no_{change}")
    connection.execute("ALTER TABLE events RENAME TO events_of_format_1")
    _create(connection)
    query = "SELECT number, at, kind, run, key, body FROM events_of_format_1 ORDER BY number"
    newest: ChainedRow | None = None
    for number, *columns in connection.execute(query):
        newest = chain_row(number, NewRow(*columns), newest)
        connection.execute(_INSERT, newest)
    connection.execute("DROP TABLE events_of_format_1")


def _append(connection: sqlite3.Connection, rows: Sequence[NewRow]) -> list[ChainedRow]:
    """Appends rows to the chain, inside a transaction that keeps other writers out."""
    newest = connection.execute(_NEWEST).fetchone()
    chained = chain_rows(rows, ChainedRow(*newest) if newest else None)
    connection.executemany(_INSERT, chained)
    return chained


def _lease(rows: Sequence[tuple[Any, ...]]) -> LeaseRow | None:
    """Reads the lease off its row; its age is not known after a restart of the machine."""
    if not rows:
        return None
    fence, run, owner, seconds, beats, released, beat_at, boot = rows[0]
    age = _clock() - beat_at if boot == boot_id() else -1.0
    return LeaseRow(fence, run, owner, seconds, beats, bool(released), age if age >= 0 else None)


def _clock() -> float:
    """Reads the seconds since the machine was started, which also pass while it sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Opens a transaction that may write from its beginning, so that it is not refused halfway."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turns write-ahead logging on, and waits for those who open or close the same file.

    SQLite does not wait by itself here: where waiting while it holds a read lock could be a
    deadlock, it answers SQLITE_BUSY at once, whatever the timeout
    (https://www.sqlite.org/c3ref/busy_handler.html).
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


def _only_reads(error: StorageError) -> bool:
    """Tells whether an error comes of a place that cannot be written."""
    cause = error.__cause__
    if isinstance(cause, sqlite3.OperationalError):
        return cause.sqlite_errorcode & 0xFF in _NOT_WRITABLE
    return isinstance(cause, OSError) and cause.errno in _NOT_WRITABLE_ERRNO


@contextmanager
def _unwritten(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens a database without writing beside it: as it lies, where all of it is in its file.

    What a killed process left in the log beside the file belongs to it: then a copy of both is
    read.
    """
    log = Path(f"{path}-wal")
    if not log.exists() or not log.stat().st_size:
        uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            yield connection
        return
    with (
        _copied(path, log) as copy,
        closing(sqlite3.connect(copy, isolation_level=None)) as connection,
    ):
        yield connection


@contextmanager
def _copied(*files: Path) -> Iterator[Path]:
    """Copies files into a folder that lasts as long as the block; gives the first copy.

    Raises:
        OSError: There is no room for them anywhere.
    """
    for folder in _COPY_FOLDERS:
        try:
            temporary = tempfile.mkdtemp(prefix="perennial.", dir=folder)
        except OSError:
            if folder == _COPY_FOLDERS[-1]:
                raise
            continue
        try:
            for file in files:
                shutil.copyfile(file, Path(temporary, file.name))
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            if folder == _COPY_FOLDERS[-1]:
                raise
            continue
        try:
            yield Path(temporary, files[0].name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
