"""Child processes that never outlive their parent."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Asks Linux to kill this process when its parent ends, however it ends; at once where that has happened.

    A killed run must not leave a step behind that goes on publishing. Source: prctl(2), PR_SET_PDEATHSIG.
    """
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent or _started_by_one_that_ended():
        os.kill(os.getpid(), signal.SIGKILL)


def _started_by_one_that_ended() -> bool:
    """Whether whoever started this process ended before it could ask for its own parent, which is another by then."""
    starter = multiprocessing.parent_process()
    return starter is not None and not starter.is_alive()
