"""Integrated gradients: what each transformed feature adds to the model's output.

The gradient of the output is averaged on the straight path from the average example to the example
itself, and multiplied by the distance. What is no real number (a place in a vocabulary) has no such
path: it is set to the commonest value instead, and gets the difference (occlusion). The output is
the probability of the predicted class, or the value.

Sources: Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks"; Zeiler and
Fergus 2014 (occlusion).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perennial.evaluation.prediction_table import Array

if TYPE_CHECKING:
    import tensorflow as tf

Tensors = dict[str, "tf.Tensor"]
Answer = Callable[[Tensors], "tf.Tensor"]
"""Transformed features, each [n, ...] -> class probabilities, float [n, classes], or values, float
[n]."""

# Examples in memory at once, with the activations of every layer.
_BATCH = 64


@dataclass(frozen=True)
class Explanations:
    """The reasons for the model's answers to examples.

    Attributes:
        attributions: What each feature adds: float64 [n, ...] in its own shape, or [n] where it was
            occluded.
        outputs: The explained outputs, float64 [n].
        baselines: The same of the average example, for the class that was predicted of the example,
            float64 [n].
        occluded: Features that are no real numbers.
    """

    attributions: dict[str, Array]
    outputs: Array
    baselines: Array
    occluded: list[str]

    @property
    def totals(self) -> dict[str, Array]:
        """Gives what each feature adds as a whole, float64 [n]."""
        return {
            name: parts.reshape(len(parts), -1).sum(axis=1)
            for name, parts in self.attributions.items()
        }

    @property
    def gaps(self) -> Array:
        """Gives what the attributions leave of the way from baseline to output, float64 [n].

        By the steps of the path, and by what occluded features do together with others.
        """
        return np.asarray(
            self.outputs - self.baselines - np.sum(list(self.totals.values()), axis=0)
        )


def average_example(features: Mapping[str, Array]) -> dict[str, Array]:
    """Gives the mean of real numbers and the commonest of other values: [1, ...] by feature."""
    return {name: _middle(values) for name, values in features.items()}


def explain(
    answer: Answer, features: Mapping[str, Array], baseline: Mapping[str, Array], steps: int
) -> Explanations:
    """Attributes the model's output on every example to its transformed features.

    Args:
        answer: The model above the transformed features; examples must not change each other's
            answers.
        features: Transformed features, each [n, ...].
        baseline: Where the path begins, each [1, ...]; see `average_example`.
        steps: Steps of the path; the gradient is taken in the middle of each.
    """
    size = len(next(iter(features.values())))
    parts = [
        _explain(
            {name: values[start : start + _BATCH] for name, values in features.items()},
            answer,
            baseline,
            steps,
        )
        for start in range(0, size, _BATCH)
    ]
    return Explanations(
        {name: np.concatenate([part.attributions[name] for part in parts]) for name in features},
        np.concatenate([part.outputs for part in parts]),
        np.concatenate([part.baselines for part in parts]),
        parts[0].occluded,
    )


def _middle(values: Array) -> Array:
    if np.issubdtype(values.dtype, np.floating):
        return np.asarray(values.mean(axis=0, keepdims=True), dtype=values.dtype)
    flat = values.reshape(len(values), -1)
    commonest = [_commonest(column) for column in flat.T]
    return np.array(commonest, dtype=values.dtype).reshape(1, *values.shape[1:])


def _commonest(column: Array) -> object:
    distinct, counts = np.unique(column, return_counts=True)
    value: object = distinct[np.argmax(counts)]
    return value


def _explain(
    rows: Mapping[str, Array], answer: Answer, baseline: Mapping[str, Array], steps: int
) -> Explanations:
    import tensorflow as tf

    given = {name: tf.constant(values) for name, values in rows.items()}
    size = len(next(iter(rows.values())))
    start = {name: tf.constant(np.repeat(baseline[name], size, axis=0)) for name in rows}
    real = [name for name, values in given.items() if values.dtype.is_floating]
    answers = answer(given)
    classes = tf.argmax(answers, axis=-1) if len(answers.shape) > 1 else None

    def output(features: Tensors) -> tf.Tensor:
        changed = answer(features)
        return changed if classes is None else tf.gather(changed, classes, axis=1, batch_dims=1)

    outputs = output(given)
    occluded = [name for name in given if name not in real]
    attributions = _integrate(output, given, start, real, steps) if real else {}
    attributions |= {
        name: _numbers(outputs - output({**given, name: start[name]})) for name in occluded
    }
    return Explanations(attributions, _numbers(outputs), _numbers(output(start)), occluded)


def _integrate(
    output: Answer, given: Tensors, start: Tensors, real: list[str], steps: int
) -> dict[str, Array]:
    """Integrates the gradients of the real features, the others as they are, by midpoints."""
    import tensorflow as tf

    ways = {name: given[name] - start[name] for name in real}
    sums = {name: np.zeros(ways[name].shape) for name in real}
    for step in range(steps):
        share = (step + 0.5) / steps
        place = {name: start[name] + tf.cast(share, ways[name].dtype) * ways[name] for name in real}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(place)
            outputs = output({**given, **place})
        slopes = tape.gradient(outputs, place, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        for name in real:
            sums[name] += _numbers(slopes[name])
    return {name: _numbers(ways[name]) * sums[name] / steps for name in real}


def _numbers(tensor: tf.Tensor) -> Array:
    return np.asarray(tensor.numpy(), dtype=np.float64)
