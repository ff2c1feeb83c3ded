"""Simulated models that learned a planted covariate, or were given innocent features.

How often each is flagged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from components.probe_model.covariates import Suspect, probe_covariates
from components.probe_model.probed_model import ProbedModel
from schemas.project import CovariateSettings

Array = np.ndarray[Any, np.dtype[Any]]

MODELS, EXAMPLES, STEPS, RATE = 400, 1000, 200, 0.5
# Signal of the features that should be learned: alone they are right about 80% of the time.
SIGNAL = np.array([0.8, -0.6, 0.5, 0.0])


def flag_rates() -> tuple[float, float]:
    """Counts the shares of models of which the planted covariate or an innocent one is flagged."""
    rng = np.random.default_rng(3)
    planted = [flags(rng, {"scanner": True}) for _ in range(MODELS)]
    innocent = [flags(rng, {"camera": False, "rare": False, "age": False}) for _ in range(MODELS)]
    return float(np.mean(planted)), float(np.mean(innocent))


def flags(rng: Generator, suspects: dict[str, bool]) -> bool:
    """Tells whether any suspect feature of a newly trained logistic model is flagged.

    `suspects` maps a name to True where it was planted.
    """
    features = {"signal": rng.normal(size=(2 * EXAMPLES, len(SIGNAL)))}
    noise = rng.logistic(size=2 * EXAMPLES)
    labels = (features["signal"] @ SIGNAL + 0.5 * noise > 0).astype(int)
    features |= {
        name: draw(rng, name, labels if planted else None) for name, planted in suspects.items()
    }
    weights = train(
        {name: values[:EXAMPLES] for name, values in features.items()}, labels[:EXAMPLES]
    )
    columns = {name: values[EXAMPLES:] for name, values in features.items()}
    model = ProbedModel(lambda batch: predict(weights, batch), columns, labels[EXAMPLES:])
    named = [
        Suspect(name, columns[name], is_number=name == "age", is_read=True) for name in suspects
    ]
    return any(
        probe.flagged for probe in probe_covariates(model, named, CovariateSettings()).probes
    )


def draw(rng: Generator, name: str, labels: Array | None) -> Array:
    """Draws a feature: one that agrees with nine labels of ten, or one of chance.

    Chance is even, one in ten, or a skewed number.
    """
    count = 2 * EXAMPLES
    if labels is not None:
        return np.where(rng.random(count) < 0.9, labels, 1 - labels).astype(float)
    kinds = {
        "camera": rng.random(count) < 0.5,
        "rare": rng.random(count) < 0.1,
        "age": rng.exponential(size=count),
    }
    return np.asarray(kinds[name], dtype=float)


def train(features: dict[str, Array], labels: Array) -> Array:
    """Weights of a logistic model after some steps of gradient descent from none."""
    inputs = matrix(features)
    weights = np.zeros(inputs.shape[1])
    for _ in range(STEPS):
        weights -= RATE * inputs.T @ (sigmoid(inputs @ weights) - labels) / len(labels)
    return weights


def predict(weights: Array, features: Any) -> Array:
    """Class probabilities, float64 [n, 2]."""
    one = sigmoid(matrix(features) @ weights)
    return np.stack([1 - one, one], axis=1)


def matrix(features: Any) -> Array:
    """All features of the examples beside each other, with a column of ones."""
    columns = [values.reshape(len(values), -1) for _, values in sorted(features.items())]
    return np.concatenate([*columns, np.ones((len(columns[0]), 1))], axis=1)


def sigmoid(logits: Array) -> Array:
    """The logistic function."""
    return np.asarray(1 / (1 + np.exp(-logits)))
