"""Candidate minus champion on the same examples, with paired bootstrap intervals.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13 (percentile interval).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from components.evaluate_model.metrics import OVERALL
from components.evaluate_model.tables import LABEL, SLICE, Array, class_scores
from perennial.tasks import Task
from schemas.project import Metric
from schemas.records import Difference

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 2000
_SEED = 20170
# Below this probability a log loss says how the model clips, not how wrong it is.
_LEAST_PROBABILITY = 1e-7

Gain = Callable[[Array], float]
"""What the candidate gains over the champion on the examples with these row numbers; positive is better."""


def compare(
    table: pd.DataFrame,
    task: Task,
    metric: Metric,
    slices: Sequence[str],
    confidence: float,
    candidate: str,
    champion: str,
) -> list[Difference]:
    """What the candidate gains over the champion on a metric of a task, overall and on every slice."""
    gain = _gain(table, task, metric, candidate, champion)
    groups = {OVERALL: np.arange(len(table))}
    for name in slices:
        column = table[f"{SLICE}{name}"]
        groups |= {f"{name}={value}": np.flatnonzero(column == value) for value in sorted(column.unique())}
    found = {where: (len(rows), interval(gain, rows, confidence)) for where, rows in groups.items()}
    return [
        Difference(
            metric=metric,
            task=task.name,
            slice=where,
            examples=examples,
            value=value,
            low=low,
            high=high,
            confidence=confidence,
        )
        for where, (examples, (value, low, high)) in found.items()
    ]


def interval(gain: Gain, rows: Array, confidence: float) -> tuple[float, float, float]:
    """The gain on some rows with its percentile bootstrap interval; the same rows always give the same interval.

    Resamples on which the gain is not defined, such as an AUC of one class, are left out. A gain that is not finite
    on the rows themselves has no interval: NaN.
    """
    value = gain(rows)
    if not math.isfinite(value):
        return value, math.nan, math.nan
    random = np.random.default_rng(_SEED)
    gains = np.array([gain(rows[random.integers(0, len(rows), len(rows))]) for _ in range(RESAMPLES)])
    low, high = np.quantile(gains[np.isfinite(gains)], [(1 - confidence) / 2, (1 + confidence) / 2])
    return value, float(low), float(high)


def example_gains(candidate: Array, champion: Array, labels: Array, metric: Metric) -> Array:
    """What the candidate gains over the champion on each example, float64 [n]; positive is better.

    Accuracy: 1 where only the candidate is right, -1 where only the champion is. Log loss: the champion's minus the
    candidate's, in nats. Errors of values: the champion's minus the candidate's.

    Args:
        candidate: Class probabilities, float [n, classes], or values, float [n].
        champion: The same of the champion; it may know other classes.
        labels: Classes, int [n], or values, float [n].
        metric: Any but `auc`, which no single example has.
    """
    return _loss(champion, labels, metric) - _loss(candidate, labels, metric)


def auc_of(scores: Array, labels: Array) -> Callable[[Array], float]:
    """A function from row numbers (which may repeat) to the area under the ROC curve of those rows; NaN of one class.

    The scores are ranked once, so that thousands of resamples take a second. Source: Hanley and McNeil 1982 (the area
    is the share of pairs in the right order, ties counting half).
    """
    values, ranks = np.unique(scores, return_inverse=True)
    positive = labels == 1

    def area(rows: Array) -> float:
        which, where = positive[rows], ranks[rows]
        ones, zeros = (np.bincount(where[chosen], minlength=len(values)) for chosen in (which, ~which))
        pairs = float(ones.sum()) * float(zeros.sum())
        return float(ones @ (np.cumsum(zeros) - zeros / 2)) / pairs if pairs else math.nan

    return area


def _gain(table: pd.DataFrame, task: Task, metric: Metric, candidate: str, champion: str) -> Gain:
    labels = table[LABEL].to_numpy()
    candidates, champions = (_predictions(table, task, model) for model in (candidate, champion))
    if metric == "auc":
        ours, theirs = auc_of(candidates[:, 1], labels), auc_of(champions[:, 1], labels)
        return lambda rows: ours(rows) - theirs(rows)
    gains = example_gains(candidates, champions, labels, metric)
    return lambda rows: float(gains[rows].mean())


def _predictions(table: pd.DataFrame, task: Task, model: str) -> Array:
    """Class probabilities, float64 [n, classes], or values, float64 [n]."""
    return class_scores(table, model) if task.is_classes else np.asarray(table[model], dtype=np.float64)


def _loss(predictions: Array, labels: Array, metric: Metric) -> Array:
    """What each example costs, float64 [n]; a label that the model does not know has the probability 0."""
    if metric == "accuracy":
        return np.asarray(predictions.argmax(axis=1) != labels, dtype=np.float64)
    if metric == "log_loss":
        last = predictions.shape[1] - 1
        right = predictions[np.arange(len(labels)), np.minimum(labels, last)]
        return np.asarray(-np.log(np.clip(np.where(labels <= last, right, 0.0), _LEAST_PROBABILITY, 1.0)))
    errors: Array = np.abs(predictions - labels)
    return errors if metric == "mean_absolute_error" else errors**2
