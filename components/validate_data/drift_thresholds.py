"""Thresholds of drift: how far two samples of one distribution differ by chance.

Everything is conditional on the two samples taken together (as in Fisher's exact test and in
permutation tests): when both came from one source, which of all rows fell into the first sample is
pure chance, whatever that source is. Nothing needs to be known of it, and nothing is estimated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

FloatArray: TypeAlias = NDArray[np.float64]

_GRID = 96  # points at which a bin's count is looked at; all its values where they are fewer
_SPREAD = 10.0  # standard deviations on either side beyond which no count is looked at
_NEGLIGIBLE = 1e-4  # share of the level that counts beyond the grid may have
_SMALLEST_LEVEL = 1e-12
_LEAST_TILT, _MOST_TILT = 1e-3, 64.0
_TRIED, _STEPS = 65, 4  # a difference is found to 1 / 64 of the range at each step
_MOST_OUTCOMES = 20_000  # of two or three bins, which are looked at one by one


def category_tail(
    together: FloatArray, first: int, second: int, difference: FloatArray
) -> FloatArray:
    """Bounds the chance that a category's share differs by `difference` or more.

    Args:
        together: Rows of each category in both samples together, [categories].
        first: Rows of the first sample.
        second: Rows of the second sample.
        difference: Difference of the shares, 0 to 1, [categories].

    Source: the count in the first sample is hypergeometric. Its tail from x on is at most pmf(x) /
    (1 - r), where r is pmf(x + 1) / pmf(x): the distribution is log-concave, so the ratios only
    fall. At four standard deviations the bound is 6% above the tail.
    """
    upper = _upper_tail(together, first, second, difference)
    return np.minimum(1.0, upper + _upper_tail(together, second, first, difference))


def category_threshold(together: float, first: int, second: int, level: float) -> float:
    """Finds the greatest difference of a share that chance explains at a level.

    The arguments are those of `category_tail`.
    """
    low, high = 0.0, 1.0 + 1e-6
    for _ in range(_STEPS):
        tried = np.linspace(low, high, _TRIED)
        explained = category_tail(np.full(_TRIED, together), first, second, tried) > level
        last = int(np.flatnonzero(explained)[-1])  # no difference at all is always explained
        if last == _TRIED - 1:
            return high
        low, high = float(tried[last]), float(tried[last + 1])
    return low


def divergence_threshold(together: FloatArray, first: int, second: int, level: float) -> float:
    """Finds the divergence (base 2) of bins that chance exceeds with probability `level`.

    Args:
        together: Rows in each bin in both samples together, [bins].
        first: Rows of the first sample.
        second: Rows of the second sample.
        level: Chance of a greater divergence.

    The divergence, times 8 n1 n2 / (n1 + n2) ln 2, is roughly chi-square with one degree of freedom
    less than there are bins, but with a heavier tail where a bin expects few rows: the tail itself
    is computed. With two or three bins it is a staircase, and every outcome is looked at; with
    more, it is smooth.
    """
    whole = np.sort(np.rint(together))
    bins = np.asarray(whole[whole > 0], np.float64)
    if len(bins) < 2 or min(first, second) < 1:
        return 0.0
    if len(bins) <= 3 and (outcomes := _outcomes(bins, first)) is not None:
        return _exact_threshold(bins, outcomes, first, second, level)
    return _smooth_threshold(_Sums(bins, first, second, level * _NEGLIGIBLE), level)


def _outcomes(bins: FloatArray, first: int) -> FloatArray | None:
    """Lists possible counts of the first sample, [outcomes, bins]; None when there are too many."""
    share = first / bins.sum()
    deviation = np.sqrt(bins * share * (1 - share))
    low = np.floor(np.maximum(0, bins * share - _SPREAD * deviation - 1))
    high = np.ceil(np.minimum(bins, bins * share + _SPREAD * deviation + 1))
    if np.prod(high[:-1] - low[:-1] + 1) > _MOST_OUTCOMES:
        return None
    axes = [np.arange(a, b + 1) for a, b in zip(low[:-1], high[:-1], strict=True)]
    counts = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    counts = np.column_stack([counts, first - counts.sum(axis=1)])
    return np.asarray(counts[(counts[:, -1] >= 0) & (counts[:, -1] <= bins[-1])])


def _exact_threshold(
    bins: FloatArray, outcomes: FloatArray, first: int, second: int, level: float
) -> float:
    log_chance = _log_binomial(bins, outcomes).sum(axis=1)
    chance = np.exp(log_chance - special.logsumexp(log_chance))
    divergence = divergence_terms(outcomes / first, (bins - outcomes) / second).sum(
        axis=1
    ) / np.log(2)
    order = np.argsort(-divergence)
    # Outcomes that mirror each other have the same divergence but for rounding, and belong
    # together.
    beyond = int(np.searchsorted(np.cumsum(chance[order]), level, side="right"))
    return min(1.0, float(divergence[order][min(beyond, len(order) - 1)] * (1 + 1e-9) + 1e-12))


def _smooth_threshold(sums: _Sums, level: float) -> float:
    """Computes the threshold where outcomes are too many to look at each.

    Source: Skovgaard (1987), "Saddlepoint expansions for conditional distributions".
    """
    log_level = math.log(max(level, _SMALLEST_LEVEL))

    def excess(tilt: float) -> float:
        return sums.log_tail(tilt)[0] - log_level

    low, high = _LEAST_TILT, 0.25
    while excess(high) > 0 and high < _MOST_TILT:
        low, high = high, 2 * high
    if excess(high) > 0:
        low = high  # no outcome is as rare as that
    elif excess(low) > 0:
        low = float(optimize.brentq(excess, low, high, xtol=1e-4))
    return min(1.0, sums.log_tail(low)[1] / sums.scale / math.log(2))


class _Sums:
    """The distribution of a scaled divergence: a sum over bins, given the first sample's size.

    Without that condition the bins' counts are independent binomials, so that their moments add up.
    """

    def __init__(self, bins: FloatArray, first: int, second: int, negligible: float) -> None:
        share = first / (first + second)
        # Far out the divergence grows faster than the chance falls: what never happens must not
        # lead the sum.
        low = stats.binom.ppf(negligible, bins, share)
        high = stats.binom.isf(negligible, bins, share)
        step = np.maximum(1, (high - low) / _GRID)
        counts = low[:, None] + step[:, None] * np.arange(_GRID + 1)  # [bins, grid]
        inside = counts <= high[:, None] + 1e-9
        counts = np.where(inside, np.minimum(counts, bins[:, None]), low[:, None])
        log_weights = _log_binomial(bins[:, None], counts)
        log_weights += counts * np.log(share) + (bins[:, None] - counts) * np.log1p(-share)
        log_weights = np.where(inside, log_weights, -np.inf)
        self.scale = 8 * first * second / (first + second)
        self.target, self.counts = first, counts
        self.terms = self.scale * divergence_terms(
            counts / first, (bins[:, None] - counts) / second
        )
        self.log_weights = log_weights - special.logsumexp(log_weights, axis=1, keepdims=True)
        self.variance = self._tilted(0.0, 0.0).count_variance

    def log_tail(self, tilt: float) -> tuple[float, float]:
        """Computes the log chance of a sum above the mean under a tilt, and that sum."""
        shift = self._balance(tilt)
        at = self._tilted(tilt, shift)
        depth = tilt * at.mean + shift * self.target - at.log_total
        root = math.sqrt(2 * max(depth, 1e-12))
        spread = tilt * math.sqrt(max(at.determinant, 1e-300) / self.variance)
        # Chance = Q(root) + density(root) (1 / spread - 1 / root), in logarithms so that no tail
        # underflows.
        log_density = -(root**2 + math.log(2 * math.pi)) / 2
        mills = math.exp(special.log_ndtr(-root) - log_density)
        return log_density + math.log(max(mills + 1 / spread - 1 / root, 1e-12)), at.mean

    def _balance(self, tilt: float) -> float:
        """Finds the shift at which the first sample's counts add up to its size on average."""
        shift = 0.0
        for _ in range(30):
            at = self._tilted(tilt, shift)
            move = (self.target - at.count_mean) / max(at.count_variance, 1e-12)
            shift += float(np.clip(move, -1.0, 1.0))
            if abs(self.target - at.count_mean) < 1e-3 * np.sqrt(self.variance):
                break
        return shift

    def _tilted(self, tilt: float, shift: float) -> _Moments:
        exponents = self.log_weights + tilt * self.terms + shift * self.counts
        top = exponents.max(axis=1, keepdims=True)
        weights = np.exp(exponents - top)
        totals = weights.sum(axis=1, keepdims=True)
        weights /= totals
        count, term = (weights * self.counts).sum(axis=1), (weights * self.terms).sum(axis=1)
        off_count, off_term = self.counts - count[:, None], self.terms - term[:, None]
        return _Moments(
            log_total=float((np.log(totals) + top).sum()),
            mean=float(term.sum()),
            count_mean=float(count.sum()),
            count_variance=float((weights * off_count**2).sum()),
            term_variance=float((weights * off_term**2).sum()),
            covariance=float((weights * off_count * off_term).sum()),
        )


@dataclass(frozen=True)
class _Moments:
    """Moments of the sum of the terms and the sum of the counts, under a tilt."""

    log_total: float
    mean: float
    count_mean: float
    count_variance: float
    term_variance: float
    covariance: float

    @property
    def determinant(self) -> float:
        return self.term_variance * self.count_variance - self.covariance**2


def divergence_terms(p: FloatArray, q: FloatArray) -> FloatArray:
    """Computes each bin's part of the Jensen-Shannon divergence, in nats."""
    middle = (p + q) / 2
    return np.asarray((special.rel_entr(p, middle) + special.rel_entr(q, middle)) / 2)


def _upper_tail(
    together: FloatArray, first: int, second: int, difference: FloatArray
) -> FloatArray:
    everything = first + second
    mean = together * first / everything
    x = np.ceil(mean + difference * first * second / everything - 1e-6)
    most = np.minimum(together, first)
    x_in = np.clip(x, 0, most)
    log_chance = (
        _log_binomial(together, x_in)
        + _log_binomial(everything - together, first - x_in)
        - _log_binomial(np.array([float(everything)]), np.array([float(first)]))
    )
    ratio = (
        (together - x_in)
        * (first - x_in)
        / ((x_in + 1) * np.maximum(second - together + x_in + 1, 1))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = np.where(ratio < 1, np.exp(np.minimum(log_chance, 0)) / (1 - ratio), 1.0)
    return np.where(x > most, 0.0, np.minimum(bound, 1.0))


def _log_binomial(n: FloatArray, k: FloatArray) -> FloatArray:
    return np.asarray(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))
