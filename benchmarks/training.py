"""Measures the training loop beside Keras's own `fit`, and how long it waits for input.

The digits project's own model on all days of its data. Rates are medians over rounds in which
every contender runs
once, so that what else the machine does meets all of them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from _figures import Figure, conclude, print_table
from local_runner import DIGITS, FILES, run_by_perennial

if TYPE_CHECKING:
    import tensorflow as tf

    from perennial.training.trainer import Trainer

LEAST_RATIO = 1.0
GREATEST_WAIT = 0.10
ROUNDS, EPOCHS, DAYS = 7, 10, 12


@dataclass(frozen=True)
class Contender:
    """A way to train: its name, and a function that trains some epochs."""

    name: str
    train: Callable[[], None]


@dataclass(frozen=True)
class OneBatch:
    """Batches that cost nothing: the same one in memory, again and again."""

    features: Any
    labels: Any

    def dataset(
        self, start: int = 0, pipeline: int = 0, pipelines: int = 1, replicas: int = 1
    ) -> tf.data.Dataset:
        """The batch, endlessly."""
        import tensorflow as tf

        return (
            tf.data.Dataset.from_tensors((self.features, self.labels)).cache().repeat().prefetch(2)
        )


def main() -> int:
    """Measures and prints the table."""
    began = time.monotonic()
    from perennial.tfx_compat import prepare_process

    prepare_process()
    with tempfile.TemporaryDirectory() as scratch:
        project, features = prepare(Path(scratch) / "digits")
        contenders, examples = make_contenders(project, features)
        seconds = measure(contenders)
    rates = {name: examples * EPOCHS / median(rounds) for name, rounds in seconds.items()}
    ours, fit, _, free = rates.values()
    rows = [(name, f"{rate:,.0f}", f"{rate / fit:.2f}") for name, rate in rates.items()]
    print_table(("training", "examples/s", "beside `fit`"), rows)
    wait = max(0.0, 1 - ours / free)
    figures = [
        Figure("examples/s beside Keras's fit", ours / fit, at_least=LEAST_RATIO),
        Figure("time waiting for input", 100 * wait, at_most=100 * GREATEST_WAIT, unit="%"),
    ]
    return conclude("training", figures, began)


def prepare(folder: Path) -> tuple[Any, Any]:
    """Runs the project over all days, as a user would.

    Gives it and the transformed features of that run.
    """
    from perennial.project import load_project
    from perennial.results.store import Results, reference_to
    from perennial.training.transformed_features import TransformedFeatures

    folder.mkdir()
    for name in FILES:
        shutil.copy(DIGITS / name, folder / name)
    subprocess.run(
        [sys.executable, folder / "land.py", "--days", str(DAYS)], check=True, capture_output=True
    )
    run_by_perennial(folder)
    project = load_project(folder)
    results = Results(project.root, project.state)
    (transformed,) = results.of_step("transform_features")
    results.stage(reference_to(transformed, "features"), folder / "features")
    return project, TransformedFeatures(folder / "features", project.tasks)


def make_contenders(project: Any, features: Any) -> tuple[list[Contender], int]:
    """Lists the loop as `perennial run` has it, two ways of `fit`, and the loop without input."""
    from perennial.training.batches import BatchPlan, TrainingBatches

    train = project.settings.train
    batches = TrainingBatches(features, BatchPlan(train.batch_size, train.seed))
    one = OneBatch(*next(iter(batches.dataset())))
    contenders = [
        Contender(
            f"perennial, {train.steps_per_execution} steps a call",
            _loop(project, features, batches),
        ),
        Contender("Keras `fit`, arrays in memory", _fit(project, features, 1)),
        Contender(
            f"Keras `fit`, {train.steps_per_execution} steps a call", _fit(project, features, 16)
        ),
        Contender("perennial, the same batch again and again", _loop(project, features, one)),
    ]
    return contenders, features.count("train")


def measure(contenders: list[Contender]) -> dict[str, list[float]]:
    """Seconds of each contender in each round; a round before them pays for what is paid once."""
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(ROUNDS + 1):
        for contender in contenders:
            began = time.monotonic()
            contender.train()
            if number:
                seconds[contender.name].append(time.monotonic() - began)
    return seconds


def _loop(project: Any, features: Any, batches: Any) -> Callable[[], None]:
    from perennial.training.batches import BatchPlan, TrainingBatches
    from perennial.training.model_builder import ModelBuilder
    from perennial.training.strategy import choose_strategy
    from perennial.training.trainer import Trainer

    train = project.settings.train
    builder = ModelBuilder(project, features)
    trainer: Trainer = Trainer(builder.build, project.tasks, choose_strategy(train), train)
    trainer.feed(batches)
    steps = TrainingBatches(features, BatchPlan(train.batch_size, train.seed)).steps_per_epoch()
    return lambda: trainer.train([train.learning_rate] * steps * EPOCHS) and None


def _fit(project: Any, features: Any, steps_per_execution: int) -> Callable[[], None]:
    import keras

    from perennial.training.model_builder import ModelBuilder

    train = project.settings.train
    model = ModelBuilder(project, features).build()
    inputs, labels = features.split("train")
    (label,) = labels.values()
    adam = keras.optimizers.Adam(train.learning_rate)
    model.compile(adam, "sparse_categorical_crossentropy", steps_per_execution=steps_per_execution)
    arrays = {name: values.numpy() for name, values in inputs.items()}, label.numpy()
    return lambda: (
        model.fit(*arrays, batch_size=train.batch_size, epochs=EPOCHS, verbose=0) and None
    )


if __name__ == "__main__":
    sys.exit(main())
