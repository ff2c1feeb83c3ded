"""Columns become the arrays that requests with the same values become, or are left to a closer look."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from components.predict_batch.arrays import to_arrays
from serving.features import Feature
from serving.inputs import from_v1

FARE = Feature("x", "float32", ())
COUNT = Feature("x", "int64", ())
SMALL = Feature("x", "int32", ())
WORD = Feature("x", "string", ())
PIXELS = Feature("x", "float32", (2,))
OPTIONAL = Feature("x", "float32", (), (7,))
OPTIONAL_WORD = Feature("x", "string", (), ("none",))

QUICK = {
    "floats": (FARE, pa.array([1.5, 2.25], pa.float64())),
    "integers as floats": (FARE, pa.array([1, 2**40], pa.int64())),
    "integers": (COUNT, pa.array([1, -(2**62)], pa.int64())),
    "whole floats": (COUNT, pa.array([1.0, -3.0])),
    "text": (WORD, pa.array(["a", "\u00e9"])),
    "dictionary": (WORD, pa.array(["a", "b", "a"]).dictionary_encode()),
    "lists": (PIXELS, pa.array([[1.0, 2.0], [3.0, 4.0]])),
    "sliced lists": (PIXELS, pa.array([[9.0, 9.0], [1.0, 2.0], [3.0, 4.0]]).slice(1)),
    "missing, with a default": (OPTIONAL, pa.array([None, 2.0])),
    "missing text, with a default": (OPTIONAL_WORD, pa.array([None, "a"])),
    "all missing": (OPTIONAL, pa.array([None, None], pa.float32())),
}
CLOSER = {
    "missing": (FARE, pa.array([None, 2.0])),
    "not finite": (FARE, pa.array([float("nan"), 2.0])),
    "beyond float32": (FARE, pa.array([1e300])),
    "beyond int32": (SMALL, pa.array([2**40])),
    "beyond int32, as float": (SMALL, pa.array([2.0**40])),
    "a fraction": (COUNT, pa.array([1.5])),
    "booleans": (COUNT, pa.array([True])),
    "text for a number": (FARE, pa.array(["1.5"])),
    "a number for text": (WORD, pa.array([1])),
    "a list of another length": (PIXELS, pa.array([[1.0, 2.0], [3.0]])),
    "a missing value in a list": (PIXELS, pa.array([[1.0, None]])),
}


@pytest.mark.parametrize("case", QUICK)
def test_same_as_a_request(case):
    feature, column = QUICK[case]
    batch = pa.RecordBatch.from_arrays([column], ["x"])
    found = to_arrays(batch, [feature])
    expected = from_v1({"instances": batch.to_pylist()}, [feature])["x"]
    assert found is not None and found["x"].dtype == expected.dtype
    np.testing.assert_array_equal(found["x"], expected)


@pytest.mark.parametrize("case", CLOSER)
def test_what_needs_a_closer_look(case):
    feature, column = CLOSER[case]
    assert to_arrays(pa.RecordBatch.from_arrays([column], ["x"]), [feature]) is None


def test_column_that_is_not_there_is_the_default():
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2])], ["other"])
    found = to_arrays(batch, [OPTIONAL])
    assert found is not None and found["x"].tolist() == [7.0, 7.0]
    assert to_arrays(batch, [FARE]) is None
