"""What is tried next: inside the space, never twice, and the same whenever it is asked."""

from __future__ import annotations

import pytest

from tests.components.tune_model.jobs import explore
from tests.forked import forked


@pytest.fixture(scope="module")
def found():
    return forked(explore)


@pytest.mark.parametrize("algorithm", ["bayesian", "random"])
def test_all_that_is_tried_lies_in_the_space_and_differs(found, algorithm):
    tried = [trial.values for trial in found[algorithm]]
    assert len(tried) == 11 and all(
        0 <= values[name] <= 10 for values in tried for name in ("x", "y")
    )
    assert all(type(value) is float for values in tried for value in values.values())
    assert len({tuple(values.values()) for values in tried}) == 11


def test_the_next_values_depend_on_the_trials_alone(found):
    """So a killed search goes on with what one that was never killed would have tried."""
    assert found["again"] == [found["bayesian"][number].values for number in (0, 3, 7)]
    assert found["other seed"] != found["bayesian"][0].values


def test_bayesian_search_comes_near_the_lowest_point(found):
    """The valley's floor is 0 at (3, 7); its rim is 98."""
    assert min(trial.loss for trial in found["bayesian"]) < 1


@pytest.mark.parametrize("algorithm", ["bayesian", "random"])
def test_a_small_space_is_searched_wholly_and_then_ended(found, algorithm):
    tried = {(trial.values["a"], trial.values["b"]) for trial in found["few"][algorithm]}
    assert len(found["few"][algorithm]) == len(tried) == 6


def test_what_has_a_condition_is_tried_only_where_it_holds(found):
    tried = [trial.values for trial in found["tree"]]
    assert {values["kind"] for values in tried} == {"deep", "wide"}
    assert all(("layers" in values) == (values["kind"] == "deep") for values in tried)


def test_learning_rates_are_tried_on_a_logarithmic_scale(found):
    rates = [next(iter(trial.values.values())) for trial in found["rates"]]
    assert all(1e-5 <= rate <= 1e-1 for rate in rates)
    assert any(rate < 1e-4 for rate in rates) and any(1e-4 <= rate < 1e-3 for rate in rates)


def test_the_search_leaves_where_trials_fail(found):
    """Half of the plane fails.

    What is asked after the random draws lies in the other half more often than not.
    """
    asked = found["failing"][5:]
    assert sum(1 for trial in asked if trial.loss is not None) > len(asked) / 2


def test_a_search_in_which_all_failed_so_far_goes_on(found):
    assert len(found["all failed"]) == 8


def test_a_third_of_the_trials_are_drawn_at_random_but_no_more_than_kerastuner_does(found):
    assert found["drawn"] == [6, 6, 3, 1]
