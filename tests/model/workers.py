"""Processes that take turns: one goes on at a time, and each can be held, killed or left asleep.

A worker is a thread that stands still at every point where it would change something outside its
process: a row of the ledger, an object of the root, an entry of the registry. What a real process
leaves when it is killed there is what this one leaves. Its lease names a process of its own, which
is really there, and is killed with it.
"""

from __future__ import annotations

import functools
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perennial.ledger.owner import this_process
from schemas.records import LeaseOwner

_OWNER = ("cat",)  # ends when nobody can write to it any more
_at_work: dict[int, Worker] = {}  # by the number of the thread


class Killed(BaseException):
    """The process is gone: nothing of it goes on."""


class Worker:
    """A process that does one thing, point by point.

    Args:
        does: What it does; a killed one raises `Killed` there.
        seen: Whether others see that its process is gone.

    Attributes:
        runs: The runs that it has begun, oldest first.
        error: What ended it, None where it came to its end.
        ended: Whether it is done or dead.
        killed: Whether it was killed.
        seen: Whether others see that its process is gone.
        late_deletions: What it deleted when it did not hold the lease any more.
        task_of: The run whose task it does now.
    """

    def __init__(self, does: Callable[[], object], seen: bool = True) -> None:
        self.runs: list[str] = []
        self.task_of: str | None = None
        self.seen = seen
        self.late_deletions = 0
        self.error: BaseException | None = None
        self.ended = self.killed = False
        self.exclusive = 0  # how many locks of the ledger it holds
        self._does, self._budget, self._anywhere = does, 0, False
        self._go, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._process = subprocess.Popen(_OWNER, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        started = _start_of(self._process.pid)
        self.owner: LeaseOwner = this_process().model_copy(
            update={"process": self._process.pid, "started": started}
        )
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def advance(self, points: int, anywhere: bool = False) -> None:
        """Lets it pass so many points; it stands still before the next.

        Where others would wait for its lock, it goes on until it has given that back, unless it may
        be left `anywhere`, to be killed there.
        """
        if self.ended:
            return
        self._budget, self._anywhere = points, anywhere
        self._go.release()
        self._stands.acquire()

    def finish(self) -> None:
        """Lets it come to its end."""
        self.advance(1_000_000)

    def kill(self) -> None:
        """Kills it where it stands."""
        self.killed = True
        self._end_process()
        self.finish()
        self._thread.join()

    def pass_point(self) -> None:
        """Stands still where no more points may be passed."""
        if self.killed:
            raise Killed
        if self._budget <= 0 and (self._anywhere or not self.exclusive):
            self._stands.release()
            self._go.acquire()
            if self.killed:
                raise Killed
        self._budget -= 1

    def _work(self) -> None:
        _at_work[threading.get_ident()] = self
        self._go.acquire()
        try:
            if not self.killed:
                self._does()
        except BaseException as error:
            # Without its frames, which would keep connections of ledgers open.
            error.add_note(traceback.format_exc())
            self.error = error.with_traceback(None)
            error.__cause__ = error.__context__ = None
        finally:
            del _at_work[threading.get_ident()]
            self.ended = True
            self._end_process()
            self._stands.release()

    def _end_process(self) -> None:
        self._process.kill()
        self._process.communicate()


def worker_here() -> Worker | None:
    """Gives the worker whose thread calls; None: the test itself."""
    return _at_work.get(threading.get_ident())


def task_here() -> str | None:
    """Names the run whose task the calling thread does; None: it does none."""
    worker = worker_here()
    return worker.task_of if worker is not None else None


def owner_here() -> LeaseOwner:
    """Names the process that calls, as a lease does: that of the worker, or the test's."""
    worker = worker_here()
    return worker.owner if worker is not None else this_process()


def with_point(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function a point that a worker passes before it is called."""

    @functools.wraps(function)
    def pointed(*args: Any, **kwargs: Any) -> Any:
        if (worker := worker_here()) is not None:
            worker.pass_point()
        return function(*args, **kwargs)

    return pointed


def with_lock(function: Callable[..., Any]) -> Callable[..., Any]:
    """Counts, for the worker that holds it, the lock that a context manager of the product is."""

    @contextmanager
    def locked(*args: Any, **kwargs: Any) -> Iterator[Any]:
        worker = worker_here()
        with function(*args, **kwargs) as held:
            if worker is not None:
                worker.exclusive += 1
            try:
                yield held
            finally:
                if worker is not None:
                    worker.exclusive -= 1

    return locked


def _start_of(process: int) -> int:
    """Reads when a process started, in clock ticks since the boot. Source: proc_pid_stat(5)."""
    stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    return int(stat.rpartition(")")[2].split()[19])
