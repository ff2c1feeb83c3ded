"""The ledger's table of events, whichever database holds it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol


class StorageError(Exception):
    """The database refused or failed; the text is the first line of its own message."""


class DuplicateKeyError(StorageError):
    """The table already has an event with this key."""


class NewRow(NamedTuple):
    """A row to insert."""

    at: str
    kind: str
    run: str | None
    key: str | None
    body: str


class Row(NamedTuple):
    """A row of the table."""

    number: int
    at: str
    kind: str
    run: str | None
    body: str


class EventTable(Protocol):
    """A table that is appended to and read. Every method raises `StorageError`.

    Any thread may call it.
    """

    def insert(self, rows: Sequence[NewRow]) -> None:
        """Inserts all rows in one transaction; raises `DuplicateKeyError` where a key is taken."""

    def select(
        self,
        kinds: Sequence[str],
        run: str | None = None,
        after: int = 0,
        newest: int | None = None,
    ) -> list[Row]:
        """Reads rows of these kinds (none given: all) and this run, numbered above `after`.

        With `newest` only that many, the last ones.
        """

    def hold_lock(self, patience: float) -> AbstractContextManager[bool]:
        """Holds the lock of the database; gives whether it was free within `patience` seconds."""

    def close(self) -> None:
        """Closes the connections."""
