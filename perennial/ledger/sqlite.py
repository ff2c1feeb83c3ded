"""The ledger's table in a file of SQLite, by Python's own `sqlite3`.

To read a file with write-ahead logging, SQLite writes a file beside it. Where nothing can be
written (a full disk, a read-only folder), the file is read as it lies there, or from a copy.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from perennial.errors import describe_system_error
from perennial.ledger.table import DuplicateKeyError, NewRow, Row, StorageError
from perennial.storage.locks import hold_file_lock

_CREATE = (
    "CREATE TABLE events ("
    "number INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, at VARCHAR(32) NOT NULL, kind VARCHAR(32) "
    "NOT NULL, "
    "run VARCHAR(64), key VARCHAR(256) UNIQUE, body TEXT NOT NULL)",
    *(
        f"CREATE TRIGGER events_no_{change.lower()} BEFORE {change} ON events "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        for change in ("UPDATE", "DELETE")
    ),
)
_EXISTS = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'events'"
_INSERT = "INSERT INTO events (at, kind, run, key, body) VALUES (?, ?, ?, ?, ?)"
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

    Raises:
        StorageError: It cannot be opened, or is no database.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        # Connections that no thread uses now: a reader does not wait for a writer of the same
        # process either.
        self._free: list[sqlite3.Connection] = []
        try:
            self._prepare()
        except StorageError as error:
            if not _only_reads(error):
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
            StorageError: The file does not accept them.
        """
        with self._connected() as connection, _transaction(connection):
            connection.executemany(_INSERT, rows)

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
        try:
            with self._connected() as connection:
                rows = connection.execute(query, values).fetchall()
        except StorageError as error:
            if not _only_reads(error):
                raise
            rows = self._read_without_writing(query, values, error)
        return [Row(*each) for each in reversed(rows)]

    def hold_lock(self, patience: float) -> AbstractContextManager[bool]:
        """Holds the lock of a file beside the database; gives whether it was free in time."""
        return hold_file_lock(Path(f"{self._path}.lock"), patience)

    def _prepare(self) -> None:
        """Creates the folder and the table where there are none."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(str(error)) from error
        with self._connected() as connection:
            if connection.execute(_EXISTS).fetchone() is None:
                self._create(connection)

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
                if connection.execute(_EXISTS).fetchone() is None:
                    return []
                return connection.execute(query, values).fetchall()
        except (sqlite3.Error, OSError) as failure:
            raise StorageError(_first_line(failure)) from failure

    def _create(self, connection: sqlite3.Connection) -> None:
        """Creates the table with the triggers that make it append-only, in one transaction."""
        with _transaction(connection):
            if (
                connection.execute(_EXISTS).fetchone() is None
            ):  # another process may have been first
                for statement in _CREATE:
                    connection.execute(statement)

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
        """Describes an error of SQLite, which calls a full disk an I/O error."""
        full = False
        if isinstance(error, sqlite3.OperationalError):
            with suppress(OSError):
                full = os.statvfs(self._path.parent).f_bavail == 0
        meaning = describe_system_error(error) or _first_line(error)
        return "no space left on the disk" if full else meaning


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
