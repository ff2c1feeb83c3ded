"""Differences of models.

Their sign, their size, their families, and what is too small to be told.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.evaluation.comparison import (
    Pair,
    Terms,
    area_of,
    compare_instances,
    compare_overall,
    compare_serving,
    compare_slices,
    example_gains,
)
from perennial.evaluation.groups import Group, make_groups
from schemas.project import EvaluateSettings

FEW = settings(max_examples=15)
LABELS = np.array([0, 1, 2, 1])
RIGHT = np.eye(3)[LABELS] * 0.8 + 0.1 * (1 - np.eye(3)[LABELS])
WRONG = np.roll(RIGHT, 1, axis=1)


def auc_of(scores, labels):
    """The area under the ROC curve of all examples."""
    return float(area_of(scores, labels)(np.ones((1, len(labels))))[0])


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
    np.testing.assert_allclose(
        example_gains(np.eye(8)[labels], small, labels, "log_loss"), [0, -math.log(1e-7)]
    )


def test_gains_are_those_of_the_definition():
    np.testing.assert_allclose(example_gains(RIGHT, WRONG, LABELS, "accuracy"), 1)
    np.testing.assert_allclose(example_gains(RIGHT, WRONG, LABELS, "log_loss"), math.log(0.8 / 0.1))


def test_certainty_in_the_wrong_is_a_finite_loss():
    certain = np.eye(3)[(LABELS + 1) % 3]
    assert np.isfinite(example_gains(certain, RIGHT, LABELS, "log_loss")).all()


@FEW
@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.8]), st.booleans()), min_size=2, max_size=30
    )
)
def test_area_is_the_share_of_pairs_in_the_right_order(rows):
    scores, labels = (
        np.array([score for score, _ in rows]),
        np.array([int(label) for _, label in rows]),
    )
    pairs = [(s > t) + (s == t) / 2 for s in scores[labels == 1] for t in scores[labels == 0]]
    found = auc_of(scores, labels)
    assert found == pytest.approx(np.mean(pairs)) if pairs else math.isnan(found)


@FEW
@given(st.integers(2, 40), st.integers(0, 99))
def test_weighted_area_is_the_weighted_share_of_pairs(size, seed):
    random = np.random.default_rng(seed)
    scores, labels = random.integers(0, 5, size) / 5, random.integers(0, 2, size)
    weights = random.uniform(0, 2, (3, size))
    ones, zeros = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    right = (scores[ones, None] > scores[zeros]) + (scores[ones, None] == scores[zeros]) / 2
    found = area_of(scores, labels)(weights)
    if not len(ones) or not len(zeros):
        assert np.isnan(found).all()
        return
    for area, weight in zip(found, weights, strict=True):
        assert area == pytest.approx(
            np.average(right, weights=np.outer(weight[ones], weight[zeros]))
        )


def binary(labels, model, champion, metric="auc", clusters=None):
    """A pair of models of a binary task, by their probabilities of 1."""
    both = (np.stack([1 - found, found], axis=1) for found in (model, champion))
    return Pair(*both, labels, metric, clusters)


def right_and_wrong(gains, clusters=None):
    """A pair that gains so much in accuracy on each example: 1, 0 or -1."""
    said = [np.where(np.asarray(gains) * sign >= 0, 0.9, 0.1) for sign in (1, -1)]
    return binary(np.ones(len(gains), dtype=int), *said, "accuracy", clusters)


@pytest.fixture
def trips():
    """300 trips.

    Whether there was a tip, a model that knows something of it, and one that knows nothing.
    """
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 300)
    return binary(
        labels, np.clip(0.3 * labels + random.uniform(0, 0.7, 300), 0, 1), random.uniform(size=300)
    )


def test_gain_in_auc_is_the_difference_of_the_areas_with_an_interval(trips):
    found = trips.interval(0.9)
    areas = [auc_of(said[:, 1], trips.labels) for said in (trips.model, trips.champion)]
    assert found.value == pytest.approx(areas[0] - areas[1]) == trips.value()
    assert 0 < found.low < found.value < found.high < 1


def test_interval_of_an_auc_is_as_wide_as_its_standard_error(trips):
    """DeLong, DeLong and Clarke-Pearson 1988.

    The variance of a difference of two areas on the same examples.
    """
    ones, zeros = trips.labels == 1, trips.labels == 0
    placed = [
        (s[ones, None] > s[zeros]) * 1.0
        for s in (said[:, 1] for said in (trips.model, trips.champion))
    ]
    gains = placed[0] - placed[1]
    error = math.sqrt(
        gains.mean(axis=1).var(ddof=1) / ones.sum() + gains.mean(axis=0).var(ddof=1) / zeros.sum()
    )
    found = trips.interval(0.9)
    assert found.high - found.low == pytest.approx(2 * 1.645 * error, rel=0.1)


def test_a_slice_with_one_class_has_no_area(trips):
    rows = np.flatnonzero(trips.labels == 1)
    (found,) = compare_slices(trips, Terms("tipped", 0.9), [Group("kind=tip", rows)])
    assert all(math.isnan(number) for number in (found.value, found.low, found.high))


def test_an_area_of_one_positive_has_no_interval_and_of_few_a_wide_one(trips):
    ones, zeros = (np.flatnonzero(trips.labels == label) for label in (1, 0))
    widths = {}
    for few in (1, 4, 100):
        found = trips.on(np.concatenate([ones[:few], zeros])).interval(0.9)
        assert (math.isfinite(found.value) and found.low >= -1) or math.isnan(found.low)
        widths[few] = found.high - found.low
    assert math.isnan(widths[1]) and widths[4] > 1.5 * widths[100]


@pytest.mark.parametrize("metric", ["accuracy", "auc"])
def test_no_share_differs_by_more_than_one(metric):
    """The intervals of few examples are wide, but none reaches beyond what can be."""
    labels = np.array([0, 1, 0, 1, 1])
    found = binary(
        labels, labels * 0.8 + 0.1, np.array([0.3, 0.2, 0.8, 0.6, 0.4]), metric
    ).interval(0.99)
    assert -1 <= found.low < found.value < found.high == 1


@pytest.mark.parametrize(("examples", "known"), [(20, 0.1684), (69, 0.0521), (2000, 0.0018)])
def test_agreement_on_few_examples_does_not_show_that_models_are_equal(examples, known):
    """Clopper-Pearson's bound of a share that was not seen in so many trials, at 97.5%."""
    found = right_and_wrong(np.zeros(examples)).interval(0.95)
    assert (found.value, found.low, found.high) == (
        0,
        pytest.approx(-known, abs=1e-4),
        pytest.approx(known, abs=1e-4),
    )


def test_what_no_example_lost_bounds_the_interval_until_a_gain_is_shown():
    few, many = (
        right_and_wrong([1] * gained + [0] * (60 - gained)).interval(0.95) for gained in (2, 12)
    )
    assert few.low == pytest.approx(0.025 ** (1 / 60) - 1) and many.low > 0
    lost = right_and_wrong([-1, -1] + [0] * 58).interval(0.95)
    assert (lost.low, lost.high) == pytest.approx((-few.high, -few.low))


def test_agreement_of_few_clusters_tells_less():
    clusters = np.repeat(np.arange(10), 6)
    assert right_and_wrong(np.zeros(60), clusters).interval(0.95).low == pytest.approx(
        0.025 ** (1 / 10) - 1
    )


def test_a_candidate_that_loses_a_tenth_is_seldom_called_not_worse_on_few_examples():
    random = np.random.default_rng(8)
    called = [
        right_and_wrong(-(random.random(30) < 0.1).astype(int)).interval(0.9).low >= -0.05
        for _ in range(300)
    ]
    assert np.mean(called) <= 0.05


def test_differences_of_every_slice():
    table = pd.DataFrame({"slice:label": [str(label) for label in LABELS]})
    pair = Pair(RIGHT, np.vstack([WRONG[:1], RIGHT[1:]]), LABELS, "accuracy")
    groups = make_groups(table, EvaluateSettings(slices=["label"]))
    found = [
        compare_overall(pair, Terms("digit", 0.9)),
        *compare_slices(pair, Terms("digit", 0.9), groups),
    ]
    assert {row.slice: (row.examples, row.value, row.view) for row in found} == {
        "overall": (4, 0.25, False),
        "label=0": (1, 1.0, False),
        "label=1": (2, 0.0, False),
        "label=2": (1, 0.0, False),
    }
    assert {(row.task, row.model, row.confidence, row.clusters) for row in found} == {
        ("digit", "candidate", 0.9, None)
    }


def test_slices_that_are_too_small_have_a_value_and_are_not_of_the_family():
    pair = right_and_wrong(np.tile([1, 0, 0, -1, 1], 40))
    groups = [
        Group("a=1", np.arange(100)),
        Group("a=2", np.arange(100, 110)),
        Group("newest span", np.arange(50), True),
    ]
    one, small, view = compare_slices(pair, Terms("t", 0.9, least_examples=30), groups)
    assert (one.family, view.family, view.view, one.view) == (2, 2, True, False)
    assert small.value == pytest.approx(0.2) and small.examples == 10
    assert math.isnan(small.low) and math.isnan(small.high)
    assert math.isfinite(one.low) and math.isfinite(view.high)


def test_intervals_of_more_slices_are_wider():
    pair = right_and_wrong(np.tile([1, 0, 0, -1, 1], 40))
    few, many = (
        [Group(f"a={number}", np.arange(100)) for number in range(count)] for count in (1, 12)
    )
    ((one,), (first, *_)) = (
        compare_slices(pair, Terms("t", 0.9), groups) for groups in (few, many)
    )
    assert first.family == 12 and first.value == one.value
    assert first.low < one.low and one.high < first.high


def test_repetitions_widen_what_decides():
    pair = right_and_wrong(np.tile([1, 0, 0, -1, 1], 40))
    once, thrice = (compare_overall(pair, Terms("t", 0.9, repeats=repeats)) for repeats in (0, 2))
    assert (
        (once.family, thrice.family) == (1, 3) and thrice.low < once.low and once.high < thrice.high
    )
    shown = compare_serving(pair, Terms("t", 0.9, repeats=2), np.ones(200), None, decides=False)
    assert (shown.family, shown.low, shown.high) == (1, once.low, once.high)
    assert compare_serving(pair, Terms("t", 0.9, repeats=2), np.ones(200), None).family == 3


def test_other_instances_are_a_family_with_the_candidate():
    pairs = {
        name: right_and_wrong(gains)
        for name, gains in (("b", [1, 0, 0] * 20), ("c", [0, -1, 0] * 20))
    }
    found = compare_instances(pairs, Terms("t", 0.9))
    assert [(row.model, row.family, row.slice) for row in found] == [
        ("b", 3, "overall"),
        ("c", 3, "overall"),
    ]
    assert [row.value for row in found] == pytest.approx([1 / 3, -1 / 3])
    assert found[0].low < compare_overall(pairs["b"], Terms("t", 0.9)).low


def test_clusters_are_counted_and_widen_the_interval():
    gains, clusters = np.repeat([1, 0, -1, 1, 1, 0] * 4, 10), np.repeat(np.arange(24), 10)
    whole, plain = (
        compare_overall(right_and_wrong(gains, of), Terms("t", 0.9)) for of in (clusters, None)
    )
    assert (whole.clusters, plain.clusters, whole.value) == (24, None, plain.value)
    assert whole.high - whole.low > 2 * (plain.high - plain.low)
    part = compare_slices(
        right_and_wrong(gains, clusters), Terms("t", 0.9), [Group("a=1", np.arange(60))]
    )
    assert part[0].clusters == 6


@pytest.mark.parametrize("metric", ["accuracy", "auc", "log_loss"])
def test_serving_difference_is_that_of_the_examples_repeated(trips, metric):
    """Whole weights are the same as examples that are there more than once."""
    pair = Pair(trips.model, trips.champion, trips.labels, metric)
    weights = np.random.default_rng(1).integers(0, 3, 300)
    found = compare_serving(pair, Terms("t", 0.9), weights.astype(float), None)
    repeated = pair.on(np.repeat(np.arange(300), weights))
    assert found.value == pytest.approx(repeated.value())
    assert (found.slice, found.view, found.examples) == ("serving distribution", True, 300)
    assert found.low < found.value < found.high


def test_a_model_that_is_worse_where_serving_is_is_worse_there():
    """A gain on nine tenths of the test split, a loss on the tenth that serving mostly sees."""
    gains = np.repeat([1, 0, -1], [40, 140, 20])
    weights = np.where(gains == -1, 9.0, 1.0)
    pair, terms = right_and_wrong(gains), Terms("t", 0.9)
    assert compare_overall(pair, terms).low > 0
    assert compare_serving(pair, terms, weights, None).high < 0
