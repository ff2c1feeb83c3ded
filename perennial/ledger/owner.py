"""The process that holds a lease, and whether it is gone."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from schemas.records import LeaseOwner

_ENDED = ("Z", "X")  # states of a process that only waits to be removed


def this_process() -> LeaseOwner:
    """Names the process that calls."""
    _, started = _read_stat(os.getpid())
    return LeaseOwner(
        host=socket.gethostname(),
        process=os.getpid(),
        started=started,
        boot=boot_id(),
        namespace=_namespace(),
    )


def task_owner() -> LeaseOwner:
    """Names this process as a task that holds the lease for its run, and ends before that does."""
    return this_process().model_copy(update={"boot": "", "namespace": ""})


def is_of_tasks(owner: LeaseOwner) -> bool:
    """Tells whether tasks hold the lease one after the other."""
    return not owner.boot


def is_gone(owner: LeaseOwner) -> bool:
    """Tells whether the process is certainly gone: it would be seen from here, and is not there.

    A process of another machine, of another container, or from before a restart cannot be seen;
    that of a task tells nothing of its run.
    The number of one that is gone may have been given to another, which started later.
    """
    if (owner.boot, owner.namespace) != (boot_id(), _namespace()):
        return False
    try:
        os.kill(owner.process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it belongs to another account
        pass
    try:
        state, started = _read_stat(owner.process)
    except OSError:  # accounts may be kept from seeing each other's processes
        return False
    return state in _ENDED or started != owner.started


def boot_id() -> str:
    """Names this start of the machine's kernel. Source: random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _namespace() -> str:
    """Names the namespace of process numbers. Source: pid_namespaces(7)."""
    return os.readlink("/proc/self/ns/pid")


def _read_stat(process: int) -> tuple[str, int]:
    """Reads a process's state and start, in clock ticks since the boot. Source: proc_pid_stat(5).

    Raises:
        OSError: It is not there, or may not be seen.
    """
    stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    fields = stat.rpartition(")")[2].split()
    return fields[0], int(fields[19])
