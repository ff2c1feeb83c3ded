"""The lease of a run that has no process of its own: its tasks hold it one after the other.

`perennial run` is a process that shows signs of life for as long as its run goes on. On a cluster
there are only pods: the first task takes the lease for its run, each task shows signs of life while
it works, and the last one gives the lease back. In between, while a pod waits for its node, nobody
does, so such a lease lasts longer (`kubeflow.lease_minutes`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Literal, Self

from perennial.errors import DeadlineError, LeaseLostError, LedgerError, PerennialError
from perennial.ledger.events import Ledger
from perennial.ledger.lease import take_lease
from perennial.ledger.owner import is_of_tasks, task_owner
from schemas.project import ProjectSettings
from schemas.records import LeaseOwner

# The run that a task belongs to: set by `perennial run`, and on a cluster by the pod's label.
RUN_VARIABLE = "PERENNIAL_RUN"
_BEATS_PER_LEASE = 4
_LONGEST_BEAT = 30.0  # seconds, so that a task notices soon that another run took over
_PATIENCE = 60.0  # seconds that a task has to end by itself


def current_run() -> str | None:
    """Gives the run that this process is a task of; None: it is none's."""
    return os.environ.get(RUN_VARIABLE) or None


TaskPlace = Literal["first", "inner", "last"]
"""Of a task in its run: the first one takes the lease, the last one gives it back."""


class TaskLease:
    """The lease of a run while one of its tasks works.

    Args:
        ledger: The project's ledger.
        settings: The project's.
        run: The run.
        place: Of the task in its run. The last one works even when the time is up.

    Attributes:
        fence: The fencing number of the run.
        of_tasks: Whether nothing but tasks holds it; else a process holds it for the whole run.

    Raises:
        RunInProgressError: Another run holds the lease, and this is the first task.
        LeaseLostError: Another run has taken it over.
    """

    def __init__(
        self, ledger: Ledger, settings: ProjectSettings, run: str, place: TaskPlace
    ) -> None:
        self._ledger, self._run, self._place = ledger, run, place
        lease = ledger.lease()
        self._seconds = settings.kubeflow.lease_minutes * 60.0
        if lease is not None and lease.run == run and not lease.released:
            self.fence = lease.fence
            self.of_tasks = is_of_tasks(LeaseOwner.model_validate_json(lease.owner))
            self._seconds = lease.seconds
        elif place == "first" or (lease is not None and lease.run == run):
            # It begins, or it had ended and is tried again.
            self.fence = take_lease(ledger, settings.name, run, task_owner(), self._seconds)
            self.of_tasks = True
        else:
            raise ledger.lease_lost(run)
        self._minutes = settings.kubeflow.run_minutes
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._stopped: PerennialError | None = None

    def __enter__(self) -> Self:
        if self.of_tasks:
            self._until = self._began() + timedelta(minutes=self._minutes)
            if late := self._late():
                raise late
            self._renew()
            self._beats.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Shows no more signs of life; a task that was stopped ends by the reason why."""
        self._ended.set()
        if self._beats.is_alive():
            self._beats.join()
        if self._stopped is not None and not isinstance(error, Exception):
            raise self._stopped from None

    def release(self) -> None:
        """Gives back what tasks hold; a process that holds the lease does so by itself."""
        self._ended.set()
        if self.of_tasks:
            self._ledger.release_lease(self.fence)

    def _began(self) -> datetime:
        (taken,) = self._ledger.events("lease_taken", run=self._run)[-1:]
        return datetime.fromisoformat(taken.at)

    def _late(self) -> DeadlineError | None:
        if self._place == "last" or datetime.now(UTC) < self._until:
            return None
        return DeadlineError(
            f"run {self._run}",
            f"must end within kubeflow.run_minutes ({self._minutes})",
            f"it began at {self._began():%Y-%m-%d %H:%M:%S} UTC",
            "Raise it, or give the steps more resources; the next run goes on with what was done.",
        )

    def _renew(self) -> None:
        if not self._ledger.renew_lease(self.fence):
            raise self._ledger.lease_lost(self._run)

    def _beat(self) -> None:
        """Shows signs of life; ends the task where the lease is lost or the time is up."""
        pause = min(self._seconds / _BEATS_PER_LEASE, _LONGEST_BEAT)
        while not self._ended.wait(pause):
            try:
                self._renew()
            except LeaseLostError as error:
                self._stopped = error
            except LedgerError:
                continue  # not to be reached for now; what the run records is refused if it is late
            self._stopped = self._stopped or self._late()
            if self._stopped is not None:
                self._stop(self._stopped)
                return

    def _stop(self, error: PerennialError) -> None:
        """Interrupts the main thread, and ends the process where that does not help."""
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)  # also where it waits for the system
        if not self._ended.wait(_PATIENCE):
            print(f"error: {error}", file=sys.stderr, flush=True)
            os._exit(1)
