"""Confidence sequences beside peer libraries, and what must hold of them whatever the values are.

The libraries cannot be installed beside TensorFlow: gbstats 0.8.0 wants NumPy 1, confseq 0.0.11 has no wheel and wants
Boost. What they give for the values here was computed once with them and stands in the tests.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from perennial.production.confidence_sequence import (
    Sample,
    asymptotic_half_width,
    asymptotic_lower,
    betting_lower,
    log_capital,
    sequence_bounds,
    tuning,
)

VALUES = np.array([0, 1, 1, 1, 0.5, 1, 0.25, 1, 1, 0.75] * 6)
SHARES = arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1, width=32))


def of_shares(values: np.ndarray, weights: np.ndarray | None = None) -> Sample:
    ones = np.ones(len(values))
    return Sample(values, 0 * ones, ones, ones if weights is None else weights)


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        (0.5, [0.186947938485734, 2.0172736087301577, 8.704013144374022]),
        (0.6, [0.027517117617634687, 0.591452121205934, 2.4849489559590228]),
        (0.7, [-0.07497946338575899, 0.00610327776921863, 0.12544445481727534]),
    ],
)
def test_the_capital_is_that_of_confseq(mean: float, expected: list[float]) -> None:
    # confseq.betting.diversified_betting_mart with the same stakes, one-sided, after 5, 20 and 60 values
    capital = log_capital(of_shares(VALUES), mean)
    assert capital[[4, 19, 59]] == pytest.approx(expected, rel=1e-12)


def test_the_lower_bound_is_that_of_confseq() -> None:
    # confseq.betting.cs_from_martingale on a grid of 10,000 means
    assert betting_lower(of_shares(VALUES[:20]), 0.05) == pytest.approx(0.4583, abs=2e-4)
    assert betting_lower(of_shares(VALUES), 0.05) == pytest.approx(0.5884, abs=2e-4)


@pytest.mark.parametrize(
    ("count", "deviation", "half_width"),
    [
        (2000, math.sqrt(0.602802802802803), 0.04966686496585143),
        (40000, math.sqrt(0.6022301115055753), 0.01145679889331778),
    ],
)
def test_the_asymptotic_width_is_that_of_gbstats(
    count: int, deviation: float, half_width: float
) -> None:
    # SequentialTwoSidedTTest at alpha 0.1 and tuning 5000. One side of error 0.05 is a little wider: two such sides
    # overlap, and here each holds by itself.
    assert tuning(0.1, 5000) == pytest.approx(0.03557768852889753, rel=1e-12)
    ours = asymptotic_half_width(deviation, count, 0.05, 5000)
    assert half_width < ours < 1.02 * half_width


@pytest.mark.parametrize("count", [50, 5000, 500_000])
def test_the_asymptotic_width_is_on_the_safe_side_of_the_exact_mixture(count: int) -> None:
    error, rho = 0.05, tuning(0.1, 5000)
    total = asymptotic_half_width(1.0, count, error, 5000) * count
    scaled = count * rho**2 + 1
    mixture = 2 * stats.norm.cdf(rho * total / math.sqrt(scaled))
    mixture *= math.exp(rho**2 * total**2 / (2 * scaled)) / math.sqrt(scaled)
    assert 1 / error <= mixture <= 1.2 / error


@given(SHARES, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(values: np.ndarray, random: object) -> None:
    order = np.array(random.sample(range(len(values)), len(values)))  # type: ignore[attr-defined]
    one, other = (sequence_bounds(of_shares(v), 0.05, 0.03, 1) for v in (values, values[order]))
    assert one == pytest.approx(other, abs=1e-9)


@given(SHARES)
def test_mirrored_values_have_mirrored_bounds(values: np.ndarray) -> None:
    bounds = sequence_bounds(of_shares(values), 0.05, 0.05, 1)
    mirrored = sequence_bounds(of_shares(values).mirrored(), 0.05, 0.05, 1)
    assert (-mirrored.high, -mirrored.low) == pytest.approx(bounds)
    assert bounds.low <= values.mean() <= bounds.high


@settings(max_examples=30)
@given(SHARES, st.floats(0.1, 10))
def test_equal_weights_are_none_and_more_of_the_same_is_narrower(
    values: np.ndarray, weight: float
) -> None:
    bounds = sequence_bounds(of_shares(values), 0.05, 0.05, 1)
    weighted = of_shares(values, np.full(len(values), weight))
    assert sequence_bounds(weighted, 0.05, 0.05, 1) == pytest.approx(bounds)
    more = sequence_bounds(of_shares(np.tile(values, 20)), 0.05, 0.05, 1)
    assert more.high - more.low <= bounds.high - bounds.low + 1e-9


def test_without_values_nothing_is_known() -> None:
    nothing = of_shares(np.zeros(0))
    assert sequence_bounds(nothing, 0.05, 0.05, 1) == (-math.inf, math.inf)
    assert asymptotic_lower(nothing, 0.05, 1) == -math.inf
    assert math.isnan(nothing.mean())


@pytest.mark.parametrize("sampled", [False, True])
def test_the_bound_is_ever_too_high_as_rarely_as_it_says(sampled: bool) -> None:
    """A mean of 0.1, looked at after every value up to 2,000: a share of 5% at most, of 600."""
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(600):
        values = (rng.random(2000) < 0.1).astype(float)
        weights = np.ones(2000)
        if sampled:  # what is 1 is observed half as often
            chances = np.where(rng.random(2000) < 0.5, 1.0, 0.5)
            observed = rng.random(2000) < chances
            values, weights = values[observed], 1 / chances[observed]
        wrong += bool((log_capital(of_shares(values, weights), 0.1) >= math.log(20)).any())
    assert wrong <= stats.binom.ppf(0.999, 600, 0.05)


def test_the_asymptotic_bound_is_ever_too_high_as_rarely_as_it_says() -> None:
    """Skewed values without a bound, mean 1, looked at from 100 to 3,000, 600 times."""
    rng = np.random.default_rng(4)
    counts = np.arange(100, 3001)
    widths = np.array([asymptotic_half_width(1.0, int(count), 0.05, 5000) for count in counts])
    wrong = 0
    for _ in range(600):
        values = rng.exponential(1.0, 3000)
        means = np.cumsum(values)[99:] / counts
        squares = np.cumsum(values**2)[99:] / counts
        deviations = np.sqrt((squares - means**2) * counts / (counts - 1))
        wrong += bool((means - deviations * widths > 1.0).any())
        last = asymptotic_lower(
            Sample(values, -np.inf * values, np.inf * values, values * 0 + 1), 0.05, 5000
        )
        assert last == pytest.approx(means[-1] - deviations[-1] * widths[-1])
    assert wrong <= stats.binom.ppf(0.999, 600, 0.05)
