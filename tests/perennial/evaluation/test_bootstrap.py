"""Bootstrap intervals: what they cover, alone and together, of clusters and weights.

What is equal gives the same.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from perennial.evaluation.bootstrap import (
    effective_number,
    gain_interval,
    mean_interval,
    per_interval,
)

FEW = settings(max_examples=15)  # each draws thousands of resamples
GAINS = st.lists(st.floats(-5, 5), min_size=2, max_size=40).map(np.array)
SEEDS = st.integers(0, 99)


def mean_of(gains):
    """The mean as a function of counts."""
    return lambda counts: counts @ gains / counts.sum(axis=1)


@FEW
@given(GAINS, st.floats(0.51, 0.99))
def test_interval_holds_its_value_and_is_deterministic(gains, confidence):
    value, low, high = mean_interval(gains, confidence)
    assert (value, low, high) == mean_interval(gains.copy(), confidence)
    assert low <= value <= high
    assert value == pytest.approx(gains.mean())


@FEW
@given(st.integers(20, 300), SEEDS)
def test_interval_of_many_examples_is_students(size, seed):
    gains = np.random.default_rng(seed).normal(size=size)
    found = mean_interval(gains, 0.9)
    reach = stats.t.isf(0.05, size - 1) * gains.std(ddof=1) / math.sqrt(size)
    assert [found.value - found.low, found.high - found.value] == pytest.approx(
        [reach, reach], rel=0.15
    )


@FEW
@given(st.lists(st.integers(-200, 200), min_size=2, max_size=40), st.integers(-90, 90))
def test_interval_moves_with_the_gains(sixteenths, shift):
    # In binary fractions gains that are equal stay so.
    gains, shift = np.array(sixteenths) / 16, shift / 16
    one, moved = (mean_interval(g, 0.9) for g in (gains, gains + shift))
    assert [moved.low - one.low, moved.high - one.high] == pytest.approx([shift, shift], abs=1e-9)


@FEW
@given(GAINS)
def test_more_confidence_is_never_narrower(gains):
    (_, low, high), (_, lowest, highest) = (
        mean_interval(gains, confidence) for confidence in (0.6, 0.95)
    )
    assert lowest <= low and high <= highest


def test_a_tie_is_exactly_zero():
    assert mean_interval(np.zeros(50), 0.95) == (0, 0, 0)


def test_interval_of_what_is_no_number_is_no_number():
    assert all(map(math.isnan, mean_interval(np.array([0.1, math.nan, 0.2]), 0.95)))


@pytest.mark.parametrize("clusters", [None, np.zeros(1)])
def test_one_example_has_no_interval(clusters):
    value, low, high = mean_interval(np.array([0.5]), 0.95, clusters)
    assert value == 0.5 and math.isnan(low) and math.isnan(high)


def test_one_cluster_has_no_interval():
    assert math.isnan(mean_interval(np.arange(30.0), 0.95, np.full(30, "a")).low)


@pytest.mark.parametrize("size, confidence", [(10, 0.9), (30, 0.9), (30, 0.99), (200, 0.95)])
def test_coverage(size, confidence):
    """The true gain is held as often as promised, also of few examples.

    600 draws know it to about 2.5 points.
    """
    random, truth = np.random.default_rng(1), 0.1
    found = [
        mean_interval(random.choice([-1.0, 0, 1], size, p=[0.15, 0.6, 0.25]), confidence)
        for _ in range(600)
    ]
    held = np.mean([row.low <= truth <= row.high for row in found])
    assert held >= confidence - 0.025


def test_intervals_of_a_family_hold_together():
    """All five slices of 30 to 120 examples hold the truth at once, in at least 95% of the tables, less 2 points.

    120 tables know that share to within 2 points (one standard error); `benchmarks/judgement.py` draws 800.
    """
    random, confidence, tables, held = np.random.default_rng(1), 0.95, 120, 0
    for _ in range(tables):
        slices = [
            random.choice([-1.0, 0.0, 1.0], size, p=[0.2, 0.5, 0.3])
            for size in random.integers(30, 120, 5)
        ]
        found = [mean_interval(gains, per_interval(confidence, 5)) for gains in slices]
        held += all(row.low <= 0.1 <= row.high for row in found)
    assert held / tables >= confidence - 0.02


def test_uncorrected_intervals_do_not_hold_together():
    """What the correction is for: of 20 slices some interval misses in most tables."""
    random, held = np.random.default_rng(2), 0
    for _ in range(100):
        slices = random.choice([-1.0, 0.0, 1.0], (20, 60), p=[0.2, 0.5, 0.3])
        held += all(
            row.low <= 0.1 <= row.high for row in (mean_interval(gains, 0.95) for gains in slices)
        )
    assert held / 100 < 0.6


@FEW
@given(st.integers(1, 200), st.floats(0.6, 0.99))
def test_a_larger_family_asks_for_more(family, confidence):
    assert confidence <= per_interval(confidence, family) < per_interval(confidence, family + 1) < 1
    assert family * (1 - per_interval(confidence, family)) == pytest.approx(1 - confidence)


def test_far_tails_agree_with_more_resamples():
    """A corrected interval is told by nearer tails.

    A bootstrap with enough resamples says the same.
    """
    random = np.random.default_rng(5)
    gains = random.choice([-1.0, 0.0, 1.0], 2000, p=[0.1, 0.75, 0.15])
    found, tail = mean_interval(gains, per_interval(0.95, 200)), 0.025 / 200
    draws = (
        random.multinomial(2000, [0.1, 0.75, 0.15], 400_000) @ [-1, 0, 1] / 2000
        - 0.05
        + gains.mean()
    )
    low, high = np.quantile(draws, [tail, 1 - tail])
    assert [found.low, found.high] == pytest.approx([low, high], rel=0.1, abs=0.003)


@FEW
@given(SEEDS)
def test_equal_gains_within_clusters_are_known_to_as_many_units_as_there_are_clusters(seed):
    """40 clusters of 25 equal examples tell as much as 40 examples, and not as 1,000."""
    of_each = np.random.default_rng(seed).normal(size=40)
    gains, clusters = np.repeat(of_each, 25), np.repeat(np.arange(40), 25)
    whole, plain, alone = (
        mean_interval(gains, 0.9, clusters),
        mean_interval(gains, 0.9),
        mean_interval(of_each, 0.9),
    )
    assert whole == pytest.approx(alone)
    assert whole.high - whole.low > 4 * (plain.high - plain.low)


def test_clusters_of_different_sizes_are_a_ratio():
    gains, clusters = np.array([1.0, 1, 1, 1, 0, 0]), np.array(["a", "a", "a", "b", "c", "d"])
    assert mean_interval(gains, 0.9, clusters).value == pytest.approx(4 / 6)


def test_coverage_of_clusters():
    """Gains that agree within patients.

    Clusters hold the truth as promised, examples alone do not.
    """
    random, held, plain, truth = np.random.default_rng(3), 0, 0, 0.0
    for _ in range(400):
        clusters = np.repeat(np.arange(30), random.integers(5, 15, 30))
        gains = random.normal(size=30)[clusters] + random.normal(scale=0.5, size=len(clusters))
        one, other = mean_interval(gains, 0.95, clusters), mean_interval(gains, 0.95)
        held, plain = (
            held + (one.low <= truth <= one.high),
            plain + (other.low <= truth <= other.high),
        )
    assert held / 400 >= 0.92 and plain / 400 < 0.8


@FEW
@given(GAINS, SEEDS)
def test_weighted_value_is_the_weighted_mean(gains, seed):
    weights = np.random.default_rng(seed).uniform(0.1, 3, len(gains))
    found = mean_interval(gains, 0.9, weights=weights)
    assert found.value == pytest.approx(np.average(gains, weights=weights))
    assert mean_interval(gains, 0.9, weights=7 * weights) == pytest.approx(found, nan_ok=True)


def test_what_weighs_nothing_says_nothing():
    random = np.random.default_rng(4)
    gains, weights = random.normal(size=200), np.repeat([1.0, 0.0], 100)
    found, half = mean_interval(gains, 0.9, weights=weights), mean_interval(gains[:100], 0.9)
    assert found.value == pytest.approx(half.value)
    assert found.high - found.low == pytest.approx(half.high - half.low, rel=0.15)


@FEW
@given(SEEDS, st.booleans(), st.booleans())
def test_any_gain_has_the_interval_that_a_mean_has(seed, clustered, weighted):
    random = np.random.default_rng(seed)
    gains = random.normal(size=150)
    clusters = random.integers(0, 40, 150) if clustered else None
    weights = random.uniform(0.5, 2, 150) if weighted else None
    mean = mean_interval(gains, 0.9, clusters, weights)
    other = gain_interval(mean_of(gains), 150, 0.9, clusters, weights)
    assert other.value == pytest.approx(mean.value)
    assert [other.low, other.high] == pytest.approx(
        [mean.low, mean.high], abs=0.15 * (mean.high - mean.low)
    )


def test_weights_that_are_estimated_anew_widen_the_interval():
    """Half of the examples gain 1, half nothing, so all depends on their weights.

    What is not known of them counts.
    """
    gains = np.tile([0.0, 1.0], 200)

    def guess(random, rows):
        share = random.uniform(0.2, 0.8)
        return np.where(gains[rows] == 1, share, 1 - share)

    given_weights = gain_interval(mean_of(gains), 400, 0.9, weights=np.ones(400))
    anew = gain_interval(mean_of(gains), 400, 0.9, weights=np.ones(400), reweigh=guess)
    assert anew.value == given_weights.value == 0.5
    assert anew.high - anew.low > 4 * (given_weights.high - given_weights.low)
    assert [anew.low, anew.high] == pytest.approx([0.23, 0.77], abs=0.04)


def test_weights_that_stay_the_same_when_estimated_anew_change_nothing():
    random = np.random.default_rng(6)
    gains, weights = random.normal(size=100), random.uniform(0.5, 2, 100)
    plain = gain_interval(mean_of(gains), 100, 0.9, weights=weights)
    anew = gain_interval(
        mean_of(gains), 100, 0.9, weights=weights, reweigh=lambda _, rows: weights[rows]
    )
    assert anew == pytest.approx(plain)


@pytest.mark.parametrize(
    "sizes, expected",
    [([1, 1, 1, 1], 4), ([3, 1], 1.6), ([5, 0, 0], 1), ([2, 2, 0], 2), ([0, 0], 0)],
)
def test_effective_number(sizes, expected):
    assert effective_number(np.array(sizes, dtype=float)) == pytest.approx(expected)
