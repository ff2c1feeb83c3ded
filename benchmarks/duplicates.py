"""Measures what the check for rows that several spans have adds to a run, in seconds and memory.

A window of spans, of which the newest has a tenth of its rows from the older ones. Their keys are
merged, the newest span is checked, and it is written anew without the rows that older spans count.
Memory is what a process of its own holds beyond what it held before (anonymous pages: those of
files that are mapped are the system's to take back), looked at by another process.

    python benchmarks/duplicates.py         # 10 spans of 1,000 and of 300,000 rows, and 20
    python benchmarks/duplicates.py --full  # 40 spans of 300,000 rows, too
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from _figures import Figure, conclude, print_table

WINDOWS = ((10, 1_000), (10, 300_000), (20, 300_000))
FULL = (40, 300_000)
JOB = Path(__file__).parent / "_duplicates_job.py"
PAUSE = 0.003  # seconds between looks at the memory
MERGED = ("merge the keys", "check the new span")
LEFT_OUT = "leave out known rows"
MOST_SECONDS = 3.0  # to merge and check a million rows
MOST_MEMORY = 256.0  # MiB, whatever the window
MOST_GROWTH = 1.15  # times the memory of half the window


@dataclass
class Cost:
    """Holds what one window took: processor seconds of each part, and the peak memory in MiB."""

    seconds: dict[str, float]
    memory: float


def main() -> int:
    """Measures each window in a process of its own and prints the table."""
    parser = argparse.ArgumentParser(description="Measure the check for duplicates across spans.")
    parser.add_argument("--full", action="store_true", help="a window of 40 spans, too")
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results"
    )
    arguments = parser.parse_args()
    began = time.monotonic()
    windows = [*WINDOWS, *([FULL] if arguments.full else [])]
    costs = {window: measure(*window) for window in windows}
    print_table(
        ("window", *(f"{part}, s" for part in (*MERGED, LEFT_OUT)), "peak MiB added"),
        [
            (
                f"{spans} spans × {rows:,} rows",
                *(f"{cost.seconds[part]:.2f}" for part in (*MERGED, LEFT_OUT)),
                f"{cost.memory:,.0f}",
            )
            for (spans, rows), cost in costs.items()
        ],
    )
    return conclude("duplicates", make_figures(costs), began)


def make_figures(costs: dict[tuple[int, int], Cost]) -> list[Figure]:
    """Makes the figures of the largest windows."""
    half, whole = list(costs)[-2:]
    millions = whole[0] * whole[1] / 1e6
    seconds = sum(costs[whole].seconds[part] for part in MERGED)
    growth = costs[whole].memory / costs[half].memory
    return [
        Figure(f"memory at a window of {whole[0]} beside {half[0]}", growth, at_most=MOST_GROWTH),
        Figure(
            f"memory at {millions:g} million rows",
            costs[whole].memory,
            at_most=MOST_MEMORY,
            unit=" MiB",
        ),
        Figure(
            "merge and check, per million rows",
            seconds / millions,
            at_most=MOST_SECONDS,
            unit=" s",
        ),
        Figure("leave out known rows", costs[whole].seconds[LEFT_OUT], unit=" s"),
    ]


def measure(spans: int, rows: int) -> Cost:
    """Makes a window and measures the check of it."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(spans), str(rows), folder]
        made = subprocess.run(
            [sys.executable, JOB, "make", *arguments], check=False, capture_output=True, text=True
        )
        if made.returncode:
            sys.exit(f"error: the window must be made. Received:\n{made.stderr[-2000:]}")
        cost = watch([sys.executable, str(JOB), "measure", *arguments])
    shown = f"{spans} spans of {rows:,} rows: {cost.memory:,.0f} MiB, {cost.seconds}"
    print(f"  {shown}", file=sys.stderr, flush=True)
    return cost


def watch(command: list[str]) -> Cost:
    """Runs the job and looks at its memory between its lines `begin` and `end`."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as job,
    ):
        assert job.stdin is not None
        assert job.stdout is not None
        seconds: dict[str, float] = {}
        before, peak, ended = 0, 0, threading.Event()

        def look() -> None:
            nonlocal peak
            while not ended.wait(PAUSE):
                peak = max(peak, anonymous_bytes(job.pid))

        watcher = threading.Thread(target=look, daemon=True)
        for line in job.stdout:
            if line.startswith("begin"):
                before = peak = anonymous_bytes(job.pid)
                watcher.start()
                job.stdin.write("\n")
                job.stdin.flush()
            elif line.startswith("end"):
                ended.set()
                watcher.join()
            elif line.startswith("["):
                part, taken = json.loads(line)
                seconds[part] = taken
        if job.wait():
            errors.seek(0)
            sys.exit(f"error: the check must work. Received:\n{errors.read()[-2000:]}")
    return Cost(seconds, (peak - before) / 2**20)


def anonymous_bytes(pid: int) -> int:
    """Reads how much memory a process holds that is of no file; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


if __name__ == "__main__":
    sys.exit(main())
