"""The ledger's table in a file of SQLite, by Python's own `sqlite3`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

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
_BUSY_SECONDS = 30.0
_RETRY_SECONDS = 0.01


class SqliteTable:
    """Reads and appends rows of one file; creates its folder where there is none.

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
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(str(error)) from error
        with self._connected() as connection:
            if connection.execute(_EXISTS).fetchone() is None:
                self._create(connection)

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
        with self._connected() as connection:
            return [
                Row(*values) for values in reversed(connection.execute(query, values).fetchall())
            ]

    def hold_lock(self, patience: float) -> AbstractContextManager[bool]:
        """Holds the lock of a file beside the database; gives whether it was free in time."""
        return hold_file_lock(Path(f"{self._path}.lock"), patience)

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
            raise StorageError(_first_line(error)) from error
        self._free.append(connection)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        # Readers (the server) never wait for a writer; a commit is on disk before it returns.
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=FULL")
        return connection


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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
