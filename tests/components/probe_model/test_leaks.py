"""Features that alone give the label away are found, and those that predict it well are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.probe_model.covariates import Suspect
from components.probe_model.leaks import find_leaks
from perennial.errors import NotComparedError

RANDOM = np.random.default_rng(7)
CLASSES = RANDOM.integers(0, 3, 240)
VALUES = RANDOM.normal(size=240)


def leaks(values, labels, is_number=True):
    column = Suspect("account_no", np.asarray(values), is_number, is_read=True)
    return find_leaks([column], labels, is_classes=labels.dtype.kind == "i")


@pytest.mark.parametrize(
    ("values", "is_number", "parts"),
    [
        (1000 * CLASSES + np.arange(240), True, 3),
        (CLASSES * 0.1, True, 3),
        (np.where(CLASSES == 1, -1.0, 10.0 + np.arange(240) % 7 + 100 * CLASSES), True, 3),
        (np.where(CLASSES == 2, np.nan, CLASSES), True, 3),  # that it is missing tells, too
        (np.array(["a", "b", "c"])[CLASSES], False, 3),
        (np.array([f"{label}-{n % 4}" for n, label in enumerate(CLASSES)]), False, 12),
    ],
    ids=["ranges", "few values", "one class apart", "missing", "names", "several names"],
)
def test_feature_that_tells_every_class_is_named(values, is_number, parts):
    (leak,) = leaks(values, CLASSES, is_number)
    assert (leak.name, leak.examples, leak.parts) == ("account_no", 240, parts)


@pytest.mark.parametrize(
    ("values", "is_number"),
    [
        (np.arange(240), True),  # an identifier: each value has one class, in no order
        (np.array([f"id-{n}" for n in range(240)]), False),
        (CLASSES + 0.4 * RANDOM.normal(size=240), True),
        (np.where(np.arange(240) == 9, (CLASSES + 1) % 3, CLASSES), False),  # wrong once
        (np.zeros(240), True),
    ],
    ids=["number of an example", "name of an example", "good predictor", "nearly", "constant"],
)
def test_feature_that_leaves_doubt_is_not_named(values, is_number):
    assert leaks(values, CLASSES, is_number) == []


@pytest.mark.parametrize(
    ("values", "is_number"),
    [
        (2.54 * VALUES + 1, True),
        (np.exp(VALUES), True),
        (np.round(VALUES, 3), True),
        (np.round(VALUES, 1).astype(str), False),
    ],
    ids=["another unit", "a function", "rounded", "names"],
)
def test_feature_that_tells_values_is_named(values, is_number):
    labels = VALUES if is_number else np.repeat(np.arange(8.0), 30)
    values = values if is_number else np.char.add("zone ", labels.astype(int).astype(str))
    (leak,) = leaks(values, labels, is_number)
    assert leak.parts is None


@pytest.mark.parametrize(
    ("values", "is_number"),
    [
        (VALUES + 0.1 * RANDOM.normal(size=240), True),
        (np.zeros(240), True),
        ((VALUES > 0).astype(int), True),
        (np.array([f"id-{n}" for n in range(240)]), False),
    ],
    ids=["good predictor", "constant", "sign", "name of an example"],
)
def test_feature_that_tells_values_roughly_is_not_named(values, is_number):
    assert leaks(values, VALUES, is_number) == []


@given(st.integers(0, 10_000), st.sampled_from([20, 50, 300]), st.booleans())
def test_chance_is_no_leak(seed, examples, is_number):
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(examples) % 2)
    values = random.integers(0, random.integers(1, examples), examples)
    assert leaks(values, labels, is_number) == []


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (np.arange(19) % 2, "19 examples are too few"),
        (np.ones(40, dtype=int), "all 40 examples have the same label"),
        ((np.arange(200) < 4).astype(int), "4 examples beside the commonest class are too few"),
    ],
)
def test_too_few_examples_are_said(labels, why):
    with pytest.raises(NotComparedError, match=why):
        leaks(labels, labels)


def test_vectors_are_passed_over():
    assert leaks(np.stack([CLASSES, CLASSES], axis=1), CLASSES) == []
