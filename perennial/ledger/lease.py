"""The lease: one run of a project at a time, on whatever machine it is.

A run takes the lease by an event of the ledger; the number of that event is its fencing number,
which every later event of the run carries. Its process shows that it is alive by changing the one
row of the table `lease`, several times while the lease lasts. Another run takes over when that has
not happened for as long as the lease lasts, or at once where the process is certainly gone. From
then on the ledger refuses the first run's events, whenever its process wakes up
(docs/adr/0024-one-run-by-a-lease.md).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from perennial.errors import LedgerError, RunInProgressError
from perennial.ledger.events import Ledger, NewEvent, body_of
from perennial.ledger.owner import is_gone, this_process
from perennial.ledger.table import LeaseClaim, LeaseRow
from schemas.records import LeaseOwner, LeaseTaken

_BEATS_PER_LEASE = 4
_WATCH_SECONDS = 0.2  # between two looks at a lease whose age no clock tells


class _Watched(NamedTuple):
    """A lease that was watched for as long as it lasts, and did not change."""

    fence: int
    beats: int


class Lease:
    """The lease that this process holds, for one run after the other.

    Attributes:
        run: The run that holds it now.
        fence: The fencing number of that run.
    """

    def __init__(self, ledger: Ledger, project: str, run: str, seconds: float) -> None:
        self._ledger, self._project, self._seconds = ledger, project, seconds
        self._owner = this_process()
        self._lost, self._ended = threading.Event(), threading.Event()
        self._changing = threading.Lock()  # so that no sign of life is for a run that has ended
        self._on_loss: Callable[[], None] | None = None
        self.run = run
        self.fence = take_lease(ledger, project, run, self._owner, seconds)
        self._beats = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._beats.start()

    def pass_to(self, run: str) -> None:
        """Passes the lease to another run of this process, without giving it back in between.

        Raises:
            RunInProgressError: Another process has taken it over.
        """
        with self._changing:
            self.fence = take_lease(
                self._ledger, self._project, run, self._owner, self._seconds, mine=self.fence
            )
            self.run = run

    def check(self) -> None:
        """Checks that the lease is still held, and shows a sign of life.

        It asks the ledger: a process that was asleep goes on before the thread that shows signs of
        life notices that the lease is lost.

        Raises:
            LeaseLostError: Another run has taken it over.
            LedgerError: The ledger cannot be reached.
        """
        if self._lost.is_set() or not self._ledger.renew_lease(self.fence):
            raise self._ledger.lease_lost(self.run)

    @contextmanager
    def calling_on_loss(self, stop: Callable[[], None]) -> Iterator[None]:
        """Calls a function, from another thread, if the lease is lost while the block runs."""
        self._on_loss = stop
        try:
            yield
        finally:
            self._on_loss = None

    def release(self) -> None:
        """Gives the lease back, unless it has been taken over.

        Where the ledger cannot be reached, the lease runs out.
        """
        self._ended.set()
        self._beats.join()
        with suppress(LedgerError):
            self._ledger.release_lease(self.fence)

    def _beat(self) -> None:
        while not self._ended.wait(self._seconds / _BEATS_PER_LEASE):
            try:
                with self._changing:
                    held = self._ledger.renew_lease(self.fence)
            except LedgerError:
                continue  # not to be reached for now; what the run records is refused if it is late
            if not held:
                self._lost.set()
                if self._on_loss is not None:
                    self._on_loss()
                return


@contextmanager
def hold_lease(ledger: Ledger, project: str, run: str, seconds: float) -> Iterator[Lease]:
    """Holds the project's lease while the block runs.

    Args:
        ledger: The project's ledger.
        project: The project's name, for messages.
        run: The run that takes the lease.
        seconds: How long the lease lasts after each sign of life.

    Raises:
        RunInProgressError: Another run holds it.
    """
    lease = Lease(ledger, project, run, seconds)
    try:
        yield lease
    finally:
        lease.release()


def describe_owner(ledger: Ledger, lease: LeaseRow) -> str:
    """Says which run holds the lease, in which process, since when and for how long."""
    taken = ledger.events("lease_taken", run=lease.run)[-1]
    owner = body_of(taken, LeaseTaken).owner
    since = f"{taken.at[:19].replace('T', ' ')} UTC"
    remains = lease.seconds - (lease.age or 0.0)
    return (
        f"run {lease.run} by process {owner.process} on {owner.host} since {since} (if that has "
        f"died, its lease runs out in {max(remains, 0):.0f} s)"
    )


def take_lease(
    ledger: Ledger,
    project: str,
    run: str,
    owner: LeaseOwner,
    seconds: float,
    mine: int | None = None,
) -> int:
    """Takes the lease; gives its fencing number.

    Args:
        ledger: The project's ledger.
        project: The project's name.
        run: The run that takes it.
        owner: The process of the run.
        seconds: How long it lasts after each sign of life.
        mine: The fencing number by which this process holds it already.

    Raises:
        RunInProgressError: Another run holds it.
    """
    fence = ledger.take_lease(_claim(run, owner, seconds, mine, None))
    lease = ledger.lease()
    if fence is None and lease is not None and lease.age is None:
        watched = _watch(ledger, lease)
        if watched is not None:
            fence = ledger.take_lease(_claim(run, owner, seconds, mine, watched))
        lease = ledger.lease()
    if fence is not None:
        return fence
    assert lease is not None
    raise RunInProgressError(
        f"project {project}",
        "must have one run at a time",
        describe_owner(ledger, lease),
        "Wait until it ends; `perennial status` shows how.",
    )


def _claim(
    run: str, owner: LeaseOwner, seconds: float, mine: int | None, watched: _Watched | None
) -> Callable[[LeaseRow | None], LeaseClaim | None]:
    """Makes the function that claims the lease if it is free."""

    def claim(lease: LeaseRow | None) -> LeaseClaim | None:
        free = lease is None or lease.released or lease.fence == mine
        because = None if free or lease is None else _why_free(lease, watched)
        if not free and because is None:
            return None
        from_run = lease.run if lease is not None and because is not None else None
        taken = LeaseTaken(owner=owner, seconds=seconds, from_run=from_run, because=because)
        event = NewEvent("lease_taken", taken, run).row()
        return LeaseClaim(event, owner.model_dump_json(), seconds)

    return claim


def _why_free(lease: LeaseRow, watched: _Watched | None) -> str | None:
    """Says why a lease that was not given back may be taken over; None: it may not."""
    owner = LeaseOwner.model_validate_json(lease.owner)
    process = f"process {owner.process} on {owner.host}"
    if is_gone(owner):
        return f"{process} is gone"
    if lease.age is not None and lease.age > lease.seconds:
        return f"{process} had shown no sign of life for {lease.age:.0f} s"
    if watched == (lease.fence, lease.beats):
        return f"{process} showed no sign of life while it was watched for {lease.seconds:.0f} s"
    return None


def _watch(ledger: Ledger, lease: LeaseRow) -> _Watched | None:
    """Watches a lease whose age no clock tells; None: its owner is alive.

    The machine was restarted, or the clock of the database set back.
    """
    until = time.monotonic() + lease.seconds
    watched = _Watched(lease.fence, lease.beats)
    while time.monotonic() < until:
        time.sleep(_WATCH_SECONDS)
        now = ledger.lease()
        if now is None or now.released:
            break
        if (now.fence, now.beats) != watched:
            return None
    return watched
