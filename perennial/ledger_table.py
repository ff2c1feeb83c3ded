"""The ledger's table of events, whichever database holds it.

A file of SQLite is read and written by Python's own `sqlite3`: a command that finds nothing to do must not wait for
SQLAlchemy to be imported (docs/adr/0016). Everything else goes through SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol


class StorageError(Exception):
    """The database does not do what it is asked for; the text is its own first line."""


class DuplicateKeyError(StorageError):
    """An event of this key is in the table already."""


class NewRow(NamedTuple):
    """A row to insert."""

    at: str
    kind: str
    run: str | None
    key: str | None
    body: str


class Row(NamedTuple):
    """A row as it lies in the table."""

    number: int
    at: str
    kind: str
    run: str | None
    body: str


class EventTable(Protocol):
    """A table that is appended to and read. Every method raises `StorageError`; any thread may call it."""

    def insert(self, rows: Sequence[NewRow]) -> None:
        """Inserts all rows in one transaction; raises `DuplicateKeyError` where a key is taken."""

    def select(
        self, kinds: Sequence[str], run: str | None = None, after: int = 0, newest: int | None = None
    ) -> list[Row]:
        """The rows of these kinds (none given: of all) and of this run, numbered above `after`, oldest first.

        With `newest` only that many, the last ones.
        """

    def hold_lock(self, patience: float) -> AbstractContextManager[bool]:
        """Holds the lock that all who share the database share; gives whether it was to be had in `patience` s."""

    def close(self) -> None:
        """Gives the connections back."""


def public_url(url: str) -> str:
    """The URL of a database as messages show it: without the password.

    Raises:
        StorageError: It is no URL of a database.
    """
    if sqlite_path(url) is not None:
        return url
    from perennial.ledger_server import render_url

    return render_url(url)


def open_table(url: str) -> EventTable:
    """Opens the table at a URL; makes it, with what keeps it append-only, where it is not there yet.

    Raises:
        StorageError: The database cannot be opened.
    """
    path = sqlite_path(url)
    if path is not None:
        from perennial.ledger_sqlite import SqliteTable

        return SqliteTable(path)
    from perennial.ledger_server import ServerTable

    return ServerTable(url)


def sqlite_path(url: str) -> str | None:
    """The file that `sqlite:///PATH` names; None where a URL names another database.

    Raises:
        StorageError: It names SQLite, but not by a path alone.
    """
    if not url.startswith(("sqlite:", "sqlite+pysqlite:")):
        return None
    path = url.partition(":")[2].removeprefix("///")
    if path.startswith("//") or not path or "?" in path or path == ":memory:":
        raise StorageError(f"{url}: a file of SQLite is named as sqlite:///PATH")
    return path
