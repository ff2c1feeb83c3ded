"""Calibration: whether a model is as often right as it says, with a bootstrap interval.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2 (reliability diagram,
expected calibration error over 15 bins); Naeini et al. 2015, "Obtaining Well Calibrated
Probabilities Using Bayesian Binning".
"""

from __future__ import annotations

import numpy as np

from perennial.evaluation.prediction_table import Array
from schemas.records import Calibration, CalibrationBin

BINS = 15
RESAMPLES = 2000
_SEED = 20170


def measure_calibration(
    labels: Array,
    probabilities: Array,
    model: str,
    task: str,
    confidence: float,
    temperature: float | None,
) -> Calibration:
    """Measures a model's expected calibration error, and the bins of its reliability diagram.

    The error is the mean over the examples of the gap between the accuracy and the mean confidence
    of their bin, from 0 to 1. It is never negative, so noise adds to it: of a model that is
    calibrated perfectly it is about sqrt(bins / n) / 2 of n examples. Resampling adds that noise
    once more, so the percentile interval, too, lies somewhat high where there are few examples.

    Args:
        labels: The true classes, int [n]; one that the model does not know counts as wrong.
        probabilities: float [n, classes].
        model: What the record calls the model.
        task: Name of the task.
        confidence: Of the interval.
        temperature: What the served model divides its logits by.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    sure, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    which = np.minimum(
        (sure * BINS).astype(int), BINS - 1
    )  # the last bin holds a confidence of 1, too
    low, high = _interval(right - sure, which, confidence)
    return Calibration(
        model=model,
        task=task,
        bins=_bins(sure, right, which),
        error=_error(right - sure, which),
        low=low,
        high=high,
        confidence=confidence,
        temperature=temperature,
    )


def _bins(sure: Array, right: Array, which: Array) -> list[CalibrationBin]:
    """Lists the bins that hold examples."""
    return [
        CalibrationBin(
            low=number / BINS,
            high=(number + 1) / BINS,
            examples=int((which == number).sum()),
            confidence=float(sure[which == number].mean()),
            accuracy=float(right[which == number].mean()),
        )
        for number in np.unique(which).tolist()
    ]


def _error(gaps: Array, which: Array) -> float:
    """Computes the expected calibration error.

    `gaps` are right answers (0 or 1) less confidence, float64 [n]; `which` are their bins, int [n].
    """
    return float(np.abs(np.bincount(which, gaps, minlength=BINS)).sum() / len(gaps))


def _interval(gaps: Array, which: Array, confidence: float) -> tuple[float, float]:
    """Computes a percentile bootstrap interval over examples; the same for the same examples."""
    random, count = np.random.default_rng(_SEED), len(gaps)
    drawn = (random.integers(0, count, count) for _ in range(RESAMPLES))
    errors = [_error(gaps[rows], which[rows]) for rows in drawn]
    low, high = np.quantile(errors, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
