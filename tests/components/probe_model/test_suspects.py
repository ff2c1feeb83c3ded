"""Suspect features: where their values come from, and whether they have an order."""

from __future__ import annotations

import numpy as np
import pytest

from tests.components.probe_model.jobs import read_with_defaults, suspects_of
from tests.forked import forked

SCHEMA = """
feature { name: "flag" type: INT int_domain { is_categorical: true } }
feature { name: "yes" type: INT bool_domain {} }
feature { name: "age" type: INT int_domain { min: 0 } }
feature { name: "scanner" type: BYTES }
feature { name: "view" type: BYTES }
feature { name: "dose" type: FLOAT }
"""
COLUMNS = {
    "flag": np.array([0, 1]),
    "yes": np.array([0, 1]),
    "age": np.array([[30], [40]]),
    "scanner": np.array([b"a", b"b"], dtype=object),
    "image": np.zeros((2, 3)),
}
ROWS = [{"view": "left", "dose": 0.5, "many": [1, 2]}, {"dose": None, "view": None, "many": [3]}]


@pytest.fixture(scope="module")
def found():
    names = ["flag", "yes", "age", "scanner", "image", "view", "dose", "many", "nowhere"]
    suspects, missing = forked(suspects_of, names, COLUMNS, {"yes"}, ROWS, SCHEMA)
    return {suspect.name: suspect for suspect in suspects}, missing


def test_order_is_what_the_schema_says(found):
    suspects, _ = found
    orders = {name: suspect.is_number for name, suspect in suspects.items()}
    expected = {
        "flag": False,
        "yes": False,
        "age": True,
        "scanner": False,
        "image": True,
        "view": False,
        "dose": True,
    }
    assert orders == expected


def test_what_the_model_reads_is_told_from_what_it_is_given_or_the_examples_hold(found):
    suspects, _ = found
    unread = {name for name, suspect in suspects.items() if not suspect.is_read}
    assert unread == {"yes", "view", "dose"}
    assert list(suspects["yes"].values) == [0, 1]
    assert list(suspects["view"].values) == ["left", "None"]
    np.testing.assert_array_equal(suspects["dose"].values, [0.5, np.nan])


def test_single_values_are_flat(found):
    suspects, _ = found
    assert suspects["age"].values.shape == (2,) and suspects["image"].values.shape == (2, 3)


def test_missing_features_are_said(found):
    _, missing = found
    why = "no test example has it, or some have several values"
    assert [(row.name, row.is_read, row.not_compared) for row in missing] == [
        ("many", False, why),
        ("nowhere", False, why),
    ]


def test_defaults_stand_for_what_an_example_lacks():
    columns = forked(read_with_defaults)
    assert list(columns["town"]) == [b"nowhere", b"Oslo"]
    np.testing.assert_array_equal(columns["pair"], [[1.5, 2.5], [0, 1]])
    np.testing.assert_array_equal(columns["count"], [[3], [4]])
