"""Models of the building blocks, on real data, in a warm process."""

from __future__ import annotations

import collections
import csv
import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from perennial import blocks
from perennial.tasks import Task
from tests.perennial.folders import TAXI

Arrays = dict[str, np.ndarray[Any, Any]]
LENGTH, VOCABULARY = 16, 600
DIGIT = (Task("prediction", "multi_class", "digit"),)
TAXI_TASKS = (Task("tipped", "binary", "tipped"), Task("fare", "regression", "fare", weight=0.1))


@functools.cache
def digits() -> tuple[Arrays, Arrays]:
    """Scikit-learn's 1,797 digits in a fixed random order.

    `pixels` float32 [n, 64] from 0 to 1, and their numbers.
    """
    from sklearn.datasets import load_digits

    images, numbers = load_digits(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(images))
    return {"pixels": images[order].astype("float32") / 16}, {
        "prediction": numbers[order].astype("int64")
    }


@functools.cache
def trips(count: int = 6000) -> tuple[Arrays, Arrays]:
    """Real taxi trips in a fixed random order.

    Numbers, categories, and what was tipped and paid.
    """
    with TAXI.open() as file:
        rows = list(csv.DictReader(file))
    rows = [rows[number] for number in np.random.default_rng(1).permutation(len(rows))[:count]]
    companies = sorted({row["company"] for row in rows})
    payments = sorted({row["payment_type"] for row in rows})
    miles = np.array(
        [[float(row[name] or 0) for name in ("trip_miles", "trip_seconds")] for row in rows],
        "float32",
    )
    fares = np.array([float(row["fare"] or 0) for row in rows], "float32")
    tips = np.array([float(row["tips"] or 0) for row in rows])
    features = {
        "way": np.log1p(miles),
        "hour": np.array([int(row["trip_start_hour"]) for row in rows], "int64"),
        "payment": np.array([payments.index(row["payment_type"]) for row in rows], "int64"),
        "company": np.array([[companies.index(row["company"])] for row in rows], "int64"),
    }
    return features, {"tipped": (tips > 0.2 * fares).astype("int64"), "fare": np.log1p(fares)}


TABLE: dict[str, Any] = {
    "numeric": {"way": 2, "hour": 1},
    "categorical": {"payment": 10, "company": 120},
}


@functools.cache
def sentences(count: int = 4000) -> tuple[Arrays, Arrays]:
    """Sentences of the Python language reference as `words` int64 [n, LENGTH].

    Every second one runs backwards.

    The numbers are those of the most frequent words from 1 on, VOCABULARY + 1 for all others, and 0
    for no word.
    """
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    spoken = {
        tuple(re.findall(r"[a-z]+", found.lower())[:LENGTH])
        for found in re.split(r"[.:;]\s|\n\n", text)
    }
    chosen = sorted(words for words in spoken if len(words) >= 5)
    chosen = [
        chosen[number] for number in np.random.default_rng(1).permutation(len(chosen))[:count]
    ]
    ranked = collections.Counter(word for words in chosen for word in words).most_common(VOCABULARY)
    numbers = {word: number for number, (word, _) in enumerate(ranked, 1)}
    backwards = np.arange(len(chosen)) % 2
    found = np.zeros((len(chosen), LENGTH), "int64")
    for row, words in enumerate(chosen):
        found[row, : len(words)] = [
            numbers.get(word, VOCABULARY + 1) for word in words[:: -1 if backwards[row] else 1]
        ]
    return {"words": found}, {"prediction": backwards}


def part(arrays: Arrays, first: int, last: int | None = None) -> Arrays:
    """Rows of each array."""
    return {name: array[first:last] for name, array in arrays.items()}


def train(
    model: Any,
    features: Arrays,
    labels: Arrays,
    tasks: Sequence[Task],
    epochs: int,
    rate: float = 0.003,
) -> list[float]:
    """Trains with Adam in batches of 32; gives the mean loss of each epoch."""
    import keras
    import tensorflow as tf

    from perennial.training.losses import total_losses

    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(inputs: Any, truth: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(total_losses(tasks, truth, model(inputs, training=True)))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    count = len(next(iter(labels.values())))
    batches = (
        tf.data.Dataset.from_tensor_slices((features, labels))
        .shuffle(count, seed=1)
        .batch(32, True)
    )
    return [float(np.mean([step(*batch) for batch in batches])) for _ in range(epochs)]


def accuracy(model: Any, features: Arrays, labels: Arrays, task: str = "prediction") -> float:
    """Share of right classes."""
    found = model(features, training=False)[task].numpy()
    chosen = found.argmax(-1) if found.shape[1] > 1 else found[:, 0] > 0.5
    return float(np.mean(chosen == labels[task]))


def digits_model(learner: Any = None, *heads: blocks.Head) -> Any:
    """Digits, by default with a small residual learner and ten classes."""
    learner = learner or blocks.residual_groups(groups=2, blocks=1, filters=16)
    stem = blocks.image_stem("pixels", (8, 8, 1), flat=True, filters=8)
    return blocks.assemble(stem, learner, heads or blocks.multi_class(10))


def exported() -> dict[str, bool]:
    """Tells of each exported name whether it can be called and has a description."""
    found = {name: getattr(blocks, name) for name in blocks.__all__}
    return {name: callable(member) and bool(member.__doc__) for name, member in found.items()}


def argument_error(block: str, arguments: dict[str, Any]) -> str:
    """The message of the error that a block with these arguments raises, with its kind."""
    return error_of(getattr(blocks, block), **arguments)


def error_of(function: Any, *arguments: Any, **named: Any) -> str:
    """The message of the error that a call raises, with its kind."""
    try:
        function(*arguments, **named)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"
