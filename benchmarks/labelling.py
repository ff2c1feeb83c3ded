"""Measures what a label is worth: chosen by the queue, and at random.

From a model of few labels, the product's own draw chooses which examples are labelled next, again
and again; the same model is fitted on what is labelled. Measured are its errors on examples that
nobody chose from, and whether the metric that the chosen labels give is the true one. The digits
are scikit-learn's, the trips are real; the model is scikit-learn's, so that ten seeds take minutes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from _figures import TAXI_CSV, Figure, conclude, print_table

from perennial.evaluation.bootstrap import mean_interval
from perennial.production.label_queue import (
    QueueShares,
    draw,
    give_chances,
    measure_uncertainty,
)
from perennial.production.suspect_labels import rank_suspects

Array = np.ndarray[Any, np.dtype[Any]]
SEEDS = 10
CONFIDENCE = 0.95
TRIPS = 6000


@dataclass(frozen=True)
class Data:
    """Examples with the labels that a person would give, and how many are asked for."""

    name: str
    features: Array
    labels: Array
    first: int
    batches: tuple[int, ...]
    model: Callable[[int], Any]


@dataclass
class Outcome:
    """Of one seed and one way to choose: test errors after each batch, and of the live metric."""

    errors: list[float]
    bias: list[float]
    widths: list[float]
    held: list[bool]


def main() -> int:
    """Measures both data sets and prints the table."""
    began = time.monotonic()
    sets = [digits()] + ([taxi()] if TAXI_CSV.exists() else [])
    rows, figures = [], []
    for data in sets:
        queue = [labelled(data, seed, by_queue) for seed in range(SEEDS)]
        random = [labelled(data, seed, at_random) for seed in range(SEEDS)]
        for step, count in enumerate(np.cumsum(data.batches) + data.first):
            gains = np.array(
                [r.errors[step] - q.errors[step] for q, r in zip(queue, random, strict=True)]
            )
            interval = mean_interval(gains, CONFIDENCE)
            rows.append(
                (
                    f"{data.name}, {count} labels",
                    f"{np.mean([r.errors[step] for r in random]):.4f}",
                    f"{np.mean([q.errors[step] for q in queue]):.4f}",
                    f"{interval.value:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})",
                )
            )
        figures.append(Figure(f"{data.name}, gain at the end, least", interval.low, at_least=0.0))
        bias = np.concatenate([q.bias for q in queue])
        error = bias.std(ddof=1) / np.sqrt(len(bias))
        width = np.mean(np.concatenate([q.widths for q in queue]))
        plain = np.mean(np.concatenate([r.widths for r in random]))
        held = np.mean(np.concatenate([q.held for q in queue]))
        rows.append((f"{data.name}, bias of the live metric", "–", f"{bias.mean():+.4f}",
                     f"{error:.4f} standard error"))  # fmt: skip
        rows.append((f"{data.name}, width of its interval", f"{plain:.3f}", f"{width:.3f}",
                     f"held {held:.0%}"))  # fmt: skip
        figures.append(
            Figure(f"{data.name}, bias in standard errors", abs(bias.mean()) / error, at_most=3)
        )
    print_table(("", "at random", "by the queue", "difference"), rows)
    print()
    suspects = [planted_flips(seed) for seed in range(SEEDS)]
    found, right = np.mean(suspects, axis=0)
    print_table(
        ("one label in twenty wrong", "found", "of those named, wrong"),
        [("digits", f"{found:.0%}", f"{right:.0%}")],
    )
    figures.append(Figure("wrong labels found", 100 * found, at_least=80, unit="%"))
    figures.append(Figure("of those named, wrong", 100 * right, at_least=60, unit="%"))
    return conclude("labelling", figures, began)


def digits() -> Data:
    """1,797 images of digits."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    images, labels = load_digits(return_X_y=True)
    return Data("digits", images / 16, labels, 50, (50, 50, 50, 50),
                lambda seed: MLPClassifier((64,), max_iter=400, random_state=seed))  # fmt: skip


def taxi() -> Data:
    """Trips of Chicago's taxis; the label: was the tip more than a fifth of the fare?"""
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    table = pd.read_csv(TAXI_CSV)
    table = table[(table["fare"] > 0) & table["tips"].notna()].iloc[:TRIPS]
    numbers = table[["trip_miles", "fare", "trip_seconds"]].fillna(0).clip(lower=0)
    clocks = table[["trip_start_hour", "trip_start_day", "trip_start_month", "payment_type"]]
    features = np.hstack([np.log1p(numbers), pd.get_dummies(clocks.astype(str)).to_numpy(float)])
    labels = (table["tips"] > 0.2 * table["fare"]).to_numpy(int)
    return Data("taxi", features, labels, 100, (100, 100, 100, 100),
                lambda _seed: LogisticRegression(C=1.0, max_iter=500))  # fmt: skip


Choose = Callable[[Array, Array, int, np.random.Generator], tuple[Array, Array]]


def by_queue(
    probabilities: Array, places: Array, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Chooses as the product does; gives the rows and the chances of all."""
    chances = give_chances(count, measure_uncertainty(probabilities), None, QueueShares())
    return draw(chances, places, rng), chances


def at_random(
    probabilities: Array, places: Array, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Chooses evenly."""
    chances = np.full(len(places), count / len(places))
    return rng.choice(len(places), count, replace=False), chances


def labelled(data: Data, seed: int, choose: Choose) -> Outcome:
    """Labels batch by batch, fitting the model after each."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data.labels))
    test, pool = order[: len(order) // 3], order[len(order) // 3 :]
    known = list(pool[: data.first])
    outcome = Outcome([], [], [], [])
    for count in data.batches:
        model = data.model(seed).fit(data.features[known], data.labels[known])
        open_ = np.setdiff1d(pool, known)
        probabilities = model.predict_proba(data.features[open_])
        rows, chances = choose(probabilities, data.features[open_], count, rng)
        measure(outcome, model.classes_, probabilities, data.labels[open_], rows, chances)
        known += list(open_[rows])
        again = data.model(seed).fit(data.features[known], data.labels[known])
        outcome.errors.append(loss(again, data.features[test], data.labels[test]))
    return outcome


def measure(
    outcome: Outcome,
    classes: Array,
    probabilities: Array,
    labels: Array,
    rows: Array,
    chances: Array,
) -> None:
    """Compares the accuracy that the chosen labels give with that of all open examples."""
    right = (classes[probabilities.argmax(axis=1)] == labels).astype(float)
    interval = mean_interval(right[rows], CONFIDENCE, weights=1 / chances[rows])
    outcome.bias.append(interval.value - right.mean())
    outcome.widths.append(interval.high - interval.low)
    outcome.held.append(interval.low <= right.mean() <= interval.high)


def planted_flips(seed: int) -> tuple[float, float]:
    """Gives wrong labels to one digit in twenty; how many are found, and how many found are wrong.

    The model answers about images that it was not fitted on.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    data, rng = digits(), np.random.default_rng(seed)
    labels = data.labels.copy()
    wrong = rng.choice(len(labels), len(labels) // 20, replace=False)
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
    model = LogisticRegression(max_iter=300)
    answers = cross_val_predict(model, data.features, labels, cv=5, method="predict_proba")
    suspects = rank_suspects(labels, answers)
    hits = len(set(suspects) & set(wrong.tolist()))
    return hits / len(wrong), hits / max(len(suspects), 1)


def loss(model: Any, features: Array, labels: Array) -> float:
    """Gives the share of errors of many classes, and the log loss of two."""
    probabilities = model.predict_proba(features)
    if probabilities.shape[1] > 2:
        return float(np.mean(model.classes_[probabilities.argmax(axis=1)] != labels))
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


if __name__ == "__main__":
    sys.exit(main())
