"""The trivial predictor: no constant answer does better, and what has learned nothing is no better."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.evaluation.comparison import Terms
from perennial.evaluation.metrics import measure_metric
from perennial.evaluation.trivial import compare_trivial
from perennial.tasks import LOWER_IS_BETTER

TERMS = Terms("task", 0.9)
CLASSES = st.lists(st.integers(0, 3), min_size=2, max_size=30).map(np.array)
VALUES = st.lists(st.integers(-50, 50), min_size=2, max_size=30).map(
    lambda values: np.array(values, dtype=np.float32)
)


def value_of(constant, labels, metric):
    predictions = np.broadcast_to(constant, (len(labels), *np.shape(constant)))
    return measure_metric(predictions, labels, metric, np.ones(len(labels)))


def is_at_least_as_good(best, other, metric):
    return best <= other + 1e-6 if metric in LOWER_IS_BETTER else best >= other - 1e-6


@settings(max_examples=40)
@given(
    CLASSES,
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
    st.sampled_from(["accuracy", "log_loss"]),
)
def test_no_constant_of_classes_does_better(labels, weights, metric):
    constant = np.array(weights) / sum(weights)
    best = compare_trivial(np.tile(constant, (len(labels), 1)), labels, metric, TERMS)
    assert is_at_least_as_good(best.value, value_of(constant, labels, metric), metric)
    assert best.gain.low <= 1e-6


@settings(max_examples=40)
@given(VALUES, st.floats(-60, 60), st.sampled_from(["mean_absolute_error", "mean_squared_error"]))
def test_no_constant_value_does_better(labels, constant, metric):
    best = compare_trivial(np.full(len(labels), constant), labels, metric, TERMS)
    assert is_at_least_as_good(best.value, value_of(constant, labels, metric), metric)
    assert best.gain.low <= 1e-3


def test_any_constant_has_an_auc_of_one_half():
    labels = np.array([0, 1, 1, 0, 1])
    best = compare_trivial(np.full((5, 2), 0.5), labels, "auc", TERMS)
    assert (best.value, best.gain.value) == (0.5, 0.0)


def test_one_positive_in_a_hundred_is_told_from_always_no_by_what_finds_it():
    labels = np.array([0] * 990 + [1] * 10)
    never = np.tile([0.99, 0.01], (1000, 1))
    told = compare_trivial(never, labels, "accuracy", TERMS)
    assert told.value == 0.99 and told.answer == "always 0, the most frequent class"
    assert told.gain.value == 0 and told.gain.low < 0
    knows = np.eye(2)[labels]
    assert compare_trivial(knows, labels, "accuracy", TERMS).gain.low > 0


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "auc"])
def test_a_constant_label_shows_nothing(metric):
    labels = np.ones(50, dtype=int)
    told = compare_trivial(np.tile([0.1, 0.9], (50, 1)), labels, metric, TERMS)
    assert not told.gain.low > 0
    if metric == "auc":
        assert math.isnan(told.value) and told.gain.reason == "one class only (1)"
