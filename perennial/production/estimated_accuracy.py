"""Estimates how often a model is right before labels come, and how far that is to be trusted.

A calibrated probability is the chance of being right: where classes are given 0.9, they are right
in 9 of 10 cases. So the mean of the highest probabilities is the accuracy to expect, and the number
of right answers is a sum of independent draws, whose distribution gives the interval. What the
estimate cannot see is that the model has become wrong where it is as sure as before (a changed
relation of label and features). Therefore it is held against the labels once they land.

Source: confidence-based performance estimation (CBPE) of NannyML, as in Kivimäki, Białek, Nurminen
and Kuberski 2025, "Confidence-based Estimators for Predictive Performance in Model Monitoring",
JAIR, arXiv 2407.08649: the average confidence as estimator of the accuracy, and its interval from
the Poisson binomial distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from perennial.production.confidence_sequence import Array

UNLABELLED = -1
# A day with fewer labels, and an estimator with fewer days, is not judged.
LEAST_LABELS = 20
LEAST_DAYS = 7
# A coverage that a right estimator would fall to with at most this chance is called bad.
_ALARM = 0.05
_EXACT_ROWS = 1000  # above, the normal distribution differs by less than a thousandth


@dataclass(frozen=True)
class EstimatedAccuracy:
    """An expected accuracy, and the interval that the true one lies in; NaN without rows."""

    value: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class EstimatedDay:
    """One day: the estimate on all its rows, and on those with labels, beside what they say.

    Attributes:
        day: Its date.
        all_rows: The estimate on every row.
        labelled: The estimate on the rows whose labels have come.
        accuracy: What these labels say; NaN without them.
    """

    day: str
    all_rows: EstimatedAccuracy
    labelled: EstimatedAccuracy
    accuracy: float

    @property
    def judged(self) -> bool:
        """Tells whether it has enough labels to hold the estimate against them."""
        return self.labelled.rows >= LEAST_LABELS

    @property
    def held(self) -> bool:
        """Tells whether the accuracy lies within the interval."""
        return self.labelled.low <= self.accuracy <= self.labelled.high


@dataclass(frozen=True)
class EstimatorVerdict:
    """A verdict on an estimator: whether it is used, and how often its interval held.

    Attributes:
        status: `trusted`; `not_trusted`: its intervals held too rarely; `unknown`: too few days.
        held: On how many of the days the interval held.
        days: How many days were judged.
        confidence: How often it promises to hold.
        reason: In words.
    """

    status: Literal["trusted", "not_trusted", "unknown"]
    held: int
    days: int
    confidence: float
    reason: str

    @property
    def used(self) -> bool:
        """Tells whether anything may rest on the estimates."""
        return self.status == "trusted"


def estimate_accuracy(
    probabilities: Array, confidence: float, calibration_error: float = 0.0
) -> EstimatedAccuracy:
    """Estimates the accuracy on rows without labels.

    Args:
        probabilities: Calibrated class probabilities, float [n, classes].
        confidence: Of the interval.
        calibration_error: Standard error of the mean probability against the accuracy on the
            examples that it was calibrated on, which widens the interval.
    """
    rows = len(probabilities)
    if not rows:
        return EstimatedAccuracy(math.nan, math.nan, math.nan, 0)
    chances = np.clip(probabilities.max(axis=1).astype(np.float64), 0.0, 1.0)
    value = float(chances.mean())
    low, high = right_answers(chances, confidence)
    deviation = math.sqrt(float((chances * (1 - chances)).sum())) / rows
    widened = math.hypot(deviation, calibration_error) - deviation
    extra = _normal_quantile(confidence) * widened
    return EstimatedAccuracy(
        value, max(0.0, low / rows - extra), min(1.0, high / rows + extra), rows
    )


def right_answers(chances: Array, confidence: float) -> tuple[float, float]:
    """Gives the least and the greatest number of right answers, of independent ones.

    Each end is passed with a chance of at most (1 - confidence) / 2: exactly up to 1,000 answers,
    by the normal distribution above.

    Source: Hong 2013, "On computing the distribution function for the Poisson binomial
    distribution" (the discrete Fourier transform of its characteristic function).

    Args:
        chances: Of each answer being right, float [n].
        confidence: Of the interval.
    """
    count = len(chances)
    tail = (1 - confidence) / 2
    if count > _EXACT_ROWS:
        mean = float(chances.sum())
        # Half an answer: counts are whole numbers.
        half = _normal_quantile(confidence) * math.sqrt(float((chances * (1 - chances)).sum()))
        return max(0.0, mean - half - 0.5), min(float(count), mean + half + 0.5)
    angles = np.exp(2j * np.pi * np.arange(count + 1) / (count + 1))
    characteristic = np.prod(1 + chances[:, np.newaxis] * (angles - 1), axis=0)
    density = np.maximum(np.fft.fft(characteristic).real / (count + 1), 0.0)
    below = np.cumsum(density) / density.sum()
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left"))
    return float(low), float(min(high, count))


def estimate_day(
    day: str,
    probabilities: Array,
    labels: Array,
    confidence: float,
    calibration_error: float = 0.0,
) -> EstimatedDay:
    """Estimates one day's accuracy, and holds it against the labels that have come.

    Args:
        day: Its date.
        probabilities: Calibrated class probabilities of all its rows, float [n, classes].
        labels: Classes, int [n]; `UNLABELLED` where no label has come.
        confidence: Of the intervals.
        calibration_error: See `estimate_accuracy`.
    """
    known = labels != UNLABELLED
    right = probabilities[known].argmax(axis=1) == labels[known]
    return EstimatedDay(
        day,
        estimate_accuracy(probabilities, confidence, calibration_error),
        estimate_accuracy(probabilities[known], confidence, calibration_error),
        float(right.mean()) if known.any() else math.nan,
    )


def judge_estimator(days: Sequence[EstimatedDay], confidence: float) -> EstimatorVerdict:
    """Decides whether estimates are used, by how often their intervals held once labels landed.

    They are not where a right estimator's intervals would hold so rarely with a chance of at most
    5% (binomial), nor while fewer than seven days have labels.

    Args:
        days: With estimates of this confidence; those with fewer than twenty labels are left out.
        confidence: Of the intervals.
    """
    from scipy import stats

    judged = [day for day in days if day.judged]
    held = sum(day.held for day in judged)
    count = len(judged)
    if count < LEAST_DAYS:
        reason = f"{count} days have enough labels, {LEAST_DAYS} needed: the estimate is not used"
        return EstimatorVerdict("unknown", held, count, confidence, reason)
    words = f"the interval held on {held} of {count} days, {confidence:.0%} promised"
    if float(stats.binom.cdf(held, count, confidence)) <= _ALARM:
        return EstimatorVerdict(
            "not_trusted", held, count, confidence, f"{words}: the estimate is not used"
        )
    return EstimatorVerdict("trusted", held, count, confidence, words)


def _normal_quantile(confidence: float) -> float:
    from scipy import stats

    return float(stats.norm.ppf((1 + confidence) / 2))
