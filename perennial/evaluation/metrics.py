"""Metrics of every model on every slice, cross and view of a task's table, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from perennial.evaluation.comparison import OF_ALL_EXAMPLES, example_losses
from perennial.evaluation.definedness import why_undefined
from perennial.evaluation.groups import Group
from perennial.evaluation.prediction_table import LABEL, WEIGHT, Array, predictions_of, weights_in
from perennial.tasks import METRICS, Task
from schemas.project import Metric
from schemas.records import OVERALL, SERVING_DISTRIBUTION, SliceMetrics

if TYPE_CHECKING:
    import pandas as pd


def measure(
    table: pd.DataFrame, task: Task, models: Sequence[str], groups: Sequence[Group]
) -> list[SliceMetrics]:
    """Measures every model overall and on each group, by the losses that their differences use.

    Examples count as their own weights say. Where the table has weights of serving, the models are
    measured a second time with them: the serving distribution. What is not defined, such as the AUC
    of a slice with one class, is NaN, and the record holds the reason.

    Args:
        table: The task's table of n examples.
        task: What is predicted.
        models: Columns of the models.
        groups: The slices, crosses and views.
    """
    labels, own = table[LABEL].to_numpy(), weights_in(table)
    counting = np.ones(len(table)) if own is None else own
    overall = Group(OVERALL, np.arange(len(table)))
    ordered = [overall, *sorted(groups, key=lambda group: (group.view, group.name))]
    rows = []
    for model in models:
        predictions = predictions_of(table, task, model)
        parts = [(group, counting) for group in ordered]
        if WEIGHT in table:
            parts.append(
                (Group(SERVING_DISTRIBUTION, overall.rows, view=True), table[WEIGHT].to_numpy())
            )
        for group, weights in parts:
            which = group.rows
            rows.append(
                SliceMetrics(
                    model=model,
                    task=task.name,
                    slice=group.name,
                    examples=len(which),
                    values={
                        metric: measure_metric(
                            predictions[which], labels[which], metric, weights[which]
                        )
                        for metric in METRICS[task.kind]
                    },
                    view=group.view,
                    undefined=_undefined(task, labels[which], weights[which]),
                )
            )
    return rows


def _undefined(task: Task, labels: Array, weights: Array) -> dict[Metric, str]:
    reasons = {metric: why_undefined(metric, labels, weights) for metric in METRICS[task.kind]}
    return {metric: reason for metric, reason in reasons.items() if reason is not None}


def measure_metric(predictions: Array, labels: Array, metric: Metric, weights: Array) -> float:
    """Gives the weighted value of one metric; NaN where it is not defined.

    Args:
        predictions: Class probabilities, float [n, classes], or values, float [n].
        labels: Classes, int [n], or values, float [n].
        metric: What is measured.
        weights: Weight of each example, float [n], at least 0.
    """
    if metric in OF_ALL_EXAMPLES:
        return float(OF_ALL_EXAMPLES[metric](predictions, labels)(weights[np.newaxis])[0])
    total = float(weights.sum())
    if total <= 0:
        return math.nan
    mean = float(example_losses(predictions, labels, metric) @ weights) / total
    return 1 - mean if metric == "accuracy" else mean
