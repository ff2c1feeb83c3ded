"""The ledger's table of events, whichever database holds it."""

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
