"""Finds single test examples that make much of a metric by themselves."""

from __future__ import annotations

import math

import numpy as np

from components.evaluate_model.measurements import Measured
from perennial.evaluation.comparison import OF_ALL_EXAMPLES, example_losses
from perennial.evaluation.prediction_table import KEY, LABEL, SPAN, TaskTable, predictions_of
from schemas.project import Metric
from schemas.records import Outlier

# One of so few examples makes much of any mean.
_LEAST_EXAMPLES = 20
# Of a metric. A hundred examples share it among them, so that one has 1% of it, not a quarter.
_TELLING_SHARE = 0.25


def find_outliers(measured: Measured) -> list[Outlier]:
    """Finds the example behind a loss or an error, of each task and judged model, if one makes it.

    An accuracy has none: each example counts the same.
    """
    gate = measured.project.settings.gate
    outliers = []
    for number, table in enumerate(measured.tables):
        metric = gate.metric if number == 0 else table.task.metric
        if metric == "accuracy" or metric in OF_ALL_EXAMPLES:
            continue
        for model, named in measured.judged.items():
            if model not in table.models:
                continue
            if (outlier := _find(table, model, named, metric)) is not None:
                outliers.append(outlier)
    return outliers


def _find(table: TaskTable, model: str, named: str, metric: Metric) -> Outlier | None:
    labels = table.frame[LABEL].to_numpy()
    losses = example_losses(predictions_of(table.frame, table.task, model), labels, metric)
    total, worst = float(losses.sum()), int(np.argmax(losses))
    if len(losses) < _LEAST_EXAMPLES or not math.isfinite(total) or total <= 0:
        return None
    share = float(losses[worst]) / total
    if share < _TELLING_SHARE:
        return None
    return Outlier(
        model=named,
        task=table.task.name,
        metric=metric,
        key=str(table.frame[KEY].iloc[worst]),
        span=str(table.frame[SPAN].iloc[worst]),
        label=labels[worst].item(),
        examples=len(losses),
        value=total / len(losses),
        share=share,
        without=(total - float(losses[worst])) / (len(losses) - 1),
    )
