"""Measures what a command costs.

Wall seconds, CPU seconds and the peak memory of all its processes together.

A warm process that is kept ready works for a command without being its child: its processor time
meanwhile, and its memory, count as the command's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

WARM_SERVER = "perennial.runner.warm_server"
TICKS = os.sysconf("SC_CLK_TCK")
_INTERVAL, _SHARE = (
    0.5,
    0.03,
)  # seconds between samples of memory, and what sampling may take of a core


@dataclass(frozen=True)
class Cost:
    """Of one command.

    Memory is the peak of the proportional set sizes (PSS) summed over its processes, in bytes.
    """

    seconds: float
    cpu: float
    memory: int


def median_cost(costs: Sequence[Cost]) -> Cost:
    """The median of each."""
    return Cost(
        median(cost.seconds for cost in costs),
        median(cost.cpu for cost in costs),
        int(median(cost.memory for cost in costs)),
    )


def measure(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Cost:
    """Runs a command to its end.

    Raises:
        SystemExit: It failed; its last lines are shown.
    """
    with tempfile.TemporaryFile() as output:
        servers = _warm_servers()
        before = sum(map(_cpu_of, servers))
        began = time.monotonic()
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
        sampler = _MemorySampler(process.pid)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        sampler.stopped.set()
        sampler.join()
        if process.returncode:
            output.seek(0)
            tail = output.read().decode(errors="replace")[-3000:]
            sys.exit(
                f"error: this command must succeed: {command}. Received: code "
                f"{process.returncode}, and\n{tail}"
            )
    cpu = usage.ru_utime + usage.ru_stime + sum(map(_cpu_of, _warm_servers())) - before
    return Cost(seconds, cpu, sampler.peak)


@dataclass
class _MemorySampler(threading.Thread):
    """Samples the memory of a process, its descendants, and the warm process with its own."""

    root: int
    peak: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        sample_until(self.stopped, self._sample)

    def _sample(self) -> None:
        self.peak = max(self.peak, memory_of_tree(self.root, *_warm_servers()))


def sample_until(stopped: threading.Event, sample: Callable[[], None]) -> None:
    """Calls a function again and again, the less often the longer it takes.

    It works beside what is measured.
    """
    pause = _INTERVAL
    while not stopped.wait(pause):
        began = time.thread_time()
        sample()
        pause = max(_INTERVAL, (time.thread_time() - began) / _SHARE)


def memory_of_tree(*roots: int) -> int:
    """Proportional set sizes of processes and of all their descendants, summed, in bytes."""
    return sum(map(_memory_of, _with_descendants(set(roots))))


def wait_for_warm_process(perennial: Path, project: Path) -> None:
    """Has a warm process of this environment started, and waits until it has imported everything.

    Raises:
        SystemExit: There is none.
    """
    subprocess.run([perennial, "validate", project], check=True, capture_output=True)
    deadline = time.monotonic() + 300
    last, quiet = -1.0, 0
    while quiet < 3:
        servers = _warm_servers()
        if not servers or time.monotonic() > deadline:
            sys.exit(
                "error: `perennial validate` must leave a warm process. Received: none that came "
                "to rest"
            )
        now = sum(map(_cpu_of, servers))
        quiet = quiet + 1 if now - last < 0.05 else 0
        last = now
        time.sleep(1)


def _warm_servers() -> set[int]:
    """Warm processes of this environment, without what they have forked."""
    servers = {pid for pid in _all_processes() if _is_warm_server(pid)}
    return {pid for pid in servers if _parent_of(pid) not in servers}


def _is_warm_server(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[0] == sys.executable.encode() and any(
        WARM_SERVER.encode() in word for word in words
    )


def _all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _with_descendants(roots: set[int]) -> set[int]:
    parents = {pid: _parent_of(pid) for pid in _all_processes()}
    members = set(roots)
    while grown := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= grown
    return members


def _status_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, ….

    None when the process is gone.
    """
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
    except OSError:
        return []


def _parent_of(pid: int) -> int:
    fields = _status_fields(pid)
    return int(fields[1]) if fields else 0


def _cpu_of(pid: int) -> float:
    """Seconds of a process and of those of its children that have ended."""
    fields = _status_fields(pid)
    return sum(map(int, fields[11:15])) / TICKS if fields else 0.0


def _memory_of(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
