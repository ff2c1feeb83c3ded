"""Child processes that never outlive their parent, and ports for those that listen."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import socket
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent() -> None:
    """Asks Linux to kill this process when its parent ends, however it ends.

    At once where that has happened.

    A killed run must not leave a step behind that goes on publishing. Source: prctl(2),
    PR_SET_PDEATHSIG.
    """
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent or _started_by_one_that_ended():
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent ends.

    `kill_descendants` then finds it.

    Source: prctl(2), PR_SET_CHILD_SUBREAPER.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_descendants() -> None:
    """Kills every process that descends from this one, and waits for them."""
    while children := _children(os.getpid()):
        for child in children:
            for process in [*_descendants(child), child]:
                _kill(process)
        for child in children:
            try:
                os.waitpid(child, 0)
            except ChildProcessError:  # waited for by somebody else
                continue


def find_free_ports(count: int) -> list[int]:
    """Finds different loopback ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def is_alive(process: int) -> bool:
    """Tells whether a process runs, which one that has ended and is not waited for does not."""
    return _state_and_parent(process)[0] not in ("Z", "X", "")


def _descendants(process: int) -> list[int]:
    return [
        process_id for child in _children(process) for process_id in (*_descendants(child), child)
    ]


def _children(parent: int) -> list[int]:
    """Lists the processes whose parent is this one."""
    processes = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [process for process in processes if _state_and_parent(process)[1] == parent]


def _state_and_parent(process: int) -> tuple[str, int]:
    """Reads the letter of a process's state and its parent; nothing when there is no process.

    Source: proc(5).
    """
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended
        return "", 0
    state, parent = stat.rpartition(")")[2].split()[:2]
    return state, int(parent)


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def _started_by_one_that_ended() -> bool:
    """Tells whether what started this process ended before it could ask for its parent."""
    starter = multiprocessing.parent_process()
    return starter is not None and not starter.is_alive()
