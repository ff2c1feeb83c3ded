"""The ledger's table of events, whichever database holds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

# The form of the tables. 1: events alone; 2: events in a chain of digests, and the lease.
FORMAT = 2


class StorageError(Exception):
    """The database refused or failed; the text is the first line of its own message."""


class DuplicateKeyError(StorageError):
    """The table already has an event with this key."""


class FormatError(StorageError):
    """The tables have another form than this version of the product writes."""

    def __init__(self, existing: int) -> None:
        self.existing = existing
        super().__init__(f"the ledger has format {existing}, not {FORMAT}")


class StaleFenceError(StorageError):
    """Events carry the fencing number of a lease that has been given back or taken over."""


class NewRow(NamedTuple):
    """A row to insert; `fence` is the number of the lease that it is written under."""

    at: str
    kind: str
    run: str | None
    key: str | None
    body: str
    fence: int | None = None


class Row(NamedTuple):
    """A row of the table."""

    number: int
    at: str
    kind: str
    run: str | None
    body: str


class ChainedRow(NamedTuple):
    """A whole row: `digest` is that of all other columns, `previous` that of the row before."""

    number: int
    at: str
    kind: str
    run: str | None
    key: str | None
    body: str
    fence: int | None
    previous: str
    digest: str


class LeaseRow(NamedTuple):
    """The lease as it is now.

    `fence` is the number of the event by which it was taken, and `owner` the JSON of the process
    that beats. `beats` counts its signs of life; `age` is the time since the newest, in seconds, by
    a clock that is not set (None: no clock tells it). It lasts `seconds` from each.
    """

    fence: int
    run: str
    owner: str
    seconds: float
    beats: int
    released: bool
    age: float | None


class LeaseClaim(NamedTuple):
    """A lease to take: the event that records it, who takes it, and how long it lasts."""

    event: NewRow
    owner: str
    seconds: float


class EventTable(Protocol):
    """A table that is appended to and read. Every method raises `StorageError`.

    Any thread may call it.
    """

    def insert(self, rows: Sequence[NewRow]) -> None:
        """Inserts all rows in one transaction.

        Raises `DuplicateKeyError` where a key is taken, and `StaleFenceError` where a row carries
        the number of a lease that is not held any more.
        """

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

    def read_chain(self, after: int, count: int) -> list[ChainedRow]:
        """Reads at most `count` whole rows, numbered above `after`, oldest first."""

    def newest_link(self) -> ChainedRow | None:
        """Reads the newest whole row; None: there is none."""

    def read_lease(self) -> LeaseRow | None:
        """Reads the lease; None: nobody ever took it."""

    def take_lease(self, claim: Callable[[LeaseRow | None], LeaseClaim | None]) -> int | None:
        """Takes the lease, in one transaction with the event that records it; gives its number.

        `claim` is asked with the lease as it is; where it gives None, nothing is taken.
        """

    def renew_lease(self, fence: int) -> bool:
        """Records a sign of life; False: the lease has been given back or taken over."""

    def release_lease(self, fence: int) -> None:
        """Gives the lease back, unless it has been taken over."""

    def hold_lock(self, patience: float) -> AbstractContextManager[bool]:
        """Holds the lock of the database; gives whether it was free within `patience` seconds."""

    def close(self) -> None:
        """Closes the connections."""


def check_fences(rows: Sequence[NewRow], lease: LeaseRow | None) -> None:
    """Checks that new rows are written under the lease as it is, or under none.

    Raises:
        StaleFenceError: A row carries the number of a lease that is not held any more.
    """
    fences = {row.fence for row in rows} - {None}
    if fences and (lease is None or lease.released or fences != {lease.fence}):
        raise StaleFenceError("the lease has been given back or taken over")
