"""Simulated production that mostly sees the bad class: how far the re-weighted accuracy is from the truth there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from components.evaluate_model.label_shift import ClassShares, estimate_shares

Array = np.ndarray[Any, np.dtype[Any]]

CLASSES, RUNS = 10, 300
TEST, REQUESTS = 5000, 5000
ACCURACY = np.array([*[0.98] * (CLASSES - 1), 0.7])
# Production: eight requests of ten are of the bad class.
SERVED = np.array([*[0.2 / (CLASSES - 1)] * (CLASSES - 1), 0.8])


def serving_errors() -> tuple[float, float, float]:
    """Mean absolute error and its 95% quantile, re-weighted, and the mean error of the plain accuracy."""
    rng = np.random.default_rng(5)
    found = np.array([one_error(rng) for _ in range(RUNS)])
    weighted = np.abs(found[:, 0])
    return float(weighted.mean()), float(np.quantile(weighted, 0.95)), float(np.abs(found[:, 1]).mean())


def one_error(rng: Generator) -> tuple[float, float]:
    """Errors of the re-weighted and of the plain accuracy against that on simulated production."""
    labels = np.arange(TEST) % CLASSES
    predicted = predict(rng, labels)
    served = rng.choice(CLASSES, REQUESTS, p=SERVED)
    requested = predict(rng, served)
    shares = estimate_shares(labels, predicted, requested)
    if not isinstance(shares, ClassShares):
        raise RuntimeError(f"the shares were refused: {shares}")
    right, weights = predicted == labels, shares.weights[labels]
    truth = float(ACCURACY @ SERVED)
    return float(right @ weights / weights.sum()) - truth, float(right.mean()) - truth


def predict(rng: Generator, labels: Array) -> Array:
    """What the model predicts: a wrong answer is most often the next class, else any other."""
    right = rng.random(len(labels)) < ACCURACY[labels]
    away = np.where(rng.random(len(labels)) < 0.5, 1, rng.integers(1, CLASSES, len(labels)))
    return np.where(right, labels, (labels + away) % CLASSES)
