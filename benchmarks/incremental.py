"""Measures what a new span costs when the window is 1, 10 or 50 spans.

Seconds and bytes read by the data steps.

One project with real handwritten digits, drawn again and again into spans of the same size. All
spans but the newest were there in earlier runs. The peer is the same pipeline with everything to
do: its first run over 50 new spans.

The data steps are everything until the window is analysed: select_spans, prepare_span,
validate_data and analyse_features. What follows reads the whole
window by nature: a model is trained on all of it, and transform_features, shown beside, writes what
training reads.

Bytes are the sizes of the files that were there before and were read, by their access times; hard
links count once. A file system in memory that keeps every access time is mounted for this, which
needs root.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from _figures import Figure, conclude, print_table

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
WINDOWS = (1, 10, 50)
ROWS = 2000
REPEATS = 2
TARGET = 1.5  # times the cost at a window of 1
# Rules of the example about its own small days; these spans are larger and have other ids.
DAY_RULES = ("expect_table_row_count_to_be_between", "expect_column_values_to_match_regex")


@dataclass
class Watch:
    """Hears of the steps of a run.

    Seconds from its start without the imports, and what the data steps read.
    """

    folder: Path
    began: float = field(default_factory=time.monotonic)
    imports: float = 0.0
    data_done: float = 0.0
    landed_bytes: int = 0
    artifact_bytes: int = 0
    starts: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    before: set[int] = field(default_factory=set)
    since: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.before = {path.stat().st_ino for path in self.folder.rglob("*") if path.is_file()}

    def started(self, step: str) -> None:
        """Hears that a task began."""
        self.starts.setdefault(step, time.monotonic())

    def finished(self, step: str, end: str) -> None:
        """Hears that a task ended.

        The data steps are done when the window was analysed, and nothing else has read yet.
        """
        self.seconds[step] = time.monotonic() - self.starts[step]
        if step == "analyse_features":
            self.data_done = time.monotonic() - self.began - self.imports
            self.landed_bytes = self.read(self.folder / "data")
            self.artifact_bytes = self.read(self.folder / ".perennial")

    def step_ended(self, step: str) -> None:
        """Hears that no more tasks of a step will come."""

    def imported(self, step: str, seconds: float) -> None:
        """Adds what the steps waited for imports: no part of a span's cost."""
        self.imports += seconds

    def noted(self, line: str) -> None:
        """Hears of something that a person should know of."""

    def read(self, folder: Path) -> int:
        """Bytes of the files below a folder that were there before and have been read since.

        Hard links count once.
        """
        sizes = {}
        for path in folder.rglob("*"):
            if (
                path.is_file()
                and (status := path.stat()).st_atime > self.since
                and status.st_ino in self.before
            ):
                sizes[status.st_ino] = status.st_size
        return sum(sizes.values())


@dataclass(frozen=True)
class Cost:
    """Of one run's data steps, and of its transform_features."""

    seconds: float
    landed_bytes: int
    artifact_bytes: int
    transform_seconds: float


def main() -> int:
    """Measures every window and prints the table."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, access_times_kept(Path(scratch)):
        folder = make_project(Path(scratch) / "digits")
        for number in range(max(WINDOWS)):
            land(folder, number)
        everything = run(folder, max(WINDOWS))
        costs: dict[int, list[Cost]] = {window: [] for window in WINDOWS}
        number = max(WINDOWS)
        for _ in range(REPEATS):
            for window in WINDOWS:
                land(folder, number)
                number += 1
                costs[window].append(run(folder, window))
    print_costs(everything, costs)
    medians = {window: median(costs[window]) for window in WINDOWS}
    ratio = medians[max(WINDOWS)].seconds / medians[1].seconds
    spared = everything.seconds / medians[max(WINDOWS)].seconds
    figures = [
        Figure(f"a new span at a window of {max(WINDOWS)} beside 1", ratio, at_most=TARGET),
        Figure("everything again beside a new span", spared, at_least=1),
    ]
    return conclude("incremental", figures, began)


def print_costs(everything: Cost, costs: dict[int, list[Cost]]) -> None:
    """The medians, and the peer."""
    head = (
        f"window, spans of {ROWS:,} rows",
        "data steps",
        "landed data read",
        "artifacts read",
        "transform_features",
    )
    cells = []
    rows = {f"{window}, one of them new": median(seconds) for window, seconds in costs.items()}
    for name, cost in {**rows, f"{max(WINDOWS)}, all of them new": everything}.items():
        landed, artifacts = (
            f"{size / 1e6:.2f} MB" for size in (cost.landed_bytes, cost.artifact_bytes)
        )
        cells.append(
            (name, f"{cost.seconds:.1f} s", landed, artifacts, f"{cost.transform_seconds:.1f} s")
        )
    print_table(head, cells)


def median(costs: list[Cost]) -> Cost:
    """The run with the median seconds."""
    middle = statistics.median_low([cost.seconds for cost in costs])
    return next(cost for cost in costs if cost.seconds == middle)


def make_project(folder: Path) -> Path:
    """The digits project, with training as short as it can be: it is not what is measured."""
    folder.mkdir()
    for name in ("model.py", "schema.pbtxt"):
        shutil.copy(DIGITS / name, folder / name)
    suite = json.loads((DIGITS / "expectations.json").read_text())
    suite["expectations"] = [
        rule for rule in suite["expectations"] if rule["type"] not in DAY_RULES
    ]
    (folder / "expectations.json").write_text(json.dumps(suite))
    return folder


def configure(folder: Path, window: int) -> None:
    """Writes the settings with another window."""
    settings: dict[str, Any] = yaml.safe_load((DIGITS / "project.yaml").read_text())
    settings["data"]["window"] = window
    settings["data"]["spans"] = "data/{SPAN}.parquet"
    settings |= {
        "stabilise": {"draws": 1, "steps": 2},
        "train": {"instances": 1, "epochs": 1, "batch_size": 256},
    }
    gate = {"metric": "accuracy", "mode": "not_worse", "margin": 0.9, "trivial": "warn"}
    settings["gate"] = gate
    (folder / "project.yaml").write_text(yaml.safe_dump(settings))


def land(folder: Path, number: int) -> None:
    """Lands a span: digits drawn with replacement, under ids of their own."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    drawn = np.random.default_rng(number).integers(len(images), size=ROWS)
    table = pa.table(
        {
            "id": [f"span-{number}-row-{row}" for row in range(ROWS)],
            "date": [str(number)] * ROWS,
            "image": pa.array(list(images[drawn].astype("float32")), pa.list_(pa.float32())),
            "label": pa.array(labels[drawn].astype("int64")),
        }
    )
    (folder / "data").mkdir(exist_ok=True)
    temporary = folder / "data" / f"{number}.landing"
    pq.write_table(table, temporary)
    os.replace(temporary, temporary.with_suffix(".parquet"))


def run(folder: Path, window: int) -> Cost:
    """Runs the loop once with this window; gives what its data steps cost."""
    from perennial.ledger.task_lease import RUN_VARIABLE
    from perennial.project import load_project
    from perennial.runner.local_run import LocalRun
    from perennial.runner.project_run import hold_project, new_run_name
    from perennial.training.stages import choose_stages
    from pipelines.compile import compile_pipeline

    configure(folder, window)
    project, name = load_project(folder), new_run_name()
    place = project.state / "runs" / name
    compile_pipeline(place / "pipeline.yaml", choose_stages(project))
    watch = Watch(folder)
    local = LocalRun(
        place / "pipeline.yaml",
        project.state / "artifacts",
        place,
        place / "log",
        watch,
        environment={RUN_VARIABLE: name},
    )
    with hold_project(project, name):
        succeeded = local.execute({"project": str(folder)})
    if not succeeded:
        sys.exit(f"error: the run failed: {local.failures}")
    if not watch.data_done:
        sys.exit("error: the run did not reach analyse_features")
    return Cost(
        watch.data_done,
        watch.landed_bytes,
        watch.artifact_bytes,
        watch.seconds["transform_features"],
    )


@contextmanager
def access_times_kept(folder: Path) -> Iterator[None]:
    """Mounts a file system in memory on a folder; there, every reading changes the access time."""
    mount = ["mount", "-t", "tmpfs", "-o", "strictatime", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        sys.exit(
            "error: this benchmark must be run as root, to mount a file system that keeps access "
            "times"
        )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


if __name__ == "__main__":
    sys.exit(main())
