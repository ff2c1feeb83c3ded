"""Tiny NumPy models on simulated examples, trained in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from components.probe_model.probed_model import ProbedModel

Array = np.ndarray[Any, np.dtype[Any]]
Draw = Callable[[np.random.Generator, Array], Array]
"""Values of a suspect feature [n], given the labels [n]."""


def flag(share: float) -> Draw:
    """An innocent flag, which a share of the examples has."""
    return lambda random, labels: (random.random(len(labels)) < share).astype(np.int64)


def skewed(random: np.random.Generator, labels: Array) -> Array:
    """An innocent number with a long tail."""
    return np.exp(1.5 * random.normal(size=len(labels)))


def names(random: np.random.Generator, labels: Array) -> Array:
    """An innocent name: one scanner of three, of which one is rare."""
    return random.choice([b"siemens", b"philips", b"ge"], size=len(labels), p=[0.6, 0.35, 0.05])


def agreeing(share: float) -> Draw:
    """A flag that agrees with the label in a share of the examples."""
    return lambda random, labels: np.where(random.random(len(labels)) < share, labels, 1 - labels)


def scanner_of(share: float) -> Draw:
    """A name that agrees with the label in a share of the examples."""
    flags = agreeing(share)
    return lambda random, labels: np.where(flags(random, labels) == 1, b"siemens", b"philips")


def logistic(
    random: np.random.Generator, suspect: Draw, trained: int = 600, tested: int = 500
) -> ProbedModel:
    """A logistic model of three features and a suspect one, trained by gradient steps.

    On its test examples.
    """
    labels, columns = _examples(random, suspect, trained)
    design = _design(columns)
    weights = np.zeros((design.shape[1], 1))
    for _ in range(150):
        weights -= 0.5 * design.T @ (_sigmoid(design @ weights) - labels[:, np.newaxis]) / trained
    labels, columns = _examples(random, suspect, tested)
    return ProbedModel(lambda changed: _probabilities(_design(changed) @ weights), columns, labels)


def linear(
    random: np.random.Generator, weights: Sequence[float], examples: int = 300, noise: float = 1.0
) -> ProbedModel:
    """The true linear model of values, of features `a`, `b`, ..., each standard normal."""
    columns = {name: random.normal(size=examples) for name in "abcdefghijklmnop"[: len(weights)]}

    def predict(changed: Any) -> Array:
        return np.sum(
            [weight * changed[name] for weight, name in zip(weights, columns, strict=True)], axis=0
        )

    return ProbedModel(predict, columns, predict(columns) + noise * random.normal(size=examples))


def _examples(
    random: np.random.Generator, suspect: Draw, count: int
) -> tuple[Array, dict[str, Array]]:
    labels = random.integers(0, 2, count)
    signal = random.normal(size=(count, 3)) + 0.7 * labels[:, np.newaxis] * np.array(
        [1.0, 0.5, 0.0]
    )
    return labels, {"signal": signal, "suspect": suspect(random, labels)}


def _design(columns: Any) -> Array:
    suspect = columns["suspect"]
    if suspect.dtype.kind == "S":
        values = np.stack(
            [suspect == name for name in (b"siemens", b"philips", b"ge")], axis=1
        ).astype(float)
    else:
        values = np.clip(suspect, -10, 10)[:, np.newaxis].astype(float)
    return np.concatenate([columns["signal"], values, np.ones((len(suspect), 1))], axis=1)


def _sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def _probabilities(logits: Array) -> Array:
    one = _sigmoid(logits)
    return np.concatenate([1 - one, one], axis=1)
