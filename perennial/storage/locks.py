"""Locks that end with their process: what is unfinished under one was left by a dead process."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_RETRY_SECONDS = 0.05


@contextmanager
def hold_file_lock(path: Path, patience: float) -> Iterator[bool]:
    """Holds the kernel's lock of a file while the block runs; gives whether it was free.

    Args:
        path: The file; it is made.
        patience: How long to wait for another holder, in seconds; 0: one attempt.
    """
    with path.open("a") as stream:
        held = wait_for_lock(lambda: _flock(stream.fileno()), patience)
        try:
            yield held
        finally:
            if held:
                fcntl.flock(stream, fcntl.LOCK_UN)


def wait_for_lock(take: Callable[[], bool], patience: float) -> bool:
    """Tries to take a lock for `patience` seconds; tells whether it was taken."""
    until = time.monotonic() + patience
    while not take():
        if time.monotonic() >= until:
            return False
        time.sleep(_RETRY_SECONDS)
    return True


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
