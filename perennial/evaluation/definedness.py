"""Says why a metric, or the interval of a difference, is not defined on some examples."""

from __future__ import annotations

import numpy as np

from perennial.evaluation.prediction_table import Array
from schemas.project import Metric

# It compares examples of one class with those of the others; every other metric is a mean.
_OF_SEVERAL_CLASSES: frozenset[Metric] = frozenset({"auc"})


def why_undefined(metric: Metric, labels: Array, weights: Array | None = None) -> str | None:
    """Says what the examples are like on which a metric is not defined; None where it is.

    Args:
        metric: What is to be measured.
        labels: Classes, int [n], or values, float [n].
        weights: Weight of each example, float [n], at least 0; None: all are equal.

    Returns:
        Such as `one class only (1)`, to be put after "the test split holds".
    """
    counted = labels if weights is None else labels[weights > 0]
    if not len(labels):
        return "no examples"
    if not len(counted):
        return "no example that counts"
    classes = np.unique(counted)
    if metric in _OF_SEVERAL_CLASSES and len(classes) < 2:
        return f"one class only ({classes[0]})"
    return None


def why_no_interval(metric: Metric, labels: Array, clusters: Array | None = None) -> str:
    """Says what the examples are like on which a difference has no interval, as above."""
    if clusters is not None and len(np.unique(clusters)) < 2:
        return "one group only (evaluate.group)"
    if metric in _OF_SEVERAL_CLASSES:
        for label in np.unique(labels).tolist():
            which = labels == label
            if clusters is not None and len(np.unique(clusters[which])) < 2:
                return f"class {label} in one group only"
            if which.sum() < 2:
                return f"a single example of class {label}"
    return "too few examples"
