"""Comparing design spaces.

Equal ones are rarely called different, different ones are found, failures count.
"""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from perennial.evaluation.error_distributions import (
    SIGNIFICANCE,
    compare_spaces,
    distribution,
    kolmogorov_smirnov,
)

SAMPLES = 20  # the default of designs.samples
DRAWS = 400
ERRORS = st.lists(st.floats(0, 10), min_size=5, max_size=30)


def lognormal(centre: float, spread: float, draws: random.Random) -> list[float]:
    """Errors of a space: positive, skewed to the right."""
    return [centre * math.exp(draws.gauss(0, spread)) for _ in range(SAMPLES)]


def shares_of_findings(spaces: dict[str, tuple[float, float]], seed: int) -> float:
    """How often some space is called better than another."""
    draws, found = random.Random(seed), 0
    for _ in range(DRAWS):
        tests = compare_spaces({name: lognormal(*shape, draws) for name, shape in spaces.items()})
        found += any(test.better for test in tests)
    return found / DRAWS


def test_equal_spaces_are_called_different_at_most_as_often_as_promised():
    # Three standard errors of a share of 5% over so many draws.
    most = SIGNIFICANCE + 3 * math.sqrt(SIGNIFICANCE * (1 - SIGNIFICANCE) / DRAWS)
    assert shares_of_findings({"a": (1, 0.3), "b": (1, 0.3)}, 1) <= most
    assert shares_of_findings({name: (1, 0.3) for name in "abcd"}, 2) <= most


def test_clearly_lower_errors_are_found():
    draws, found = random.Random(3), []
    for _ in range(DRAWS):
        (test,) = compare_spaces(
            {"worse": lognormal(1.0, 0.2, draws), "lower": lognormal(0.7, 0.2, draws)}
        )
        found.append(test.better)
    assert found.count("lower") / DRAWS > 0.95 and "worse" not in found


def test_one_good_model_does_not_make_a_space_better():
    lucky = [0.01, *[1.0 + number / 100 for number in range(19)]]
    steady = [1.0 + number / 100 for number in range(20)]
    (test,) = compare_spaces({"lucky": lucky, "steady": steady})
    assert test.better is None and test.p_value > 0.5


@given(ERRORS, ERRORS)
def test_statistic_and_p_value_are_those_of_scipy(first, second):
    expected = ks_2samp(first, second)
    assert kolmogorov_smirnov(first, second) == pytest.approx((expected.statistic, expected.pvalue))


@given(ERRORS, ERRORS)
def test_order_of_spaces_does_not_matter(first, second):
    (one,), (two,) = (
        compare_spaces({"a": first, "b": second}),
        compare_spaces({"b": second, "a": first}),
    )
    assert (one.statistic, one.better) == (two.statistic, two.better)
    assert one.p_value == pytest.approx(two.p_value)


def test_failed_samples_count_as_the_worst():
    errors = [0.1 + number / 1000 for number in range(SAMPLES)]
    half_failed = [None if number % 2 else error for number, error in enumerate(errors)]
    (test,) = compare_spaces({"fragile": half_failed, "sound": errors})
    assert test.statistic == pytest.approx(0.5) and test.better == "sound"
    (test,) = compare_spaces(
        {"fragile": [*errors[:11], *[None] * 9], "diverging": [math.nan] * 10 + [math.inf] * 10}
    )
    assert test.better == "fragile"
    (test,) = compare_spaces({"a": [None] * 8, "b": [math.nan] * 8})
    assert (test.statistic, test.p_value, test.better) == (0, 1, None)


def test_pairs_are_in_the_order_of_the_spaces():
    tests = compare_spaces({"b": [1.0] * 5, "a": [2.0] * 5, "c": [3.0] * 5})
    assert [(test.first, test.second) for test in tests] == [("b", "a"), ("b", "c"), ("a", "c")]
    assert compare_spaces({"alone": [1.0, 2.0]}) == [] == compare_spaces({})


def test_same_medians_have_no_better_space():
    wide, narrow = [1.0] * 3 + [5.0] * 14 + [9.0] * 15, [4.0] * 15 + [5.0] * 14 + [6.0] * 3
    (test,) = compare_spaces({"wide": wide, "narrow": narrow})
    assert test.p_value < SIGNIFICANCE and test.better is None


def test_distribution_function():
    assert distribution([0.3, 0.1, None, 0.2]) == [(0.1, 0.25), (0.2, 0.5), (0.3, 0.75)]
    assert distribution([math.inf, math.nan, 1.0, 1.0]) == [(1.0, 0.25), (1.0, 0.5)]
    assert distribution([]) == [] == distribution([None])
