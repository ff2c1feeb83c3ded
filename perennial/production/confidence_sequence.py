"""Confidence sequences: bounds of a mean that hold at every look at once.

A fixed-horizon interval holds at one number of observations that was chosen before; whoever looks
again and again, and stops when it suits, is wrong far more often than it says. A confidence
sequence holds at all numbers of observations together, so that it may be read after every label.

Bounded values have exact bounds, by betting: whoever bets fairly against "the mean is at most m"
multiplies a capital of 1, by Ville's inequality, to 1 / error with a chance of at most `error`. A
bet of a fixed size has a capital that does not depend on the order of the values; the mean of the
capitals of several sizes has neither, and needs no guess of the true mean.

Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting",
JRSS-B 86(1), arXiv 2010.09686: the capital process K_n(m) = prod (1 + lambda_i (x_i - m)) and its
confidence sequence, Theorem 3; the mean over bets of fixed sizes is its "diversified Kelly". Values
without bounds have an asymptotic sequence, see `asymptotic_lower`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# Sizes of the bets, as shares of the largest that cannot lose everything. The best size is about
# (mean - m) / variance: differences of half a point and of 50 points both have one near by.
STAKES: Array = np.geomspace(0.004, 0.75, 12)
_BISECTIONS = 40


class Bounds(NamedTuple):
    """A lower and an upper bound of a mean; infinite where nothing is known."""

    low: float
    high: float


@dataclass(frozen=True)
class Sample:
    """Independent values of one mean.

    Attributes:
        values: The values, float [n].
        low: The least that each could have been, known before it came, float [n].
        high: The greatest, float [n]; infinite ends: only asymptotic bounds are possible.
        weights: How much each counts, above 0, float [n]: 1 / chance of having been observed. What
            was not observed does not move the capital, so that a share of them is enough.
    """

    values: Array
    low: Array
    high: Array
    weights: Array

    def __len__(self) -> int:
        return len(self.values)

    @property
    def bounded(self) -> bool:
        """Tells whether every value lies between known ends."""
        return bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())

    def mean(self) -> float:
        """Gives the weighted mean; NaN without values."""
        if not len(self):
            return math.nan
        return float(np.average(self.values, weights=self.weights))

    def mirrored(self) -> Sample:
        """Gives the values with the other sign, whose lower bound is minus this one's upper."""
        return Sample(-self.values, -self.high, -self.low, self.weights)


def log_capital(sample: Sample, mean: float) -> Array:
    """Computes what betting against "the mean is at most `mean`" has made of 1, as logarithms.

    Entry i is the log capital after values 0 to i, float [n]. Each value x with weight w multiplies
    the capital of stake s by 1 + s w / w_max (x - mean) / (mean - low), which is at least 1 - s.

    Source: the capital process of Waudby-Smith and Ramdas 2024, with bets of constant size. With
    weights: the estimating equation E[w (x - mean)] = 0 of Horvitz and Thompson 1952.

    Args:
        sample: Bounded values, in any order: the last entry is the same.
        mean: Above every value's least.
    """
    steps = sample.weights / sample.weights.max(initial=0.0) if len(sample) else sample.weights
    relative = steps * (sample.values - mean) / (mean - sample.low)
    capitals = np.cumsum(np.log1p(STAKES[:, np.newaxis] * relative), axis=1)
    highest = capitals.max(axis=0, initial=-math.inf)
    result: Array = highest + np.log(np.exp(capitals - highest).mean(axis=0))
    return result


def betting_lower(sample: Sample, error: float) -> float:
    """Gives the lower bound of a bounded mean; it is too high at any look with chance `error`.

    The capital falls with the mean that is bet against, so that the bound is found by bisection.
    """
    if not len(sample):
        return -math.inf
    target = -math.log(error)
    low, high = float(sample.low.max()), float(sample.high.min())
    # Against a mean at its least every value would have to be the least: the limit is not tried.
    accepted, rejected = high, low
    for _ in range(_BISECTIONS):
        middle = (accepted + rejected) / 2
        if log_capital(sample, middle)[-1] >= target:
            rejected = middle
        else:
            accepted = middle
    return rejected


def asymptotic_lower(sample: Sample, error: float, planned: int) -> float:
    """Gives the lower bound of a mean without known ends; it holds when there are many values.

    It holds as the mean becomes normal, and as the variance that is estimated comes near the true
    one: below some hundred values its promise is weak.

    Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, "Time-uniform central limit theory
    and asymptotic confidence sequences", Annals of Statistics 52(6), arXiv 2103.06476: Theorem 2.2
    (eq. 9 of v7), with the one-sided boundary of `asymptotic_half_width`.

    Args:
        sample: Values of finite variance.
        error: Chance that it is too high at any look, of 1.
        planned: Number of values at which it is narrowest.
    """
    count = len(sample)
    if count < 2:
        return -math.inf
    mean = sample.mean()
    shares = sample.weights / sample.weights.sum()
    # The variance of the mean, times the number of values; without weights the sample's variance.
    spread = float((shares**2 * (sample.values - mean) ** 2).sum()) * count**2 / (count - 1)
    return mean - asymptotic_half_width(math.sqrt(spread), count, error, planned)


def asymptotic_half_width(deviation: float, count: int, error: float, planned: int) -> float:
    """Gives how far the asymptotic lower bound lies below the mean.

    sigma sqrt(2 (t rho^2 + 1) / (t^2 rho^2) log(1 + sqrt(t rho^2 + 1) / (2 error))).

    Source: the closed form of the one-sided normal mixture, Howard, Ramdas, McAuliffe and Sekhon
    2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics
    49(2), section 3.2, in the units of Waudby-Smith et al. 2024.
    """
    rho = tuning(2 * error, planned)
    scaled = count * rho**2 + 1
    return (
        deviation
        * math.sqrt(2 * scaled * math.log1p(math.sqrt(scaled) / (2 * error)))
        / (count * rho)
    )


def tuning(error: float, planned: int) -> float:
    """Gives rho, with which a two-sided sequence is narrowest at a planned number of values.

    Source: Waudby-Smith et al. 2024 (eq. 161 of v7),
    sqrt((-2 log error + log(1 - 2 log error)) / planned).
    """
    return math.sqrt((-2 * math.log(error) + math.log1p(-2 * math.log(error))) / planned)


def sequence_bounds(sample: Sample, low_error: float, high_error: float, planned: int) -> Bounds:
    """Gives both bounds of a mean: exact ones where the values are bounded, else asymptotic ones.

    Args:
        sample: The values so far.
        low_error: Chance that the lower bound is ever too high, of 1.
        high_error: Chance that the upper bound is ever too low, of 1.
        planned: Where asymptotic bounds are narrowest; exact ones do not read it.
    """
    other = sample.mirrored()
    if sample.bounded:
        return Bounds(betting_lower(sample, low_error), -betting_lower(other, high_error))
    return Bounds(
        asymptotic_lower(sample, low_error, planned), -asymptotic_lower(other, high_error, planned)
    )
