"""Thresholds.

Never exceeded by nothing, wider for fewer rows, and right about how often chance exceeds them.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.validate_data.drift_distances import jensen_shannon
from components.validate_data.drift_thresholds import (
    category_tail,
    category_threshold,
    divergence_threshold,
)

SIZES = st.integers(2, 100_000)
LEVELS = st.floats(1e-9, 0.3)
BINS = st.lists(st.integers(0, 2000), min_size=2, max_size=14).filter(lambda bins: sum(bins) >= 4)


def _exact_tail(together, first, second, difference):
    """By counting: every outcome of the first sample, with its chance."""
    from scipy.stats import hypergeom

    x = np.arange(max(0, together - second), min(together, first) + 1)
    chance = hypergeom.pmf(x, first + second, together, first)
    return chance[np.abs(x / first - (together - x) / second) >= difference - 1e-9].sum()


@given(st.integers(1, 60), st.integers(1, 200), st.data(), st.floats(0, 1))
@settings(max_examples=150)
def test_tail_of_a_category_is_bounded_and_close_where_it_matters(first, second, data, difference):
    together = data.draw(st.integers(1, first + second))
    exact = _exact_tail(together, first, second, difference)
    bound = category_tail(np.array([float(together)]), first, second, np.array([difference]))[0]
    assert bound >= exact - 1e-9
    if 1e-9 < exact < 1e-3:
        assert bound < 2 * exact


@given(SIZES, SIZES, st.floats(0.001, 1), LEVELS)
def test_threshold_of_a_category_is_the_same_both_ways_and_lies_within_bounds(
    first, second, share, level
):
    together = float(max(1, round(share * (first + second))))
    one, other = (
        category_threshold(together, *sizes, level) for sizes in ((first, second), (second, first))
    )
    assert one == pytest.approx(other, abs=1e-5) and 0 <= one <= 1.001


@given(st.integers(50, 5000), st.floats(0.05, 0.95), st.floats(1e-6, 0.05))
@settings(max_examples=50)
def test_thresholds_shrink_with_rows_and_grow_as_alarms_get_rarer(rows, share, level):
    few, many = (category_threshold(round(2 * n * share), n, n, level) for n in (rows, 8 * rows))
    assert many < few <= category_threshold(round(2 * rows * share), rows, rows, level / 10)
    bins = np.full(8, rows // 4)
    little, much = (divergence_threshold(bins * n, rows * n, rows * n, level) for n in (1, 8))
    assert much < little < divergence_threshold(bins, rows, rows, level / 10)


@given(BINS, st.floats(0.05, 0.95), LEVELS)
@settings(max_examples=60)
def test_threshold_of_a_divergence_is_finite_and_the_same_both_ways(bins, share, level):
    first = int(np.clip(round(sum(bins) * share), 1, sum(bins) - 1))
    second = sum(bins) - first
    one, other = (
        divergence_threshold(np.array(bins), *sizes, level)
        for sizes in ((first, second), (second, first))
    )
    assert one == pytest.approx(other, rel=0.02, abs=1e-9) and 0 <= one <= 1


@pytest.mark.parametrize(
    "first, second, bins",
    [
        (100, 100, [20] * 10),
        (100, 5000, [510] * 10),
        (300, 3000, [1980, 1286, 17, 17]),
        (30, 30, [20, 20, 20]),
        (1000, 300, [5, 25, 52, 56, 58, 77, 80, 89, 199, 307, 352]),
        (3000, 3000, [1, 2, 5998 - 1]),
        (100, 1000, [550, 550]),
    ],
)
def test_chance_exceeds_the_divergence_as_rarely_as_was_asked(first, second, bins):
    rng, together = np.random.default_rng(5), np.array(bins)
    first = round(first * together.sum() / (first + second))
    second = together.sum() - first
    drawn = rng.multivariate_hypergeometric(together, first, size=100_000, method="marginals")
    found = np.array([jensen_shannon(x / first, (together - x) / second) for x in drawn[:40_000]])
    for level in (0.02, 0.002):
        rate = (found > divergence_threshold(together, first, second, level)).mean()
        assert rate <= 1.5 * level + 3e-4, level


def test_two_rows_say_nothing():
    assert divergence_threshold(np.array([1, 1]), 1, 1, 0.01) >= 1.0
    assert category_threshold(1.0, 1, 1, 0.01) >= 1.0
