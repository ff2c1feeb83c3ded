"""Integrated gradients: known answers of models that are written down, and completeness."""

from __future__ import annotations

import numpy as np
import pytest

from tests.components.probe_model.jobs import explain_classes, explain_linear
from tests.forked import forked

WEIGHTS = [2.0, -1.0, 0.0]


def numbers(examples, width=3):
    return np.random.default_rng(0).normal(1, 1, (examples, width)).astype(np.float32)


@pytest.fixture(scope="module")
def linear():
    values = numbers(150)  # more than one batch
    return values, forked(explain_linear, {"numbers": values, "ignored": numbers(150, 2)}, WEIGHTS)


def test_linear_model_gets_weight_times_distance_from_the_mean(linear):
    values, found = linear
    expected = np.array(WEIGHTS) * (values - values.mean(axis=0))
    np.testing.assert_allclose(found.attributions["numbers"], expected, atol=1e-5)
    np.testing.assert_allclose(found.outputs, values @ WEIGHTS + 5, atol=1e-5)
    np.testing.assert_allclose(found.baselines, values.mean(axis=0) @ WEIGHTS + 5, atol=1e-5)
    np.testing.assert_allclose(found.gaps, 0, atol=1e-5)


def test_feature_that_the_model_ignores_gets_nothing(linear):
    _, found = linear
    assert not found.attributions["ignored"].any() and found.attributions["ignored"].shape == (
        150,
        2,
    )
    assert found.occluded == []


@pytest.fixture(scope="module")
def classes():
    features = {"numbers": numbers(40), "word": np.array([0, 0, 1, 2] * 10)}
    return features, {steps: forked(explain_classes, features, steps) for steps in (8, 64)}


def test_predicted_class_is_explained(classes):
    features, found = classes
    scores = np.exp(
        features["numbers"] ** 2 + np.array([[0, 0, 0], [2, 0, -1], [0, -2, 1.0]])[features["word"]]
    )
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found[64].outputs, probabilities.max(axis=1), rtol=1e-4)


def test_attributions_of_numbers_are_complete_and_more_steps_come_closer(classes):
    features, found = classes
    plain = (
        features["word"] == 0
    )  # the baseline's word: numbers alone lead from there to the example
    gaps = {steps: np.abs(explained.gaps[plain]).max() for steps, explained in found.items()}
    assert gaps[64] < 2e-3 and gaps[64] < gaps[8]


def test_word_gets_the_difference_to_the_commonest_one(classes):
    features, found = classes
    explained = found[64]
    assert explained.occluded == ["word"] and explained.attributions["word"].shape == (40,)
    words = np.array([[0, 0, 0], [2, 0, -1], [0, -2, 1.0]])
    scores = [
        np.exp(features["numbers"] ** 2 + words[word])
        for word in (features["word"], features["word"] * 0)
    ]
    own, without = (score / score.sum(axis=1, keepdims=True) for score in scores)
    rows = np.arange(40)
    predicted = own.argmax(axis=1)
    np.testing.assert_allclose(
        explained.attributions["word"], own[rows, predicted] - without[rows, predicted], atol=1e-5
    )


def test_gap_is_what_attributions_leave(classes):
    _, found = classes
    explained = found[8]
    sums = sum(total for total in explained.totals.values())
    np.testing.assert_allclose(explained.gaps, explained.outputs - explained.baselines - sums)
