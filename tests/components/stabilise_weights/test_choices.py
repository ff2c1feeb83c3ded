"""Properties of the choice of a weight draw.

Finite, then healthy, then the loss, then calm gradients.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.training.trainer import Steps
from perennial.training.weight_draws import (
    MOST_DEAD_UNITS,
    MOST_UNREST,
    choose_draw,
    final_loss,
    healthy,
    measure_draw,
    standard_error,
    unrest,
)
from schemas.records import WeightDraw

NUMBERS = st.floats(0, 100) | st.just(math.nan) | st.just(math.inf)
LOSSES = st.lists(NUMBERS, max_size=8)
DRAWS = st.lists(
    st.builds(
        WeightDraw,
        seed=st.integers(0, 9),
        losses=LOSSES,
        gradient_norm=NUMBERS,
        gradient_variance=NUMBERS,
        dead_units=st.none() | st.floats(0, 1),
        finite=st.booleans(),
    ),
    min_size=1,
    max_size=6,
)
SOUND = st.lists(
    st.builds(
        WeightDraw,
        seed=st.just(1),
        losses=LOSSES,
        gradient_norm=st.floats(1, 10),
        gradient_variance=st.floats(0, 1),
        dead_units=st.none() | st.floats(0, MOST_DEAD_UNITS),
        finite=st.just(True),
    ),
    min_size=1,
    max_size=6,
)


def _draw(losses, norm=1.0, variance=0.0, dead=0.0, finite=True):
    return WeightDraw(
        seed=1,
        losses=losses,
        gradient_norm=norm,
        gradient_variance=variance,
        dead_units=dead,
        finite=finite,
    )


@given(DRAWS)
def test_a_finite_draw_goes_before_one_that_is_not(draws):
    assert draws[choose_draw(draws)].finite == any(draw.finite for draw in draws)


@given(DRAWS)
def test_a_healthy_draw_goes_before_one_that_is_not(draws):
    assert healthy(draws[choose_draw(draws)]) == any(map(healthy, draws))


@given(SOUND, DRAWS)
def test_of_the_healthy_one_of_about_the_lowest_loss_goes_on(sound, others):
    draws = [*(draw for draw in others if not healthy(draw)), *sound]
    lowest = min(sound, key=lambda draw: final_loss(draw.losses))
    limit = final_loss(lowest.losses) + standard_error(lowest.losses)
    chosen = draws[choose_draw(draws)]
    assert final_loss(chosen.losses) <= limit
    equal = [draw for draw in sound if final_loss(draw.losses) <= limit]
    assert unrest(chosen) == min(map(unrest, equal))


@given(DRAWS, st.randoms())
def test_the_order_of_the_draws_does_not_decide(draws, random):
    """What is chosen of a list and of the same list in another order is equally good."""
    shuffled = random.sample(draws, len(draws))
    one, two = draws[choose_draw(draws)], shuffled[choose_draw(shuffled)]
    assert (one.finite, healthy(one)) == (two.finite, healthy(two))
    if any(map(healthy, draws)):
        assert unrest(one) == unrest(two)


@given(
    st.lists(st.floats(0.1, 2.0), min_size=8, max_size=40),
    st.floats(0.1, 10.0),
    st.floats(1.01, 50.0),
    st.floats(0.0, 1.0),
)
def test_exploding_gradients_lose_against_calm_ones_of_about_equal_loss(
    losses, norm, factor, share
):
    """Whatever the draw's place in the list, and even when its loss is a little lower."""
    calm = _draw(losses, norm, (0.3 * norm) ** 2)
    lower = [loss - share * standard_error(losses) for loss in losses]
    wild = _draw(lower, norm, (factor * MOST_UNREST * norm) ** 2)
    assert choose_draw([calm, wild]) == 0 and choose_draw([wild, calm]) == 1


@given(st.floats(0, 0.9), st.floats(0.01, 0.09))
def test_even_within_health_the_calmer_of_two_about_equal_draws_goes_on(variation, more):
    losses = [1.0, 1.2] * 8
    calm, restless = (
        _draw(losses, 2.0, (2 * variation) ** 2),
        _draw(losses, 2.0, (2 * (variation + more)) ** 2),
    )
    assert healthy(calm) and healthy(restless)
    assert choose_draw([restless, calm]) == 1 and choose_draw([calm, restless]) == 0


def test_a_loss_that_is_lower_by_more_than_chance_decides_before_calm():
    better, calmer = _draw([0.50, 0.52] * 8, 1.0, 0.25), _draw([0.90, 0.92] * 8, 1.0, 0.0)
    assert choose_draw([calmer, better]) == 1


@pytest.mark.parametrize(
    "draw",
    [
        _draw([1.0], finite=False),
        _draw([1.0], norm=0.0),
        _draw([1.0], norm=math.nan),
        _draw([1.0], norm=math.inf, variance=math.inf),
        _draw([1.0], variance=1.1),
        _draw([1.0], variance=math.nan),
        _draw([1.0], dead=MOST_DEAD_UNITS + 0.01),
    ],
    ids=[
        "not finite",
        "no gradient",
        "NaN norm",
        "infinite norm",
        "explodes",
        "NaN variance",
        "dead",
    ],
)
def test_what_is_not_healthy(draw):
    assert not healthy(draw) and choose_draw([draw, _draw([9.0])]) == 1


def test_a_model_without_relu_is_healthy():
    assert healthy(_draw([1.0], dead=None))


def test_one_step_of_ten_times_the_others_is_no_health():
    norms = [1.0] * 29 + [10.0]
    steps = Steps([1.0] * 30, norms)
    assert unrest(measure_draw(1, steps, True, 0.0)) == pytest.approx(1.24, abs=0.01)
    assert not healthy(measure_draw(1, steps, True, 0.0))


def test_the_record_of_a_draw():
    draw = measure_draw(7, Steps([3.0, 2.0], [1.0, math.inf]), True, 0.25)
    assert (draw.seed, draw.losses, draw.dead_units, draw.finite) == (7, [3.0, 2.0], 0.25, True)
    assert (draw.gradient_norm, draw.gradient_variance) == (1.0, 0.0), (
        "a step that the optimizer skipped"
    )
    empty = measure_draw(7, Steps([], []), False, None)
    assert (empty.gradient_norm, empty.gradient_variance, empty.finite) == (0.0, 0.0, False)


@given(LOSSES)
def test_final_loss_is_a_number_or_infinite(losses):
    assert not math.isnan(final_loss(losses)) and standard_error(losses) >= 0


def test_final_loss_is_the_mean_of_the_last_quarter():
    assert final_loss([9, 9, 9, 9, 9, 9, 1, 3]) == 2 and final_loss([]) == math.inf
    assert final_loss([1, 1, 1, math.nan]) == math.inf
    assert standard_error([9, 9, 9, 9, 9, 9, 1, 3]) == pytest.approx(1)
