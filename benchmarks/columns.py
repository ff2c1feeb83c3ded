"""Measures ingestion, checks and statistics of one span beside TFX's components.

These are CsvExampleGen, StatisticsGen and ExampleValidator. The real taxi trips again and again,
with jitter and ids of their own, in one CSV file; ours with the expectations of the taxi example.
Each side is a process of its own, the two in turn. Seconds begin when the libraries are imported.

    python benchmarks/columns.py                    # 150 thousand rows
    python benchmarks/columns.py --rows 1500000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from _figures import TAXI_CSV, Figure, conclude, print_table, skip_without
from _taxi import Trips, make_project

ROWS, ROUNDS = 150_000, 3
MOST_TIME = 0.25  # of TFX's
MOST_MEMORY = 2.0  # GB
JOBS = Path(__file__).parent / "_columns_jobs.py"


@dataclass(frozen=True)
class Cost:
    """Of one side in one round.

    Wall and processor seconds, peak resident memory in bytes, seconds of each part.
    """

    seconds: float
    cpu: float
    memory: int
    parts: dict[str, float]


def main() -> int:
    """Measures both sides and prints the table."""
    parser = argparse.ArgumentParser(description="Measure the data steps beside TFX's.")
    parser.add_argument(
        "--rows", type=int, default=ROWS, metavar="N", help=f"rows of the span (default: {ROWS})"
    )
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, metavar="N", help=f"(default: {ROUNDS})"
    )
    parser.add_argument("--csv", type=Path, default=TAXI_CSV, metavar="PATH", help="the trips")
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results"
    )
    arguments = parser.parse_args()
    skip_without(arguments.csv)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        project = make_project(Path(scratch) / "project", window=1, train_steps=1, eval_steps=1)
        Trips.read(arguments.csv).write_span(
            project / "data" / "1.csv", 0, arguments.rows, jitter=True
        )
        rounds = [
            tuple(
                run_job(side, project, Path(scratch) / f"{side}-{number}")
                for side in ("tfx", "ours")
            )
            for number in range(arguments.rounds)
        ]
    return conclude("columns", report(rounds, arguments.rows), began)


def run_job(side: str, project: Path, output: Path) -> Cost:
    """Runs one side in a process of its own.

    Raises:
        SystemExit: It failed; its last lines are shown.
    """
    command = [sys.executable, str(JOBS), side, str(project), str(output)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(
            f"error: {side} must end well. Received: exit code {done.returncode}, "
            f"and\n{done.stderr[-2000:]}"
        )
    cost = Cost(**json.loads(done.stdout.splitlines()[-1]))
    print(
        f"  {side}: {cost.seconds:.1f} s, CPU {cost.cpu:.1f} s, {cost.memory / 1e9:.2f} GB",
        file=sys.stderr,
        flush=True,
    )
    return cost


def report(rounds: list[tuple[Cost, ...]], rows: int) -> list[Figure]:
    """Prints the table; gives the figures."""
    table = []
    for name, costs in zip(("TFX", "Perennial"), zip(*rounds, strict=True), strict=True):
        whole = (median(cost.seconds for cost in costs), median(cost.cpu for cost in costs))
        memory = max(cost.memory for cost in costs)
        table.append((name, *(f"{value:.1f}" for value in whole), f"{memory / 1e9:.2f}"))
        table += [
            (f"{name}: {part}", f"{median(cost.parts[part] for cost in costs):.1f}", "", "")
            for part in costs[0].parts
        ]
    print_table((f"{rows:,} rows", "seconds", "CPU seconds", "peak GB, libraries included"), table)
    return [
        Figure(
            "beside TFX",
            median(ours.seconds / tfx.seconds for tfx, ours in rounds),
            at_most=MOST_TIME,
        ),
        Figure("CPU beside TFX", median(ours.cpu / tfx.cpu for tfx, ours in rounds)),
        Figure(
            "peak", max(ours.memory for _, ours in rounds) / 1e9, at_most=MOST_MEMORY, unit=" GB"
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
