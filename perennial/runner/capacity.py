"""The number of tasks that this machine can run at the same time."""

from __future__ import annotations

import os
from pathlib import Path

# Bytes of its own that a step may take, beside what it shares with the warm process.
TASK_MEMORY = 2 * 2**30
# What a container may use. Source: the kernel's cgroup-v2 and cgroup-v1/memory documentation.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def tasks_at_once() -> int:
    """Gives the number of this process's processors, or of the tasks that fit into free memory.

    The lower of both counts, and at least 1. Two steps that train share the processors: that is not
    slower than one after the other (docs/performance.md).
    """
    return max(1, min(len(os.sched_getaffinity(0)), free_memory() // TASK_MEMORY))


def free_memory() -> int:
    """Gives the bytes that new processes can have: of the machine, or of the container if less."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    limits = (path.read_text(encoding="ascii").strip() for path in _LIMITS if path.exists())
    return min([free, *(int(limit) for limit in limits if limit != "max")])
