"""The paired interval: its sign, its mean, its coverage, and that the same examples give the same one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluate_model.differences import auc_of, compare, example_gains, interval
from components.evaluate_model.mistakes import MOST_CLASSES, confusion, find_mistakes
from perennial.tasks import Task

FEW = settings(max_examples=15, deadline=None)  # each draws thousands of resamples
GAINS = st.lists(st.floats(-5, 5), min_size=1, max_size=40).map(np.array)
LABELS = np.array([0, 1, 2, 1])
RIGHT = np.eye(3)[LABELS] * 0.8 + 0.1 * (1 - np.eye(3)[LABELS])
WRONG = np.roll(RIGHT, 1, axis=1)
DIGIT, FARE, TIPPED = Task("digit", "multi_class", "l"), Task("fare", "regression", "l"), Task("tipped", "binary", "l")


def mean_interval(gains, confidence):
    """The interval of a mean gain: (value, low, high)."""
    return interval(lambda rows: float(gains[rows].mean()), np.arange(len(gains)), confidence)


@FEW
@given(GAINS, st.floats(0.51, 0.99))
def test_interval_holds_the_mean_between_the_extremes_and_is_deterministic(gains, confidence):
    value, low, high = mean_interval(gains, confidence)
    assert (value, low, high) == mean_interval(gains.copy(), confidence)
    # The resampled means' quantiles may miss the mean of few, skewed examples, never their range.
    assert gains.min() - 1e-9 <= low <= high <= gains.max() + 1e-9
    assert value == pytest.approx(gains.mean())


@FEW
@given(st.integers(20, 300), st.integers(0, 99))
def test_interval_of_many_examples_holds_the_mean(size, seed):
    value, low, high = mean_interval(np.random.default_rng(seed).normal(size=size), 0.9)
    assert low < value < high


@FEW
@given(GAINS, st.floats(-3, 3))
def test_interval_moves_with_the_gains(gains, shift):
    one, moved = (mean_interval(g, 0.9) for g in (gains, gains + shift))
    assert [moved[1] - one[1], moved[2] - one[2]] == pytest.approx([shift, shift], abs=1e-9)


@FEW
@given(GAINS)
def test_more_confidence_is_never_narrower(gains):
    (_, low, high), (_, lowest, highest) = (mean_interval(gains, confidence) for confidence in (0.6, 0.95))
    assert lowest <= low and high <= highest


def test_a_tie_is_exactly_zero():
    assert mean_interval(np.zeros(50), 0.95) == (0, 0, 0)


def test_interval_of_what_is_no_number_is_no_number():
    assert all(map(math.isnan, mean_interval(np.array([0.1, math.nan, 0.2]), 0.95)))


def test_coverage():
    """90% intervals hold the true gain in about 90% of 80 draws of 80 examples (four standard deviations: 0.13)."""
    random, truth, held = np.random.default_rng(1), 0.1, 0
    for _ in range(80):
        gains = random.choice([-1.0, 0.0, 1.0], size=80, p=[0.15, 0.6, 0.25])
        _, low, high = mean_interval(gains, 0.9)
        held += low <= truth <= high
    assert held / 80 == pytest.approx(0.9, abs=0.13)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_positive_is_better(metric):
    assert (example_gains(RIGHT, WRONG, LABELS, metric) > 0).all()
    assert (example_gains(WRONG, RIGHT, LABELS, metric) < 0).all()
    assert (example_gains(RIGHT, RIGHT, LABELS, metric) == 0).all()


@pytest.mark.parametrize("metric", ["mean_absolute_error", "mean_squared_error"])
def test_smaller_errors_are_better(metric):
    fares, near, far = np.array([3.0, 8.0]), np.array([3.5, 7.0]), np.array([1.0, 12.0])
    gains = {"mean_absolute_error": [1.5, 3.0], "mean_squared_error": [3.75, 15.0]}[metric]
    np.testing.assert_allclose(example_gains(near, far, fares, metric), gains)
    np.testing.assert_allclose(example_gains(far, near, fares, metric), np.negative(gains))


def test_a_class_that_a_model_does_not_know_costs_it_the_most():
    labels, small = np.array([0, 7]), np.eye(3)[[0, 1]]
    np.testing.assert_allclose(example_gains(np.eye(8)[labels], small, labels, "accuracy"), [0, 1])
    np.testing.assert_allclose(example_gains(np.eye(8)[labels], small, labels, "log_loss"), [0, -math.log(1e-7)])


def test_gains_are_those_of_the_definition():
    np.testing.assert_allclose(example_gains(RIGHT, WRONG, LABELS, "accuracy"), 1)
    np.testing.assert_allclose(example_gains(RIGHT, WRONG, LABELS, "log_loss"), math.log(0.8 / 0.1))


def test_certainty_in_the_wrong_is_a_finite_loss():
    certain = np.eye(3)[(LABELS + 1) % 3]
    assert np.isfinite(example_gains(certain, RIGHT, LABELS, "log_loss")).all()


@FEW
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.8]), st.booleans()), min_size=2, max_size=30))
def test_area_is_the_share_of_pairs_in_the_right_order(rows):
    scores, labels = np.array([score for score, _ in rows]), np.array([int(label) for _, label in rows])
    pairs = [(s > t) + (s == t) / 2 for s in scores[labels == 1] for t in scores[labels == 0]]
    found = auc_of(scores, labels)(np.arange(len(rows)))
    assert found == pytest.approx(np.mean(pairs)) if pairs else math.isnan(found)


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
    found = {row.slice: row for row in compare(table, DIGIT, "accuracy", ["label"], 0.9, "new", "champion")}
    assert {name: (row.examples, row.value) for name, row in found.items()} == {
        "overall": (4, 0.25),
        "label=0": (1, 1.0),
        "label=1": (2, 0.0),
        "label=2": (1, 0.0),
    }
    assert {row.task for row in found.values()} == {"digit"}


def test_confusion_counts_every_example_once(table):
    (matrix,) = confusion(table, "champion", "champion")
    assert matrix.labels == ["0", "1", "2"] and matrix.counts == [[0, 1, 0], [0, 2, 0], [0, 0, 1]]


def test_confusion_has_room_for_a_class_that_the_model_does_not_know(table):
    table["label"] = [0, 1, 4, 1]
    (matrix,) = confusion(table, "new", "candidate")
    assert matrix.labels == ["0", "1", "2", "3", "4"] and matrix.counts[4] == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("label", [MOST_CLASSES, 2**60])
def test_confusion_of_too_many_classes_is_left_out(table, label):
    table["label"] = [0, 1, label, 1]
    assert confusion(table, "new", "candidate") == []


def test_mistakes_are_the_wrong_answers_most_certain_first(table):
    table["new"] = [WRONG[0], RIGHT[1], np.array([0.95, 0.05, 0.0]), RIGHT[3]]
    found = [(m.key, m.label, m.predicted, m.probability) for m in find_mistakes(table, DIGIT, "new")]
    assert found == [("digit-2", 2, 0, 0.95), ("digit-0", 0, 1, pytest.approx(0.8))]


def test_mistakes_of_values_are_the_largest_errors_first(table):
    table["label"], table["new"] = np.float32([3, 8, 20, 5]), np.float32([4, 8, 10.5, 5.25])
    found = [(m.key, m.label, m.predicted, m.probability) for m in find_mistakes(table, FARE, "new")]
    assert found == [("digit-2", 20.0, 10.5, None), ("digit-0", 3.0, 4.0, None), ("digit-3", 5.0, 5.25, None)]


@pytest.fixture
def trips():
    """300 trips: whether there was a tip, a model that knows something of it, and one that knows nothing."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 300)
    scores = {"new": np.clip(0.3 * labels + random.uniform(0, 0.7, 300), 0, 1), "champion": random.uniform(size=300)}
    columns = {name: list(np.stack([1 - found, found], axis=1)) for name, found in scores.items()}
    return pd.DataFrame({"label": labels, "slice:kind": np.where(labels == 1, "tip", "none"), **columns})


def test_gain_in_auc_is_the_difference_of_the_areas_with_an_interval(trips):
    overall, *slices = compare(trips, TIPPED, "auc", ["kind"], 0.9, "new", "champion")
    areas = [auc_of(np.stack(trips[m])[:, 1], trips["label"].to_numpy())(np.arange(300)) for m in ("new", "champion")]
    assert overall.value == pytest.approx(areas[0] - areas[1]) and 0 < overall.low < overall.value < overall.high
    # A slice with one class has no area, so nothing is claimed of it.
    assert [row.slice for row in slices] == ["kind=none", "kind=tip"]
    assert all(math.isnan(number) for row in slices for number in (row.value, row.low, row.high))


def test_interval_of_an_auc_with_few_of_one_class_leaves_out_resamples_without_them(trips):
    rare = trips[(trips["label"] == 0) | (trips.index == int(trips["label"].idxmax()))].reset_index(drop=True)
    (overall,) = compare(rare, TIPPED, "auc", [], 0.9, "new", "champion")
    assert math.isfinite(overall.low) and overall.low <= overall.high
