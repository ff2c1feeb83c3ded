"""Metrics of predictions in production, day by day and arm by arm, once their labels have come.

Days are those of the prediction, in UTC. Metrics weigh each prediction by one over the chance of
its being logged, and their intervals take the predictions of a key for one unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np

from perennial.evaluation.bootstrap import Interval, gain_interval, mean_interval
from perennial.evaluation.comparison import OF_ALL_EXAMPLES, example_losses
from perennial.production.estimated_accuracy import (
    EstimatedAccuracy,
    EstimatedDay,
    EstimatorVerdict,
    estimate_accuracy,
    judge_estimator,
)
from perennial.production.labels import (
    LabelledPredictions,
    LoggedPredictions,
    ScoredPredictions,
)
from schemas.project import Metric

Array = np.ndarray[Any, np.dtype[Any]]
CONFIDENCE = 0.95
# A day is as complete as days become when its coverage is this share of theirs.
_SHARE_OF_USUAL = 0.9
_FORMER_DAYS = 14
_ESTIMATED = "champion"  # the arm whose accuracy is estimated before labels come
_LEAST_KEYS = 20  # of a day whose coverage says something


@dataclass(frozen=True)
class DayCoverage:
    """The keys that a day has in the log, and how many of them have labels."""

    day: date
    keys: int
    labelled: int

    @property
    def share(self) -> float:
        """Gives the share of its keys that have labels; NaN without keys."""
        return self.labelled / self.keys if self.keys else math.nan


@dataclass(frozen=True)
class LiveDay:
    """The answers of one arm on one day.

    Attributes:
        day: Of the predictions, in UTC.
        arm: `champion`, `challenger` or `shadow`.
        versions: The registry versions that answered.
        predictions: How many rows the log has.
        keys: Distinct keys.
        labelled: Distinct keys whose labels have come.
        metric: Of the labelled predictions, with its interval; NaN: there is none.
        remark: Why the metric may change yet, or is not there; None: the labels are complete.
        estimate: The champion's accuracy as its scores let expect it, without labels; None: it is
            another arm, or the estimator is not used.
    """

    day: date
    arm: str
    versions: tuple[str, ...]
    predictions: int
    keys: int
    labelled: int
    metric: Interval
    remark: str | None
    estimate: EstimatedAccuracy | None = None


@dataclass(frozen=True)
class LiveMetrics:
    """The days of a project in production.

    Attributes:
        metric: What was measured.
        days: Oldest first, by arm.
        estimator: Whether the estimates without labels are used; None: the task has no classes.
        delay: Days from a prediction to its label: median and 90th percentile; NaN without labels.
        without_key: Rows of the log that no label can be joined to.
        notes: What could not be read.
    """

    metric: Metric
    days: list[LiveDay]
    estimator: EstimatorVerdict | None
    delay: tuple[float, float]
    without_key: int
    notes: tuple[str, ...]


def measure_live(
    requests: LoggedPredictions,
    labelled: LabelledPredictions,
    scored: ScoredPredictions,
    metric: Metric,
    today: date,
) -> LiveMetrics:
    """Measures every arm on every day of the log.

    Args:
        requests: All predictions.
        labelled: Those whose labels have come.
        scored: Those with scores.
        metric: What is measured.
        today: The day that is not over yet, in UTC.
    """
    estimates, estimator = estimate_days(scored, labelled)
    days = _days(requests.time)
    labelled_days = _days(labelled.time)
    has_key = np.array([key is not None for key in requests.key], dtype=bool)
    labelled_keys: dict[date, set[str]] = {}
    for day, key in zip(labelled_days.tolist(), labelled.key.tolist(), strict=True):
        labelled_keys.setdefault(day, set()).add(key)
    coverage = [
        DayCoverage(
            day,
            len(set(requests.key[(days == day) & has_key].tolist())),
            len(labelled_keys.get(day, ())),
        )
        for day in sorted(set(days.tolist()))
    ]
    remarks = completeness(coverage, today)
    rows = []
    for day in remarks:
        for arm in sorted(set(requests.arm[days == day].tolist())):
            own = (days == day) & (requests.arm == arm)
            theirs = (labelled_days == day) & (labelled.arm == arm)
            value = measure_arm(labelled, metric, theirs)
            labels = len(set(labelled.key[theirs].tolist()))
            rows.append(
                LiveDay(
                    day=day,
                    arm=arm,
                    versions=tuple(sorted(set(requests.version[own].tolist()))),
                    predictions=int(own.sum()),
                    keys=len(set(requests.key[own & has_key].tolist())),
                    labelled=labels,
                    metric=value,
                    remark=remarks[day] if labels else "no labels yet",
                    estimate=estimates.get(day) if arm == _ESTIMATED else None,
                )
            )
    without_key = int((~has_key).sum())
    return LiveMetrics(metric, rows, estimator, _delay(labelled), without_key, labelled.notes)


def estimate_days(
    scored: ScoredPredictions, labelled: LabelledPredictions
) -> tuple[dict[date, EstimatedAccuracy], EstimatorVerdict | None]:
    """Estimates the champion's accuracy on each day by its scores, where that has held so far.

    Returns:
        The estimates of days, none where the estimator is not used; and the verdict on it.
    """
    if not labelled.task.is_classes:
        return {}, None
    days, labelled_days = _days(scored.time), _days(labelled.time)
    estimated = []
    for day in sorted(set(days.tolist())):
        scores = scored.scores[(days == day) & (scored.arm == _ESTIMATED)]
        theirs = (labelled_days == day) & (labelled.arm == _ESTIMATED)
        known = labelled.scores[theirs]
        right = known.argmax(axis=1) == labelled.label[theirs] if theirs.any() else np.empty(0)
        estimated.append(
            EstimatedDay(
                day.isoformat(),
                estimate_accuracy(scores, CONFIDENCE),
                estimate_accuracy(known, CONFIDENCE),
                float(right.mean()) if theirs.any() else math.nan,
            )
        )
    verdict = judge_estimator(estimated, CONFIDENCE)
    if not verdict.used:
        return {}, verdict
    return {date.fromisoformat(each.day): each.all_rows for each in estimated}, verdict


def measure_arm(labelled: LabelledPredictions, metric: Metric, which: Array) -> Interval:
    """Measures some labelled predictions, with an interval of `CONFIDENCE`.

    Args:
        labelled: Predictions whose labels have come.
        metric: What is measured.
        which: Those that count, bool [n].
    """
    if not which.any():
        return Interval(math.nan, math.nan, math.nan)
    scores, labels, keys = labelled.scores[which], labelled.label[which], labelled.key[which]
    weights = 1 / labelled.chance[which]
    clusters = np.unique(keys.astype(str), return_inverse=True)[1]
    if metric in OF_ALL_EXAMPLES:
        gain = OF_ALL_EXAMPLES[metric](scores, labels)
        return gain_interval(gain, len(labels), CONFIDENCE, clusters, weights)
    loss = mean_interval(example_losses(scores, labels, metric), CONFIDENCE, clusters, weights)
    if metric != "accuracy":
        return loss
    low, high = 1 - loss.high, 1 - loss.low
    return (
        Interval(1 - loss.value, max(low, 0.0), min(high, 1.0))
        if low == low
        else Interval(1 - loss.value, math.nan, math.nan)
    )


def completeness(coverage: Sequence[DayCoverage], today: date) -> dict[date, str | None]:
    """Says of each day why its labels may not be complete; None: they are.

    A day is complete when it is over and 90% of the coverage that former days reached is reached:
    the upper quartile of the 14 days before it that have at least 20 keys. Where no label of such
    days has come it is not known what is usual.

    Args:
        coverage: Of each day, oldest first.
        today: The day that is not over yet, in UTC.
    """
    remarks: dict[date, str | None] = {}
    former: list[float] = []
    for each in coverage:
        usual = float(np.quantile(former[-_FORMER_DAYS:], 0.75)) if former else 0.0
        if each.day >= today:
            remark = "the day is not over"
        elif not each.keys:
            remark = "no request had a key"
        elif not usual:
            remark = "no former day tells how many labels come"
        elif each.share < _SHARE_OF_USUAL * usual:
            remark = f"labels of {each.share:.0%} of the keys; former days reached {usual:.0%}"
        else:
            remark = None
        remarks[each.day] = remark
        if each.keys >= _LEAST_KEYS:
            former.append(each.share)
    return remarks


def _days(times: Array) -> Array:
    """Gives the day of each moment, object [n]."""
    return times.astype("datetime64[D]").astype(object)


def _delay(labelled: LabelledPredictions) -> tuple[float, float]:
    """Gives the median and the 90th percentile of the days from a prediction to its label."""
    if not len(labelled.time):
        return math.nan, math.nan
    days = (labelled.label_time - labelled.time) / np.timedelta64(1, "D")
    median, most = np.quantile(days, [0.5, 0.9])
    return float(median), float(most)


def as_json(live: LiveMetrics) -> Mapping[str, Any]:
    """Gives the metrics as JSON values; NaN is null."""

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "metric": live.metric,
        "delay_days": {"median": number(live.delay[0]), "p90": number(live.delay[1])},
        "without_key": live.without_key,
        "notes": list(live.notes),
        "estimator": None if live.estimator is None else asdict(live.estimator),
        "days": [
            {
                "day": day.day.isoformat(),
                "arm": day.arm,
                "versions": list(day.versions),
                "predictions": day.predictions,
                "keys": day.keys,
                "labelled": day.labelled,
                "value": number(day.metric.value),
                "low": number(day.metric.low),
                "high": number(day.metric.high),
                "complete": day.remark is None,
                "remark": day.remark,
                "estimate": None if day.estimate is None else asdict(day.estimate),
            }
            for day in live.days
        ],
    }
