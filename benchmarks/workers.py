"""Measures a training on one and on two workers of this machine: examples/s, and efficiency.

The digits project's own model on ten spans of real digits, trained as `perennial run` trains it
with `strategy: multi_worker`. One worker has one core, and then both; two workers share both.
Efficiency is the rate of two workers beside twice that of one on one core: 1 where they cost
nothing. A second belongs to an epoch as users see it: its steps, the measure of the eval split and
the checkpoint. The first epoch of a training, which traces the functions, is left out. Rates are
medians over epochs, in rounds in which every contender trains once.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from _figures import Figure, conclude, print_table
from incremental import configure, land, make_project
from local_runner import run_by_perennial

if TYPE_CHECKING:
    from schemas.records import Training

SPANS, ROUNDS, EPOCHS = 10, 2, 6
BATCHES = (32, 256)
LEAST_EFFICIENCY = 0.7  # of the largest batches


@dataclass(frozen=True)
class Contender:
    """A training: on how many workers, which share how many cores."""

    workers: int
    cores: int

    def __str__(self) -> str:
        """Its name in the table."""
        named = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        return f"{named}, {self.cores} core{'s' if self.cores > 1 else ''}"


ALONE, BOTH = Contender(1, 1), Contender(2, 2)
CONTENDERS = (ALONE, Contender(1, 2), BOTH)


@dataclass(frozen=True)
class Prepared:
    """Holds what training reads: the project, and the folder of its features and first weights."""

    project: Any
    folder: Path

    def train(self, contender: Contender, batch_size: int, output: Path) -> None:
        """Trains, in a process of its own."""
        from components.train_model.step import Inputs, train_model
        from schemas.records import Instance

        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: contender.cores])
        train = self.project.settings.train.model_copy(
            update={
                "strategy": "multi_worker",
                "workers": contender.workers,
                "batch_size": batch_size,
                "epochs": EPOCHS,
                "patience": EPOCHS,
            }
        )
        settings = self.project.settings.model_copy(update={"train": train})
        features, weights = self.folder / "features", self.folder / "weights"
        inputs = Inputs(features, self.folder, weights)
        instance = Instance(name="instance-1", seed=17)
        train_model(replace(self.project, settings=settings), instance, inputs, None, output)


def main() -> int:
    """Measures and prints the table."""
    began = time.monotonic()
    if len(os.sched_getaffinity(0)) < BOTH.cores:
        print(f"skipped: two workers need {BOTH.cores} cores")
        return 0
    from perennial.tfx_compat import prepare_process

    prepare_process()
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(Path(scratch) / "digits")
        record, rates = measure(prepared, Path(scratch))
    print(f"{record.parameters:,} parameters, {record.train_examples:,} examples")
    rows, efficiencies = [], {}
    for batch_size in BATCHES:
        efficiencies[batch_size] = rates[BOTH, batch_size] / (2 * rates[ALONE, batch_size])
        for contender in CONTENDERS:
            rate = rates[contender, batch_size]
            beside = f"{rate / rates[ALONE, batch_size]:.2f}"
            efficiency = f"{efficiencies[batch_size]:.2f}" if contender == BOTH else ""
            rows.append(
                (f"batches of {batch_size}: {contender}", f"{rate:,.0f}", beside, efficiency)
            )
    print_table(("training", "examples/s", f"beside {ALONE}", "efficiency"), rows)
    figures = [
        Figure(
            f"efficiency of two workers, batches of {max(BATCHES)}",
            efficiencies[max(BATCHES)],
            at_least=LEAST_EFFICIENCY,
        )
    ]
    return conclude("workers", figures, began)


def prepare(folder: Path) -> Prepared:
    """Runs a project over all spans, as a user would, and stages what its training read."""
    from perennial.project import load_project
    from perennial.results.store import Results, reference_to

    make_project(folder)
    configure(folder, SPANS)
    for number in range(SPANS):
        land(folder, number)
    run_by_perennial(folder)
    project = load_project(folder)
    results = Results(project.root, project.state)
    for step, name in (("transform_features", "features"), ("stabilise_weights", "weights")):
        (stored,) = results.of_step(step)
        results.stage(reference_to(stored, name), folder / name)
    return Prepared(project, folder)


def measure(
    prepared: Prepared, scratch: Path
) -> tuple[Training, dict[tuple[Contender, int], float]]:
    """Gives the record of a training, and each contender's examples/s for each size of batches."""
    seconds: dict[tuple[Contender, int], list[float]] = {}
    for number in range(ROUNDS):
        for batch_size in BATCHES:
            for contender in CONTENDERS:
                output = scratch / f"{number}-{batch_size}-{contender.workers}-{contender.cores}"
                record = _train_in_child(prepared, contender, batch_size, output)
                seconds.setdefault((contender, batch_size), []).extend(_epoch_seconds(output))
    return record, {key: record.train_examples / median(each) for key, each in seconds.items()}


def _train_in_child(
    prepared: Prepared, contender: Contender, batch_size: int, output: Path
) -> Training:
    from schemas.records import Training

    process = multiprocessing.get_context("fork").Process(
        target=prepared.train, args=(contender, batch_size, output)
    )
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"error: the training on {contender} ended with code {process.exitcode}")
    return Training.read(output)


def _epoch_seconds(output: Path) -> list[float]:
    """Reads the seconds of all epochs but the first, from when their ends were logged."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from perennial.training.artifacts import LOGS

    events = EventAccumulator(str(output / LOGS / "eval"), size_guidance={"tensors": 0}).Reload()
    ends = [event.wall_time for event in events.Tensors("epoch_loss")]
    return [end - start for start, end in pairwise(ends)]


if __name__ == "__main__":
    sys.exit(main())
