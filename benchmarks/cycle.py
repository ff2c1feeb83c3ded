"""Measures the cycle beside TFX.

Its taxi pipeline under LocalDagRunner, and `perennial run`, in turn, in one go.

Both train on the same 15,000 real taxi trips, with the same number of steps, as commands of their
own. Perennial gets them as spans; the window holds them all, so a new span takes the place of the
oldest and the number of rows stays. TFX gets the same files. Every candidate is promoted and every
model pushed.

    python benchmarks/cycle.py                # three rounds
    python benchmarks/cycle.py --rounds 1     # one, for a first look
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from _cost import Cost, measure, median_cost, wait_for_warm_process
from _figures import ROOT, TAXI_CSV, Figure, conclude, print_table, skip_without
from _server import PERENNIAL, Server, serve
from _taxi import Trips, make_project

ROWS = 15_000
WINDOWS = (10, 50)
TRIP = {
    "fare": 12.5,
    "trip_miles": 3.1,
    "trip_start_month": 4,
    "trip_start_day": 6,
    "trip_start_hour": 19,
    "payment_type": "Credit Card",
}
TFX, OURS, READY = "TFX", "perennial, cold process", "perennial, ready process"
COLD, NOTHING = "cold", "nothing new"
NEW_SPAN = {window: f"one new span, window of {window}" for window in WINDOWS}
TARGETS = {
    (COLD, OURS): 0.8,
    (NOTHING, OURS): 0.05,
    (NOTHING, READY): 0.05,
    **{(case, OURS): 0.5 for case in NEW_SPAN.values()},
    **{(case, READY): 0.25 for case in NEW_SPAN.values()},
}
Run = Callable[[str, Path], None]


def main() -> int:
    """Measures everything and prints the tables."""
    parser = argparse.ArgumentParser(description="Measure the whole cycle beside TFX's.")
    parser.add_argument(
        "--rounds", type=int, default=3, metavar="N", help="how often each is measured (default: 3)"
    )
    parser.add_argument(
        "--steps", type=int, default=1000, metavar="N", help="training steps (default: 1000)"
    )
    parser.add_argument(
        "--without-ready", action="store_true", help="leave out the process that is kept ready"
    )
    parser.add_argument("--csv", type=Path, default=TAXI_CSV, metavar="PATH", help="the trips")
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results"
    )
    arguments = parser.parse_args()
    skip_without(arguments.csv)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        cycle = Cycle(
            Path(scratch), Trips.read(arguments.csv), arguments.steps, not arguments.without_ready
        )
        try:
            cycle.prepare()
            for number in range(arguments.rounds):
                cycle.run_round(number)
        finally:
            if cycle.with_ready:
                subprocess.run([PERENNIAL, "warm", "stop"], check=False, capture_output=True)
    return conclude("cycle", cycle.report(), began)


@dataclass
class Cycle:
    """Measures in rounds.

    Each starts from nothing, but for the project with 50 spans, which is prepared once.
    """

    folder: Path
    trips: Trips
    steps: int
    with_ready: bool
    costs: dict[tuple[str, str], list[Cost]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    landed: dict[Path, int] = field(default_factory=lambda: defaultdict(int))

    def prepare(self) -> None:
        """Makes the project with a window of 50, whose spans are trained on already."""
        self.many = self.make_project(self.folder / "window-50", WINDOWS[1])
        if self.with_ready:
            wait_for_warm_process(PERENNIAL, self.many)
        measure([PERENNIAL, "run", self.many])

    def run_round(self, number: int) -> None:
        """Measures everything once, TFX and Perennial in turn."""
        folder = self.folder / f"round-{number}"
        data, root = folder / "tfx" / "data", folder / "tfx" / "root"
        few = {
            run: self.make_project(folder / name, WINDOWS[0]) for name, run in self.runs().items()
        }
        for span in range(WINDOWS[0]):
            self.write_for_tfx(data, span)
        self.run_tfx(COLD, data, root)
        for run, project in few.items():
            run(COLD, project)

        self.write_for_tfx(data, WINDOWS[0])
        (data / "0.csv").unlink()
        self.run_tfx(NEW_SPAN[WINDOWS[0]], data, root)
        for run, project in few.items():
            with serve(project, "taxi", TRIP) as server:
                self.follow(project, server, run)
        # Its rows are the same at a window of 50, so TFX, which does everything again, is not
        # measured twice.
        self.costs[NEW_SPAN[WINDOWS[1]], TFX] = self.costs[NEW_SPAN[WINDOWS[0]], TFX]
        for run in few:
            self.land(self.many, WINDOWS[1])
            run(NEW_SPAN[WINDOWS[1]], self.many)

        # TFX compares with the model that it blessed last: only after one more run is nothing new
        # to any component.
        measure(tfx_command(data, root, self.steps), {"PYTHONPATH": str(ROOT)})
        self.run_tfx(NOTHING, data, root)
        for run, project in few.items():
            run(NOTHING, project)

    def runs(self) -> dict[str, Run]:
        """Gives the ways to run the loop."""
        return {"own": self.run_ours} | ({"ready": self.run_ready} if self.with_ready else {})

    def report(self) -> list[Figure]:
        """Prints the tables; gives the figures."""
        rows, figures = [], []
        contenders = (OURS, READY) if self.with_ready else (OURS,)
        for case in (COLD, NOTHING, *NEW_SPAN.values()):
            peer = median_cost(self.costs[case, TFX])
            for contender in (TFX, *contenders):
                cost = median_cost(self.costs[case, contender])
                ratios = cost.seconds / peer.seconds, cost.cpu / peer.cpu, cost.memory / peer.memory
                numbers = f"{cost.seconds:.1f}", f"{cost.cpu:.1f}", f"{cost.memory / 2**30:.2f}"
                rows.append(
                    (f"{case}: {contender}", *numbers, *(f"{ratio:.2f}" for ratio in ratios))
                )
                if contender != TFX:
                    name = f"{case}, {contender.partition(', ')[2]}"
                    figures.append(Figure(name, ratios[0], at_most=TARGETS.get((case, contender))))
        head = (
            "case",
            "seconds",
            "CPU seconds",
            "peak GiB",
            "seconds beside TFX",
            "CPU beside",
            "memory beside",
        )
        print_table(head, rows)
        for contender in contenders:
            answer = median(self.answers[contender])
            print(
                "\nfrom a span's landing to the new version's first answer over HTTP: "
                f"{answer:.1f} s ({contender})"
            )
            figures.append(
                Figure(f"landing to answer, {contender.partition(', ')[2]}", answer, unit=" s")
            )
        return figures

    def make_project(self, folder: Path, window: int) -> Path:
        """Makes a project with its window full."""
        project = make_project(folder, window, self.steps, eval_steps=150)
        for _ in range(window):
            self.land(project, window)
        return project

    def land(self, project: Path, window: int) -> None:
        """Lands the next span of a project."""
        number = self.landed[project]
        self.trips.write_span(project / "data" / f"{number}.csv", number, ROWS // window)
        self.landed[project] += 1

    def write_for_tfx(self, data: Path, number: int) -> None:
        """Writes the same span for TFX."""
        self.trips.write_span(data / f"{number}.csv", number, ROWS // WINDOWS[0])

    def run_tfx(self, case: str, data: Path, root: Path) -> None:
        """Runs TFX's pipeline and keeps what it cost."""
        self.keep(
            case, TFX, measure(tfx_command(data, root, self.steps), {"PYTHONPATH": str(ROOT)})
        )

    def run_ours(self, case: str, project: Path) -> None:
        """Runs the loop in processes of its own."""
        self.keep(case, OURS, measure([PERENNIAL, "run", project], {"PERENNIAL_WARM": "off"}))

    def run_ready(self, case: str, project: Path) -> None:
        """Runs the loop with the process that is kept ready."""
        wait_for_warm_process(PERENNIAL, project)
        self.keep(case, READY, measure([PERENNIAL, "run", project]))

    def follow(self, project: Path, server: Server, run: Run) -> None:
        """Lands a span beside a server and runs the loop.

        Notes when a version answers that did not before.
        """
        before, done = server.version(), threading.Event()
        contender = READY if run == self.run_ready else OURS

        def watch(began: float) -> None:
            while not done.wait(0.2):
                if (version := server.version()) and version != before:
                    self.answers[contender].append(time.monotonic() - began)
                    return

        self.land(project, WINDOWS[0])
        watcher = threading.Thread(target=watch, args=(time.monotonic(),))
        watcher.start()
        run(NEW_SPAN[WINDOWS[0]], project)
        watcher.join(30)
        done.set()
        if watcher.is_alive():
            sys.exit(
                "error: the server must answer with the new version within 30 s of the run. "
                "Received: the old one"
            )

    def keep(self, case: str, contender: str, cost: Cost) -> None:
        """Notes a cost, and says so: the benchmark takes a while."""
        self.costs[case, contender].append(cost)
        print(f"  {case}, {contender}: {cost.seconds:.1f} s, CPU {cost.cpu:.1f} s, "
        f"{cost.memory / 2**30:.2f} GiB",
              file=sys.stderr, flush=True)  # fmt: skip


def tfx_command(data: Path, root: Path, steps: int) -> list[str | Path]:
    """Gives the command that runs TFX's pipeline."""
    return [sys.executable, Path(__file__).parent / "_tfx_taxi.py", data, root, str(steps), "150"]


if __name__ == "__main__":
    sys.exit(main())
