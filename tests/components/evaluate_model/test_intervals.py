"""The paired interval: its sign, its mean, its coverage, and that the same examples give the same one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluate_model.metrics import compare, confusion, example_gains, interval
from components.evaluate_model.step import find_mistakes

FEW = settings(max_examples=15)  # each draws thousands of resamples
GAINS = st.lists(st.floats(-5, 5), min_size=1, max_size=40).map(np.array)
LABELS = np.array([0, 1, 2, 1])
RIGHT = np.eye(3)[LABELS] * 0.8 + 0.1 * (1 - np.eye(3)[LABELS])
WRONG = np.roll(RIGHT, 1, axis=1)


@FEW
@given(GAINS, st.floats(0.51, 0.99))
def test_interval_holds_the_mean_between_the_extremes_and_is_deterministic(gains, confidence):
    found = interval(gains, "accuracy", "overall", confidence)
    assert found == interval(gains.copy(), "accuracy", "overall", confidence)
    # The resampled means' quantiles may miss the mean of few, skewed examples, never their range.
    assert gains.min() - 1e-9 <= found.low <= found.high <= gains.max() + 1e-9
    assert found.value == pytest.approx(gains.mean()) and found.examples == len(gains)


@FEW
@given(st.integers(20, 300), st.integers(0, 99))
def test_interval_of_many_examples_holds_the_mean(size, seed):
    gains = np.random.default_rng(seed).normal(size=size)
    found = interval(gains, "log_loss", "overall", 0.9)
    assert found.low < found.value < found.high


@FEW
@given(GAINS, st.floats(-3, 3))
def test_interval_moves_with_the_gains(gains, shift):
    one, moved = (interval(g, "accuracy", "overall", 0.9) for g in (gains, gains + shift))
    assert [moved.low - one.low, moved.high - one.high] == pytest.approx([shift, shift], abs=1e-9)


@FEW
@given(GAINS)
def test_more_confidence_is_never_narrower(gains):
    narrow, wide = (interval(gains, "accuracy", "overall", confidence) for confidence in (0.6, 0.95))
    assert wide.low <= narrow.low and narrow.high <= wide.high


def test_a_tie_is_exactly_zero():
    found = interval(np.zeros(50), "accuracy", "overall", 0.95)
    assert (found.low, found.value, found.high) == (0, 0, 0)


def test_interval_of_what_is_no_number_is_no_number():
    found = interval(np.array([0.1, math.nan, 0.2]), "log_loss", "overall", 0.95)
    assert math.isnan(found.value) and math.isnan(found.low)


def test_coverage():
    """90% intervals hold the true gain in about 90% of 80 draws of 80 examples (four standard deviations: 0.13)."""
    random, truth, held = np.random.default_rng(1), 0.1, 0
    for _ in range(80):
        gains = random.choice([-1.0, 0.0, 1.0], size=80, p=[0.15, 0.6, 0.25])
        found = interval(gains, "accuracy", "overall", 0.9)
        held += found.low <= truth <= found.high
    assert held / 80 == pytest.approx(0.9, abs=0.13)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_positive_is_better(metric):
    assert (example_gains(RIGHT, WRONG, LABELS, metric) > 0).all()
    assert (example_gains(WRONG, RIGHT, LABELS, metric) < 0).all()
    assert (example_gains(RIGHT, RIGHT, LABELS, metric) == 0).all()


def test_gains_are_those_of_the_definition():
    np.testing.assert_allclose(example_gains(RIGHT, WRONG, LABELS, "accuracy"), 1)
    np.testing.assert_allclose(example_gains(RIGHT, WRONG, LABELS, "log_loss"), math.log(0.8 / 0.1))


def test_certainty_in_the_wrong_is_a_finite_loss():
    certain = np.eye(3)[(LABELS + 1) % 3]
    assert np.isfinite(example_gains(certain, RIGHT, LABELS, "log_loss")).all()


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "span": "2026-01-01",
            "key": [f"digit-{row}" for row in range(4)],
            "label": LABELS,
            "slice:label": [str(label) for label in LABELS],
            "new": list(RIGHT),
            "champion": list(np.vstack([WRONG[:1], RIGHT[1:]])),
        }
    )


def test_differences_of_every_slice(table):
    found = {row.slice: row for row in compare(table, "accuracy", ["label"], 0.9, "new", "champion")}
    assert {name: (row.examples, row.value) for name, row in found.items()} == {
        "overall": (4, 0.25),
        "label=0": (1, 1.0),
        "label=1": (2, 0.0),
        "label=2": (1, 0.0),
    }


def test_confusion_counts_every_example_once(table):
    matrix = confusion(table, "champion", "champion")
    assert matrix.labels == ["0", "1", "2"] and matrix.counts == [[0, 1, 0], [0, 2, 0], [0, 0, 1]]


def test_confusion_has_room_for_a_class_that_the_model_does_not_know(table):
    table["label"] = [0, 1, 4, 1]
    matrix = confusion(table, "new", "candidate")
    assert matrix.labels == ["0", "1", "2", "3", "4"] and matrix.counts[4] == [0, 0, 1, 0, 0]


def test_mistakes_are_the_wrong_answers_most_certain_first(table):
    table["new"] = [WRONG[0], RIGHT[1], np.array([0.95, 0.05, 0.0]), RIGHT[3]]
    found = [(m.key, m.label, m.predicted, m.probability) for m in find_mistakes(table, "new")]
    assert found == [("digit-2", 2, 0, 0.95), ("digit-0", 0, 1, pytest.approx(0.8))]
