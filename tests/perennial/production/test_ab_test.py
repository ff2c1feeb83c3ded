"""The A/B decision: what it says of simulated answers, and what must hold whatever they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.production.ab_test import (
    Answers,
    Errors,
    Evidence,
    PairedAnswers,
    compare_paired,
    compare_split,
    decide,
    guard_errors,
    quality_errors,
    split_sample,
)
from schemas.project import ABSettings
from schemas.records import ABAction, ABComparison

SETTINGS = ABSettings()
EVEN = Errors(0.05, 0.05)


def simulated(
    accuracies: tuple[float, float], rows: int, share: float = 0.5, seed: int = 0, users: int = 0
) -> Answers:
    """Answers of a champion and a challenger; of `users`, whose answers are all right or all wrong."""
    rng = np.random.default_rng(seed)
    units = rng.integers(0, users, rows) if users else np.arange(rows)
    arms, luck = rng.random(users or rows) < share, rng.random(users or rows)
    challenger = arms[units]
    losses = (luck[units] >= np.where(challenger, accuracies[1], accuracies[0])).astype(float)
    return Answers(units, challenger, losses, np.full(rows, share), np.ones(rows))


def comparison(low: float, high: float, **other: float) -> ABComparison:
    return ABComparison(
        measure="accuracy", champion=0.8, challenger=0.8, champion_units=500, challenger_units=500,
        rows=1000, gain=(low + high) / 2, low=low, high=high, exact=True,
    ).model_copy(update=other)  # fmt: skip


def judged(answers: Answers, days: float = 1.0, settings: ABSettings = SETTINGS) -> ABAction:
    quality = compare_split("accuracy", answers, 0.2, quality_errors(settings))
    return decide(Evidence(days, quality, [], settings.max_days), settings).action


def test_a_better_challenger_is_promoted_and_a_worse_one_taken_back() -> None:
    assert judged(simulated((0.8, 0.9), 3000)) == "promote"
    assert judged(simulated((0.8, 0.7), 3000)) == "roll_back"
    assert judged(simulated((0.8, 0.8), 3000)) == "wait"
    assert judged(simulated((0.8, 0.8), 3000), days=28.0) == "expire"


def test_many_answers_to_few_users_are_few_units() -> None:
    """3,000 answers to 60 people, all right or all wrong for one, are not 3,000 labels."""
    answers = simulated((0.8, 0.9), 3000, users=60)
    quality = compare_split("accuracy", answers, 0.2, quality_errors(SETTINGS))
    assert quality.champion_units + quality.challenger_units == 60
    assert judged(answers) == "wait"


@pytest.mark.parametrize(
    ("evidence", "action", "reason"),
    [
        (Evidence(1, None, [], 28), "wait", "no label"),
        (Evidence(28, None, [], 28), "expire", "28 days"),
        (Evidence(1, comparison(0.1, 0.2), [], 28, invalid="a skewed split"), "invalid", "skewed"),
        (Evidence(1, comparison(0.01, 0.2), [], 28), "promote", "better"),
        (Evidence(28, comparison(0.01, 0.2), [], 28), "promote", "better"),
        (Evidence(1, comparison(0.0, 0.2), [], 28), "wait", "may not be better"),
        (Evidence(1, comparison(0.01, 0.2, challenger_units=99), [], 28), "wait", "100 needed"),
        (Evidence(1, comparison(-0.2, -0.01, challenger_units=99), [], 28), "roll_back", "worse"),
        (Evidence(1, comparison(-0.2, 0.0), [], 28), "wait", "may not be better"),
        # Guards: slow for certain by more than 0.01 is harm, before any label; a doubt holds a promotion up.
        (Evidence(1, None, [comparison(-0.2, -0.02, allowed=0.01)], 28), "roll_back", "worse"),
        (Evidence(1, comparison(0.01, 0.2), [comparison(-0.2, -0.02, allowed=0.01)], 28), "roll_back", "worse"),
        (Evidence(1, comparison(0.01, 0.2), [comparison(-0.2, 0.1, allowed=0.01)], 28), "wait", "not for certain"),
        (Evidence(1, comparison(0.01, 0.2), [comparison(-0.2, 0.19, allowed=0.01)], 28), "promote", "better"),
        (Evidence(1, comparison(math.nan, math.nan), [], 28), "wait", "may not be better"),
    ],
)  # fmt: skip
def test_what_follows(evidence: Evidence, action: ABAction, reason: str) -> None:
    verdict = decide(evidence, SETTINGS)
    assert verdict.action == action
    assert any(reason in line for line in verdict.reasons)


def test_margin_and_harm_move_the_decision() -> None:
    better, worse = (
        Evidence(1, bounds, [], 28) for bounds in (comparison(0.01, 0.2), comparison(-0.2, -0.01))
    )
    assert decide(better, ABSettings(margin=0.02)).action == "wait"
    assert decide(worse, ABSettings(harm=0.02)).action == "wait"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_swapped_arms_swap_the_bounds(data: st.DataObject) -> None:
    rows = data.draw(st.integers(2, 60))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    share = data.draw(st.sampled_from([0.1, 0.3, 0.5]))
    answers = Answers(
        rng.integers(0, 20, rows), rng.random(rows) < 0.5, rng.random(rows), np.full(rows, share),
        rng.choice([0.5, 1.0], rows),
    )  # fmt: skip
    swapped = Answers(
        answers.units, ~answers.challenger, answers.losses, 1 - answers.shares, answers.chances
    )
    one, other = (compare_split("brier", each, 0.3, EVEN) for each in (answers, swapped))
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-9)
    assert (one.champion, one.champion_units) == pytest.approx(
        (other.challenger, other.challenger_units), nan_ok=True
    )
    order = rng.permutation(rows)
    shuffled = Answers(*(part[order] for part in (answers.units, answers.challenger, answers.losses,
                                                  answers.shares, answers.chances)))  # fmt: skip
    again = compare_split("brier", shuffled, 0.3, EVEN)
    assert (again.low, again.high) == pytest.approx((one.low, one.high), abs=1e-9)


def test_the_values_of_a_split_have_the_difference_as_their_mean() -> None:
    """Whatever the constant is, and however the share changes, also for one user's answers."""
    answers = simulated((0.8, 0.9), 200_000, share=0.2, users=50_000, seed=1)
    for centre in (0.0, 0.2, 1.0):
        sample = split_sample(answers, centre)
        error = sample.values.std() / math.sqrt(len(sample))
        assert sample.mean() == pytest.approx(0.1, abs=4 * error)
    assert split_sample(answers, 0.2).values.std() < split_sample(answers, 1.0).values.std()


def test_answers_while_one_version_had_all_the_traffic_tell_nothing() -> None:
    answers = simulated((0.8, 0.9), 1000)
    alone = Answers(
        np.arange(1000, 1500), np.zeros(500, bool), np.ones(500), np.zeros(500), np.ones(500)
    )
    both = Answers(*(np.concatenate([getattr(answers, name), getattr(alone, name)])
                     for name in ("units", "challenger", "losses", "shares", "chances")))  # fmt: skip
    assert len(split_sample(both, 0.2)) == len(split_sample(answers, 0.2))


def test_a_shadow_needs_fewer_labels_than_a_split() -> None:
    """Both answer each request: what makes an example hard is not noise any more."""
    rng = np.random.default_rng(0)
    hardness = rng.random(1200)
    champion, challenger = (hardness > 0.8).astype(float), (hardness > 0.85).astype(float)
    paired = PairedAnswers(np.arange(1200), champion, challenger, np.ones(1200))
    assert compare_paired("accuracy", paired, quality_errors(SETTINGS)).low > 0
    assert judged(simulated((0.8, 0.85), 1200)) == "wait"


def test_errors_without_a_bound_have_approximate_bounds_and_none_of_few() -> None:
    rng = np.random.default_rng(0)

    def compared(rows: int) -> ABComparison:
        challenger = rng.random(rows) < 0.5
        losses = rng.exponential(np.where(challenger, 8.0, 10.0))
        answers = Answers(
            np.arange(rows), challenger, losses, np.full(rows, 0.5), np.ones(rows), math.inf
        )
        return compare_split("absolute_error", answers, 10.0, quality_errors(SETTINGS))

    assert (compared(150).low, compared(150).high) == (-math.inf, math.inf)
    many = compared(5000)
    assert not many.exact
    assert 0 < many.low < 2 < many.high


def test_a_bounded_error_is_given_in_its_own_unit() -> None:
    answers = simulated((0.8, 0.9), 3000)
    cents = Answers(
        answers.units,
        answers.challenger,
        50 * answers.losses,
        answers.shares,
        answers.chances,
        50.0,
    )
    one = compare_split("accuracy", answers, 0.2, EVEN)
    other = compare_split("absolute_error", cents, 0.2, EVEN)
    assert (other.low, other.gain, other.high) == pytest.approx(
        (50 * one.low, 50 * one.gain, 50 * one.high)
    )


def test_the_chances_of_all_ways_back_add_up() -> None:
    harm, guard = quality_errors(SETTINGS).high, guard_errors(SETTINGS).high
    assert harm + 2 * guard == pytest.approx(1 - SETTINGS.confidence)
