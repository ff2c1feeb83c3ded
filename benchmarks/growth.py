"""Measures how each step's seconds and memory grow with the rows of a span, and with the window.

The real taxi trips again and again, with jitter and ids of their own. Memory is the peak of the
proportional set sizes (PSS) of all processes of the run while a step's tasks were at work; the
libraries alone are about a gigabyte of it.

    python benchmarks/growth.py             # 15 thousand and 150 thousand trips in a span
    python benchmarks/growth.py --full      # 1.5 million, too
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from _cost import memory_of_tree, sample_until
from _figures import TAXI_CSV, Figure, conclude, print_table, skip_without
from _taxi import Trips, make_project

SIZES = (15_000, 150_000)
FULL = 1_500_000
STEPS = 200  # of training: how many has nothing to do with the rows
WINDOWS = (2, 10)
SPAN = 15_000  # rows of each span when the window grows
MOST_GROWTH = 1.15  # times the memory at the smaller window, for the step that grows most


@dataclass
class StepCosts:
    """Holds what each step of one run took.

    Seconds, and the peak memory in bytes while it was at work.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def main() -> int:
    """Measures everything and prints the tables."""
    parser = argparse.ArgumentParser(
        description="Measure how steps grow with rows and with the window."
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, metavar="ROWS", help="rows of a span"
    )
    parser.add_argument(
        "--span",
        type=int,
        default=SPAN,
        metavar="ROWS",
        help="rows of a span when the window grows",
    )
    parser.add_argument("--full", action="store_true", help=f"{FULL:,} rows, too")
    parser.add_argument("--csv", type=Path, default=TAXI_CSV, metavar="PATH", help="the trips")
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results"
    )
    arguments = parser.parse_args()
    skip_without(arguments.csv)
    os.environ["PERENNIAL_WARM"] = "off"  # what works for a run is its child then
    began = time.monotonic()
    trips, sizes = (
        Trips.read(arguments.csv),
        [*arguments.sizes, *([FULL] if arguments.full else [])],
    )
    with tempfile.TemporaryDirectory() as scratch:
        costs = {size: measure_size(Path(scratch) / str(size), trips, size) for size in sizes}
        figures = report_sizes(costs)
        small, large = measure_windows(Path(scratch) / "windows", trips, arguments.span)
    figures += report_windows(small, large, arguments.span)
    return conclude("growth", figures, began)


def measure_size(folder: Path, trips: Trips, size: int) -> StepCosts:
    """Measures the first run on one span of so many rows."""
    project = make_project(folder, 1, STEPS, eval_steps=25)
    trips.write_span(project / "data" / "1.csv", 0, size, jitter=True)
    return run(project)


def measure_windows(folder: Path, trips: Trips, span: int) -> tuple[StepCosts, StepCosts]:
    """Runs with one new span, at the smaller and at the larger window."""
    small, large = WINDOWS
    project = make_project(folder, large, STEPS, eval_steps=25)
    for number in range(large):
        trips.write_span(project / "data" / f"{number}.csv", number, span, jitter=True)
    run(project)
    trips.write_span(project / "data" / f"{large}.csv", large, span, jitter=True)
    at_large = run(project)
    path = project / "project.yaml"
    settings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["data"]["window"] = small
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    trips.write_span(project / "data" / f"{large + 1}.csv", large + 1, span, jitter=True)
    return run(project), at_large


def run(folder: Path) -> StepCosts:
    """Runs the loop once, and samples memory while each step is at work."""
    from rich.console import Console

    from perennial.project import load_project
    from perennial.runner import project_run

    costs = StepCosts()
    at_work: dict[str, int] = defaultdict(int)

    class Watched(project_run.StepDisplay):
        """Hears of every task, as the display does."""

        def started(self, step: str) -> None:
            at_work[step] += 1
            super().started(step)

        def finished(self, step: str, end: Any) -> None:
            at_work[step] -= 1
            super().finished(step, end)

    ended = threading.Event()

    def sample() -> None:
        memory = memory_of_tree(os.getpid())
        for step in [step for step, tasks in list(at_work.items()) if tasks]:
            costs.memory[step] = max(costs.memory[step], memory)

    original, project_run.StepDisplay = project_run.StepDisplay, Watched  # type: ignore[misc]
    sampler = threading.Thread(target=sample_until, args=(ended, sample), daemon=True)
    sampler.start()
    output = io.StringIO()
    try:
        result = project_run.run_project(
            load_project(folder), project_run.RunOptions(), Console(file=output)
        )
    finally:
        project_run.StepDisplay = original  # type: ignore[misc]
        ended.set()
        sampler.join()
    if result.exit_code:
        sys.exit(f"error: the run must succeed. Received: {result.ended.reasons}")
    print(f"  {folder.name}: {sum(result.seconds.values()):.0f} s", file=sys.stderr, flush=True)
    costs.seconds = result.seconds
    return costs


def report_sizes(costs: dict[int, StepCosts]) -> list[Figure]:
    """Prints seconds and memory of each step by size, with the slopes.

    Gives the total's and the steepest step's.
    """
    smallest, *_, largest = sorted(costs)
    thousands = (largest - smallest) / 1000
    rows, slopes = [], {}
    for step in costs[largest].seconds:
        seconds = [costs[size].seconds.get(step, 0.0) for size in sorted(costs)]
        memory = [costs[size].memory.get(step, 0) / 2**20 for size in sorted(costs)]
        slope = (seconds[-1] - seconds[0]) / thousands
        # A step too short to be sampled has no memory of its own.
        slopes[step] = (memory[-1] - memory[0]) / thousands if all(memory) else 0.0
        cells = [
            *(f"{value:.1f}" for value in seconds),
            f"{1000 * slope:.1f}",
            *(f"{value:,.0f}" for value in memory),
        ]
        rows.append((step, *cells, f"{slopes[step]:.2f}"))
    names: Sequence[str] = [f"{size:,}" for size in sorted(costs)]
    head = ("step", *(f"s at {name}" for name in names), "ms per 1,000 rows")
    print_table((*head, *(f"MiB at {name}" for name in names), "MiB per 1,000 rows"), rows)
    steepest = max(slopes, key=lambda step: slopes[step])
    peak = max(costs[largest].memory.values(), default=0) / 2**30
    total = sum(costs[largest].seconds.values()) - sum(costs[smallest].seconds.values())
    return [
        Figure(f"peak at {largest:,} rows", peak, at_most=24.0, unit=" GiB"),
        Figure("all steps, per 1,000 rows", 1000 * total / thousands, unit=" ms"),
        Figure("steepest memory, per 1,000 rows", slopes[steepest], unit=" MiB"),
    ]


def report_windows(small: StepCosts, large: StepCosts, span: int) -> list[Figure]:
    """Prints the memory of each step at both windows; gives the greatest growth."""
    steps = [step for step in large.memory if small.memory.get(step)]
    growth = {step: large.memory[step] / small.memory[step] for step in steps}
    rows = [
        (
            step,
            *(f"{costs.memory[step] / 2**20:,.0f}" for costs in (small, large)),
            f"{growth[step]:.2f}",
        )
        for step in steps
    ]
    print(f"\nmemory of each step, one new span of {span:,} rows\n")
    print_table(("step", *(f"MiB, window of {window}" for window in WINDOWS), "ratio"), rows)
    return [
        Figure(
            "memory at a window of 10 beside 2, worst step",
            max(growth.values()),
            at_most=MOST_GROWTH,
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
