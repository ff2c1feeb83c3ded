"""Simulated production that mostly sees the bad class.

How far the re-weighted accuracy is from the truth there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from components.evaluate_model.label_shift import estimate_shares

Array = np.ndarray[Any, np.dtype[Any]]

CLASSES, RUNS = 10, 400
TEST, REQUESTS = 5000, 5000
ACCURACY = np.array([*[0.98] * (CLASSES - 1), 0.7])
# Production: eight requests of ten are of the bad class.
SERVED = np.array([*[0.2 / (CLASSES - 1)] * (CLASSES - 1), 0.8])


@dataclass(frozen=True)
class Errors:
    """Absolute errors of the accuracy in serving over all runs, of 1: float64 [runs] each.

    `known` is what remains if the shares of the classes in serving were known instead of estimated.
    """

    weighted: Array
    known: Array
    plain: Array


def serving_errors(as_measured: bool) -> Errors:
    """Measures errors of a test split with just the true accuracies, or drawn at random."""
    rng = np.random.default_rng(5)
    errors = np.abs([one_error(rng, as_measured) for _ in range(RUNS)])
    return Errors(*errors.T)


def one_error(rng: Generator, as_measured: bool) -> tuple[float, float, float]:
    """Errors against the true accuracy in serving.

    Re-weighted, with known shares, and not re-weighted.
    """
    labels = np.arange(TEST) % CLASSES
    right = measure(labels) if as_measured else rng.random(TEST) < ACCURACY[labels]
    predicted = mistake(rng, labels, right)
    served = rng.choice(CLASSES, REQUESTS, p=SERVED)
    requested = mistake(rng, served, rng.random(REQUESTS) < ACCURACY[served])
    shares = estimate_shares(labels, predicted, requested)
    truth = float(ACCURACY @ SERVED)
    return (
        average(right, shares.weights[labels]) - truth,
        average(right, SERVED[labels]) - truth,
        right.mean() - truth,
    )


def measure(labels: Array) -> Array:
    """Tells which test examples are right, if each class is measured at just its true accuracy."""
    right = np.zeros(len(labels), dtype=bool)
    for number, accuracy in enumerate(ACCURACY):
        places = np.flatnonzero(labels == number)
        right[places[: round(accuracy * len(places))]] = True
    return right


def mistake(rng: Generator, labels: Array, right: Array) -> Array:
    """Draws what the model predicts.

    A wrong answer is most often the next class, else any other.
    """
    away = np.where(rng.random(len(labels)) < 0.5, 1, rng.integers(1, CLASSES, len(labels)))
    return np.where(right, labels, (labels + away) % CLASSES)


def average(right: Array, weights: Array) -> float:
    """The weighted accuracy."""
    return float(right @ weights / weights.sum())
