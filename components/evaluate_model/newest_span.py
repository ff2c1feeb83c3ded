"""Measures the judged models on the newest span of the window beside the older spans.

Labels that were mixed up, or a world that changed, show on the newest span first: there the
champion, which was good until then, is suddenly wrong.
"""

from __future__ import annotations

import math

import numpy as np

from components.evaluate_model.measurements import Measured
from components.evaluate_model.views import NEWEST
from perennial.evaluation.bootstrap import Interval, gain_interval, mean_interval
from perennial.evaluation.comparison import OF_ALL_EXAMPLES, example_losses
from perennial.evaluation.metrics import measure_metric
from perennial.evaluation.prediction_table import (
    GROUP,
    LABEL,
    SPAN,
    VIEW,
    Array,
    TaskTable,
    predictions_of,
    weights_in,
)
from perennial.tasks import LOWER_IS_BETTER
from schemas.project import Metric
from schemas.records import NewestSpan


def measure_newest(measured: Measured) -> list[NewestSpan]:
    """Measures the gate's metric of the first task; gives nothing where there is no such view.

    A part with fewer than `evaluate.least_examples` examples has no interval.
    """
    table, settings = measured.tables[0], measured.project.settings
    column = f"{VIEW}{NEWEST}"
    if column not in table.frame:
        return []
    newest = table.frame[column].to_numpy(dtype=bool)
    span = str(table.frame[SPAN].to_numpy()[newest][0])
    least, confidence = settings.evaluate.least_examples, settings.gate.confidence
    rows = []
    for model, named in measured.judged.items():
        if model not in table.models:
            continue
        new, old = (
            _interval(table, model, settings.gate.metric, part, confidence)
            for part in (newest, ~newest)
        )
        enough = min(int(newest.sum()), int((~newest).sum())) >= least
        change = difference_of(new, old) if enough else Interval(math.nan, math.nan, math.nan)
        sign = -1 if settings.gate.metric in LOWER_IS_BETTER else 1
        rows.append(
            NewestSpan(
                model=named,
                task=table.task.name,
                metric=settings.gate.metric,
                span=span,
                examples=int(newest.sum()),
                older_examples=int((~newest).sum()),
                newest=sign * new.value,
                older=sign * old.value,
                change=new.value - old.value,
                low=change.low,
                high=change.high,
                confidence=confidence,
            )
        )
    return rows


def difference_of(first: Interval, second: Interval) -> Interval:
    """Gives the difference of two independent values with its interval.

    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures: a
    general approach" (the distances to the limits add up as squares).
    """
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return Interval(value, value - below, value + above)


def _interval(
    table: TaskTable, model: str, metric: Metric, which: Array, confidence: float
) -> Interval:
    """Gives a metric on some examples with its interval; of a loss its negative: more is better."""
    frame = table.frame[which]
    labels, predictions = frame[LABEL].to_numpy(), predictions_of(frame, table.task, model)
    clusters = frame[GROUP].to_numpy() if GROUP in frame else None
    own = weights_in(frame)
    if metric in OF_ALL_EXAMPLES:
        # It rests on the examples of the rarest class.
        rarest = min((int((labels == label).sum()) for label in np.unique(labels)), default=0)
        metric_of = OF_ALL_EXAMPLES[metric](predictions, labels)
        return gain_interval(metric_of, len(labels), confidence, clusters, own, effective=rarest)
    counting = np.ones(len(labels)) if own is None else own
    value = measure_metric(predictions, labels, metric, counting)
    losses = mean_interval(example_losses(predictions, labels, metric), confidence, clusters, own)
    # A loss is compared as its negative; an accuracy is 1 minus the share of errors.
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return Interval(
        sign * value, *(sign * value + losses.value - end for end in (losses.high, losses.low))
    )
