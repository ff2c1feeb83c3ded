"""Paired bootstrap intervals of what one model gains over another on the same examples.

Units are resampled: examples, or whole clusters of examples that belong together. The percentile
interval is stretched about the value, because of few units it is too narrow, and because the far
tails of a corrected interval are taken from the nearest tails with enough resamples.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13 (percentile
interval); Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 3.2 (too
narrow by sqrt((n - 1) / n) and by normal instead of Student's quantiles); Davison and Hinkley
1997, "Bootstrap Methods and their Application", section 3.8 (resampling of whole clusters); Kish
1965, "Survey Sampling" (effective number of weighted units).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from perennial.evaluation.prediction_table import Array

Gain = Callable[[Array], Array]
"""Gives the gains where examples count as often as given: counts [resamples, n] -> [resamples]."""

Reweigh = Callable[[np.random.Generator, Array], Array]
"""Estimates the weights of resampled examples: row numbers, which may repeat [m] -> weights [m]."""

_SEED = 20170
# So many resamples lie beyond a quantile that is read: its standard error is then about a seventh
# of its tail.
_IN_TAIL = 50
_LEAST_RESAMPLES = 2_000
_MOST_RESAMPLES = 40_000
# A resample of a gain that is no mean takes a hundred times as long.
_MOST_SLOW_RESAMPLES = 4_000
_NUMBERS_AT_ONCE = 2_000_000
# So few different units are drawn by how often each comes, which is the same and much faster.
_FEW_DIFFERENT = 64


class Interval(NamedTuple):
    """A value with its interval; NaN: it has none."""

    value: float
    low: float
    high: float


def per_interval(confidence: float, family: int) -> float:
    """Gives the confidence of each of `family` intervals that hold together with `confidence`.

    Source: Bonferroni's inequality.
    """
    return 1 - (1 - confidence) / max(family, 1)


def mean_interval(
    gains: Array, confidence: float, clusters: Array | None = None, weights: Array | None = None
) -> Interval:
    """Gives the mean gain with its interval; the same gains always give the same interval.

    With weights it is their self-normalised mean. Of clusters, a resample's mean is the sum of its
    clusters' sums over the sum of their sizes. Fewer than two (effective) units have no interval.

    Args:
        gains: What is gained on each example, float [n].
        confidence: Of this one interval; see `per_interval`.
        clusters: Which cluster each example belongs to, any values [n]; None: each stands for
            itself.
        weights: Weight of each example, float [n], at least 0; None: all are equal.
    """
    sizes: Array = np.ones(len(gains)) if weights is None else np.asarray(weights, dtype=np.float64)
    sums: Array = gains * sizes
    if clusters is not None:
        _, which = np.unique(clusters, return_inverse=True)
        sums, sizes = np.bincount(which, sums), np.bincount(which, sizes)
    value = float(sums.sum() / sizes.sum()) if sizes.sum() > 0 else math.nan
    random = np.random.default_rng(_SEED)
    return _stretched(
        value,
        lambda count: _ratios(random, sums, sizes, count),
        confidence,
        effective_number(sizes),
    )


def gain_interval(
    gain: Gain,
    examples: int,
    confidence: float,
    clusters: Array | None = None,
    weights: Array | None = None,
    reweigh: Reweigh | None = None,
    effective: float | None = None,
) -> Interval:
    """Gives any gain with its interval, as `mean_interval` does of a mean.

    Resamples on which the gain is not defined, such as an AUC of one class, are left out.

    Args:
        gain: Of counts of the examples.
        examples: Their number, n.
        confidence: Of this one interval.
        clusters: Which cluster each example belongs to [n]; None: each stands for itself.
        weights: Weight of each example, float [n]; None: all are equal.
        reweigh: Gives the weights of resampled examples, so that the interval holds their
            uncertainty too.
        effective: How many units the gain rests on; None: all, but for unequal weights and sizes.
    """
    plain = np.ones(examples) if weights is None else np.asarray(weights, dtype=np.float64)
    which = np.arange(examples) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    sizes: Array = np.bincount(which, plain)
    value = float(gain(plain[np.newaxis])[0])
    random = np.random.default_rng(_SEED)

    def draw(count: int) -> Array:
        gains = [
            gain(
                _reweighed(random, often[:, which], reweigh) if reweigh else often[:, which] * plain
            )
            for often in _counts(random, len(sizes), count, examples)
        ]
        return np.concatenate(gains)

    units = (
        effective_number(sizes) if effective is None else min(effective, effective_number(sizes))
    )
    return _stretched(value, draw, confidence, units, _MOST_SLOW_RESAMPLES)


def effective_number(sizes: Array) -> float:
    """Gives the number of equal units that are worth units of these sizes (Kish 1965)."""
    squares = float(np.square(sizes).sum())
    return float(sizes.sum()) ** 2 / squares if squares > 0 else 0.0


def divide(sums: Array, sizes: Array) -> Array:
    """Divides sums by sizes, float64 [n]; NaN where a size is 0."""
    ratios = np.full(len(sums), np.nan)
    return np.asarray(np.divide(sums, sizes, out=ratios, where=sizes > 0))


def _stretched(
    value: float,
    draw: Callable[[int], Array],
    confidence: float,
    effective: float,
    most: int = _MOST_RESAMPLES,
) -> Interval:
    """Gives the percentile interval of the gains that `draw` gives, stretched about the value."""
    from scipy import stats

    # What rounding leaves of two equal units is two.
    if not math.isfinite(value) or effective < 2 - 1e-9:
        return Interval(value, math.nan, math.nan)
    tail = (1 - confidence) / 2
    count = min(max(math.ceil(_IN_TAIL / tail), _LEAST_RESAMPLES), most)
    read = max(tail, _IN_TAIL / count)
    gains = draw(count)
    gains = gains[np.isfinite(gains)]
    if not len(gains):
        return Interval(value, math.nan, math.nan)
    low, high = (float(end) for end in np.quantile(gains, [read, 1 - read]))
    narrow = math.sqrt((effective - 1) / effective)
    factor = float(stats.t.isf(tail, effective - 1) / stats.norm.isf(read)) / narrow
    # The quantiles of few, skewed units may miss the value itself.
    return Interval(
        value, value - factor * max(0.0, value - low), value + factor * max(0.0, high - value)
    )


def _ratios(random: np.random.Generator, sums: Array, sizes: Array, resamples: int) -> Array:
    """Divides the sums of resampled units by their sizes, float64 [resamples]."""
    units, often = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    if len(units) <= _FEW_DIFFERENT:
        totals = random.multinomial(len(sums), often / len(sums), size=resamples) @ units
        return divide(totals[:, 0], totals[:, 1])
    parts = []
    for drawn in _rows(random, len(sums), resamples, len(sums)):
        totals = sizes[drawn].sum(axis=1) if np.ptp(sizes) else np.full(len(drawn), sizes.sum())
        parts.append(divide(sums[drawn].sum(axis=1), totals))
    return np.concatenate(parts)


def _rows(random: np.random.Generator, units: int, resamples: int, width: int) -> Iterator[Array]:
    """Draws row numbers of resampled units, [some, units].

    `width` numbers of each resample are in memory at once.
    """
    step = max(1, _NUMBERS_AT_ONCE // width)
    # Drawing takes most of the time, and small numbers are drawn faster.
    small = np.min_scalar_type(units - 1)
    for start in range(0, resamples, step):
        yield random.integers(0, units, (min(step, resamples - start), units), dtype=small)


def _counts(random: np.random.Generator, units: int, resamples: int, width: int) -> Iterator[Array]:
    """Counts how often each unit was drawn, int [some, units]."""
    for drawn in _rows(random, units, resamples, max(units, width)):
        places = drawn + units * np.arange(len(drawn))[:, np.newaxis]
        yield np.bincount(places.ravel(), minlength=len(drawn) * units).reshape(len(drawn), units)


def _reweighed(random: np.random.Generator, often: Array, reweigh: Reweigh) -> Array:
    """Sums the weights of each example in each resample, float64 [resamples, n]."""
    every = np.arange(often.shape[1])
    weights = np.empty(often.shape)
    for place, counts in enumerate(often):
        rows = np.repeat(every, counts)
        weights[place] = np.bincount(rows, reweigh(random, rows), minlength=len(every))
    return weights
