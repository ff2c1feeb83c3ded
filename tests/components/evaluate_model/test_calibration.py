"""Expected calibration error: answers known by hand, and what resampling says of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from components.evaluate_model.calibration import BINS, measure_calibration


def measure(labels, probabilities, confidence=0.95):
    return measure_calibration(
        np.asarray(labels), np.asarray(probabilities), "candidate", "tip", confidence, None
    )


def of_binary(sure, right):
    """Labels and probabilities of examples with this confidence of class 1, of which these are right."""
    sure = np.asarray(sure, dtype=float)
    return np.asarray(right, dtype=int), np.stack([1 - sure, sure], axis=1)


def test_the_error_as_worked_by_hand():
    # Ten at 0.9 of which 7 are right, ten at 0.6 of which 6 are: (10 * 0.2 + 10 * 0) / 20.
    found = measure(*of_binary([0.9] * 10 + [0.61] * 10, [1] * 7 + [0] * 3 + [1] * 6 + [0] * 4))
    assert found.error == pytest.approx((10 * 0.2 + 10 * 0.01) / 20)
    assert [(b.examples, b.confidence, b.accuracy) for b in found.bins] == [
        (10, pytest.approx(0.61), pytest.approx(0.6)),
        (10, pytest.approx(0.9), pytest.approx(0.7)),
    ]
    assert [(b.low, b.high) for b in found.bins] == [(9 / 15, 10 / 15), (13 / 15, 14 / 15)]
    assert (found.model, found.task, found.confidence, found.temperature) == (
        "candidate",
        "tip",
        0.95,
        None,
    )


def test_full_confidence_is_in_the_last_bin_and_unknown_labels_are_wrong():
    found = measure([0, 1, 7, 0], [[1.0, 0.0, 0.0]] * 4)
    (last,) = found.bins
    assert (last.low, last.high, last.confidence, last.accuracy) == (
        (BINS - 1) / BINS,
        1.0,
        1.0,
        0.5,
    )
    assert found.error == 0.5


def test_temperature_and_confidence_are_told():
    labels, scores = of_binary([0.8] * 5, [1] * 5)
    found = measure_calibration(labels, scores, "champion", "tip", 0.9, 1.7)
    assert (found.temperature, found.confidence, found.model) == (1.7, 0.9, "champion")


@pytest.mark.parametrize("sharpness, least, most", [(1.0, 0.0, 0.03), (3.0, 0.08, 1.0)])
def test_a_model_that_says_the_truth_has_a_small_error_and_an_overconfident_one_a_large(
    sharpness, least, most
):
    random = np.random.default_rng(5)
    logits = random.normal(size=(5000, 4))
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (random.random((5000, 1)) > truth.cumsum(axis=1)).sum(axis=1)
    said = np.exp(sharpness * logits) / np.exp(sharpness * logits).sum(axis=1, keepdims=True)
    found = measure(labels, said)
    assert least <= found.error <= most and found.low <= found.high


def test_the_interval_holds_the_error_that_all_data_would_show():
    # Always 0.9 sure and right in 7 of 10: the true error is 0.2, whatever is drawn.
    random = np.random.default_rng(3)
    found = [measure(*of_binary([0.9] * 400, random.random(400) < 0.7), 0.9) for _ in range(60)]
    assert 45 <= sum(each.low <= 0.2 <= each.high for each in found) <= 60
    # The mean width of a 90% interval of a share of 0.7 among 400 is 2 * 1.645 * 0.0229.
    assert np.mean([each.high - each.low for each in found]) == pytest.approx(0.0754, rel=0.15)


@given(
    arrays.arrays(float, st.integers(1, 40), elements=st.floats(0, 1)),
    st.randoms(use_true_random=False),
)
def test_bins_add_up_to_the_error(sure, random):
    found = measure(*of_binary(sure, [random.random() < 0.5 for _ in sure]))
    assert sum(b.examples for b in found.bins) == len(sure) and all(b.examples for b in found.bins)
    gaps = [b.examples * abs(b.accuracy - b.confidence) for b in found.bins]
    assert found.error == pytest.approx(sum(gaps) / len(sure)) and 0 <= found.error <= 1
    assert all(b.low <= b.confidence <= b.high + 1e-12 for b in found.bins)
