"""Distances of two distributions of a feature, and what is compared with what.

A missing value is a category, or a bin, of its own, so a feature that goes missing is at a distance
too. A share is a share of examples: where an example has several values, they share its weight
between them, and they are one observation when it comes to noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from components.validate_data.drift_thresholds import (
    category_tail,
    category_threshold,
    divergence_terms,
    divergence_threshold,
)
from perennial.data.distributions import KNOTS, Distribution, merge

FloatArray: TypeAlias = NDArray[np.float64]

MISSING = "missing"
BINS = 10
ROWS_IN_BIN = 10  # that the smaller side has on average, so that a small span has few bins
# What a million rows tell apart may still mean nothing. A mean that moves by a tenth of a standard
# deviation is at a divergence of about 0.002; a hundredth is the threshold that TFDV's own guide
# gives for categories.
SMALLEST_SHARE = 0.01
SMALLEST_DIVERGENCE = 0.002


@dataclass(frozen=True)
class Sides:
    """Two distributions over the same places: shares [k] that add up to 1, and examples of each.

    `names` says what the places stand for, None where they are bins of numbers.
    """

    p: FloatArray
    q: FloatArray
    first: int
    second: int
    names: list[str] | None = None

    @property
    def together(self) -> FloatArray:
        """Counts examples in each place, of both sides together."""
        return np.asarray(np.round(self.p * self.first + self.q * self.second))


@dataclass(frozen=True)
class Distance:
    """A distance, its threshold without a change, and for a category its name and shares."""

    value: float
    threshold: float
    category: str | None = None
    shares: tuple[float, float] | None = None


def l_infinity(p: FloatArray, q: FloatArray) -> float:
    """Computes the greatest difference of a share of the same categories, 0 to 1."""
    return float(np.abs(p - q).max(initial=0.0))


def jensen_shannon(p: FloatArray, q: FloatArray) -> float:
    """Computes the Jensen-Shannon divergence over the same places, base 2, 0 to 1.

    Source: Lin (1991), "Divergence measures based on the Shannon entropy".
    """
    return float(np.clip(divergence_terms(p, q).sum() / np.log(2), 0.0, 1.0))


def measure_categories(sides: Sides, level: float) -> Distance:
    """Finds the greatest difference of a share that chance does not explain, else of all.

    Every category has its own threshold: the chance of any false alarm, `level`, is shared between
    the categories in proportion to their sizes. One threshold for all would be that of the largest
    category, and blind to a small one that doubles.
    """
    kept = sides.together > 0
    differences, together = np.abs(sides.p - sides.q), sides.together
    chances = np.ones_like(differences)
    chances[kept] = category_tail(together[kept], sides.first, sides.second, differences[kept])
    levels = level * together / max(together.sum(), 1.0)
    alarming = (chances <= levels) & (differences > SMALLEST_SHARE) & kept
    # Of equal differences the first counts among alarms, which is `missing`, and else that of the
    # largest category.
    order = (
        np.round(differences, 9)
        if alarming.any()
        else differences + 1e-9 * together / max(together.max(), 1.0)
    )
    worst = int(np.argmax(np.where(alarming | ~alarming.any(), order, -1.0)))
    threshold = category_threshold(
        float(together[worst]), sides.first, sides.second, float(levels[worst])
    )
    name = sides.names[worst] if sides.names else None
    shares = (float(sides.q[worst]), float(sides.p[worst]))
    return Distance(float(differences[worst]), max(threshold, SMALLEST_SHARE), name, shares)


def measure_numbers(sides: Sides, level: float) -> Distance:
    """Computes the Jensen-Shannon divergence of two histograms, and what chance explains."""
    threshold = divergence_threshold(sides.together, sides.first, sides.second, level)
    return Distance(jensen_shannon(sides.p, sides.q), max(threshold, SMALLEST_DIVERGENCE))


def align_categories(span: Distribution, baseline: Distribution) -> Sides:
    """Lays both sides over all categories of either, and `missing`."""
    counts, others = span.counts or {}, baseline.counts or {}
    names = list(dict.fromkeys([*others, *counts]))
    p, q = (
        _with_missing(side, _lookup(counted, names))
        for side, counted in ((span, counts), (baseline, others))
    )
    return Sides(p, q, span.examples, baseline.examples, [MISSING, *names])


def align_numbers(span: Distribution, baseline: Distribution) -> Sides:
    """Lays both sides over about ten bins of equally many values, missing and not finite.

    The bins are those of both sides together, which makes the noise of the divergence computable
    without knowing where the values come from. A value that many examples share (zero, say) is a
    bin of its own.
    """
    most = int(np.clip(min(span.examples, baseline.examples) // ROWS_IN_BIN, 2, BINS))
    edges = _edges(merge([_weighed(baseline), _weighed(span)]), most)
    p, q = (_with_missing(side, _histogram(side, edges)) for side in (span, baseline))
    return Sides(p, q, span.examples, baseline.examples)


def as_categories(part: Distribution) -> Distribution:
    """Makes a distribution of whole numbers one of categories, if they were counted singly."""
    if part.knots is None or part.cumulative is None or len(part.knots) >= KNOTS:
        return part
    if not np.array_equal(part.knots, np.round(part.knots)):
        return part
    counts = np.diff(part.cumulative, prepend=0.0)
    named = {str(int(knot)): int(count) for knot, count in zip(part.knots, counts, strict=True)}
    return Distribution(part.examples, part.missing, part.total, named, None, None, part.capped)


def quartiles(part: Distribution) -> tuple[float, float, float] | None:
    """Computes the quartiles of numbers; None where there are none."""
    if part.knots is None or part.cumulative is None or not len(part.knots):
        return None
    places = np.searchsorted(part.cumulative, np.array([0.25, 0.5, 0.75]) * part.cumulative[-1])
    low, middle, high = (float(part.knots[min(place, len(part.knots) - 1)]) for place in places)
    return low, middle, high


def missing_share(part: Distribution) -> float:
    """Computes the share of examples without the feature."""
    return part.missing / max(part.examples, 1)


def _lookup(counts: Mapping[str, int], names: list[str]) -> FloatArray:
    return np.array([counts.get(name, 0) for name in names], np.float64)


def _with_missing(side: Distribution, values: FloatArray) -> FloatArray:
    """Gives the share of examples without values, and values in each place as shares."""
    missing = missing_share(side)
    if not side.total:
        missing = 1.0
    shares = values / max(side.total, 1) * (1 - missing)
    # Rare values beyond the cap of the counts are in no place; a place for all of them would differ
    # by the cap alone.
    return np.append(missing, shares)


def _weighed(side: Distribution) -> Distribution:
    """Weighs the values of a side so that they add up to the examples that have any."""
    if side.cumulative is None or not side.total:
        return side
    weight = (side.examples - side.missing) / side.total
    return Distribution(
        side.examples, side.missing, side.total, None, side.knots, side.cumulative * weight
    )


def _edges(both: Distribution, most: int) -> FloatArray:
    """Chooses the upper ends of all bins but the last, ascending: at most about twice `most`."""
    if both.knots is None or both.cumulative is None or not len(both.knots):
        return np.empty(0, np.float64)
    cumulative, steps = both.cumulative, np.diff(both.cumulative, prepend=0.0)
    share = cumulative[-1] / most
    places = np.searchsorted(cumulative, share * np.arange(1, most))
    atoms = np.flatnonzero(steps >= share)
    candidates = np.unique(np.concatenate([places, atoms, atoms - 1]))
    kept: list[int] = []
    for place in candidates[(candidates >= 0) & (candidates < len(cumulative) - 1)]:
        # A sliver of a bin would show how knots happen to lie rather than how values do.
        if cumulative[place] - (cumulative[kept[-1]] if kept else 0.0) >= share / 4:
            kept.append(int(place))
    while kept and cumulative[-1] - cumulative[kept[-1]] < share / 4:
        kept.pop()
    return both.knots[np.array(kept, np.int64)]


def _histogram(side: Distribution, edges: FloatArray) -> FloatArray:
    """Counts values in each bin, and the values that are not finite."""
    if side.knots is None or side.cumulative is None or not len(side.knots):
        return np.append(np.zeros(len(edges) + 1), side.total)
    places = np.searchsorted(side.knots, edges, side="right")
    upto = np.concatenate([[0.0], side.cumulative])[places]
    return np.append(
        np.diff(np.concatenate([[0.0], upto, [side.cumulative[-1]]])),
        side.total - side.cumulative[-1],
    )
