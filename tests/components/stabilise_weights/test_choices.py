"""Properties of the choice of a weight draw and of the warm-up."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from components.stabilise_weights.step import MOST_DEAD_UNITS, choose_draw, final_loss, warm_up
from schemas.records import WeightDraw

LOSSES = st.lists(st.floats(0, 100) | st.just(math.nan) | st.just(math.inf), max_size=8)
DRAWS = st.lists(
    st.builds(
        WeightDraw,
        seed=st.integers(0, 9),
        losses=LOSSES,
        gradient_norm=st.just(1.0),
        gradient_variance=st.just(0.0),
        dead_units=st.none() | st.floats(0, 1),
        finite=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


def _healthy(draw):
    return draw.finite and (draw.dead_units or 0) <= MOST_DEAD_UNITS


@given(DRAWS)
def test_a_finite_draw_goes_before_one_that_is_not(draws):
    assert draws[choose_draw(draws)].finite == any(draw.finite for draw in draws)


@given(DRAWS)
def test_a_healthy_draw_goes_before_one_that_is_not(draws):
    assert _healthy(draws[choose_draw(draws)]) == any(map(_healthy, draws))


@given(DRAWS)
def test_of_the_healthy_the_lowest_loss_goes_on(draws):
    healthy = [final_loss(draw.losses) for draw in draws if _healthy(draw)]
    if healthy:
        assert final_loss(draws[choose_draw(draws)].losses) == min(healthy)


@given(DRAWS)
def test_the_last_draw_that_was_best_when_it_came_is_the_one_that_is_chosen(draws):
    """The step keeps the weights of each draw that is best so far; the chosen one's must be those kept last."""
    kept = [number for number in range(len(draws)) if choose_draw(draws[: number + 1]) == number]
    assert kept[-1] == choose_draw(draws)


@given(LOSSES)
def test_final_loss_is_a_number_or_infinite(losses):
    assert not math.isnan(final_loss(losses))


def test_final_loss_is_the_mean_of_the_last_quarter():
    assert final_loss([9, 9, 9, 9, 9, 9, 1, 3]) == 2 and final_loss([]) == math.inf
    assert final_loss([1, 1, 1, math.nan]) == math.inf


@given(st.integers(2, 1000), st.floats(1e-6, 1))
def test_warm_up_rises_to_the_learning_rate_over_the_first_half(steps, rate):
    rates = [warm_up(step, steps, rate) for step in range(steps)]
    assert rates[0] > 0 and rates == sorted(rates) and max(rates) <= rate
    assert all(r == rate for r in rates[steps // 2 :])
