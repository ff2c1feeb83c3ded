"""The trivial predictor: the one answer, the same for all examples, that does best.

A model that is no better than it has learned nothing, however good its number looks: where one
example in a hundred is positive, `always no` has an accuracy of 0.99. The answer is chosen on the
same examples that it is measured on, so no constant does better.

Source: Gneiting and Raftery 2007, "Strictly Proper Scoring Rules, Prediction, and Estimation" (each
score has its own best constant); Hyndman and Koehler 2006, "Another Look at Measures of Forecast
Accuracy" (errors beside those of a naive forecast).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from perennial.evaluation.comparison import Pair, Terms, compare_overall
from perennial.evaluation.metrics import measure_metric
from perennial.evaluation.prediction_table import Array
from schemas.project import Metric
from schemas.records import TrivialPredictor


def compare_trivial(
    candidate: Array,
    labels: Array,
    metric: Metric,
    terms: Terms,
    clusters: Array | None = None,
    weights: Array | None = None,
) -> TrivialPredictor:
    """Compares a model with the trivial predictor of a metric, with a paired interval.

    Args:
        candidate: Its class probabilities, float [n, classes], or values, float [n].
        labels: Classes, int [n], or values, float [n].
        metric: What they are compared by.
        terms: Of the interval.
        clusters: Which cluster each example belongs to [n]; None: each stands for itself.
        weights: How much each example counts, float [n]; None: all the same.
    """
    counting = np.ones(len(labels)) if weights is None else weights
    answer, constant = _BEST[metric](labels, counting)
    predictions = np.broadcast_to(constant, (len(labels), *np.shape(constant)))
    return TrivialPredictor(
        answer=answer,
        value=measure_metric(predictions, labels, metric, counting),
        gain=compare_overall(
            Pair(candidate, predictions, labels, metric, clusters, weights), terms
        ),
    )


def _most_frequent(labels: Array, weights: Array) -> tuple[str, Array]:
    counts = _counts(labels, weights)
    most = int(counts.argmax())
    constant: Array = np.zeros(len(counts))
    constant[most] = 1.0
    return f"always {most}, the most frequent class", constant


def _shares(labels: Array, weights: Array) -> tuple[str, Array]:
    counts = _counts(labels, weights)
    return "always each class with its share of the examples", counts / counts.sum()


def _median(labels: Array, weights: Array) -> tuple[str, Array]:
    """Gives the middle of the values, or of the two values on which half of the weight lies."""
    order = np.argsort(labels, kind="stable")
    values, until = labels[order].astype(np.float64), np.cumsum(weights[order])
    last = len(values) - 1
    below, above = (
        values[min(int(np.searchsorted(until, until[-1] / 2, side)), last)]
        for side in ("left", "right")
    )
    median = float((below + above) / 2)
    return f"always {median:.6g}, the median", np.asarray(median)


def _mean(labels: Array, weights: Array) -> tuple[str, Array]:
    mean = float(labels.astype(np.float64) @ weights / weights.sum())
    return f"always {mean:.6g}, the mean", np.asarray(mean)


def _counts(labels: Array, weights: Array) -> Array:
    """Sums the weights of each class; there are always two at least, as a binary task has them."""
    return np.bincount(labels, weights, minlength=2)


_BEST: Mapping[Metric, Callable[[Array, Array], tuple[str, Array]]] = {
    "accuracy": _most_frequent,
    "log_loss": _shares,
    "auc": _shares,
    "mean_absolute_error": _median,
    "mean_squared_error": _mean,
}
"""The answer in words, and as a model would give it: probabilities float [classes], or a value."""
