"""Slices, crosses and views as row numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from perennial.evaluation.groups import make_groups, sliced_features, slicings
from schemas.project import EvaluateSettings, FairnessSettings


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "slice:camera": ["b", "a", "b", "a", "b"],
            "slice:day": ["1", "1", "2", "None", "2"],
            "slice:sex": ["f", "m", "f", "m", "f"],
            "view:newest span": [False, False, True, True, True],
            "view:drifted: day": [False] * 5,
        }
    )


def test_groups_are_the_values_that_occur(table):
    settings = EvaluateSettings(slices=["camera"], crosses=[["day", "camera"]])
    found = {
        group.name: (group.rows.tolist(), group.view) for group in make_groups(table, settings)
    }
    assert found == {
        "camera=a": ([1, 3], False),
        "camera=b": ([0, 2, 4], False),
        "day=1, camera=a": ([1], False),
        "day=1, camera=b": ([0], False),
        "day=2, camera=b": ([2, 4], False),
        "day=None, camera=a": ([3], False),
        "newest span": ([2, 3, 4], True),
    }


@pytest.mark.parametrize("features", [("camera",), ("camera", "day"), ("camera", "day", "sex")])
def test_groups_of_a_slicing_share_all_examples_out(table, features):
    settings = (
        EvaluateSettings(slices=list(features))
        if len(features) == 1
        else EvaluateSettings(crosses=[features])
    )
    rows = np.concatenate([group.rows for group in make_groups(table, settings) if not group.view])
    assert sorted(rows) == list(range(5))


def test_features_and_slicings_are_named_once():
    settings = EvaluateSettings(
        slices=["a", "b", "a"],
        crosses=[["a", "c"], ["c", "a"]],
        fairness=FairnessSettings(features=["d", "b"]),
    )
    assert sliced_features(settings) == ["a", "b", "c", "d"]
    assert slicings(settings) == [("a",), ("b",), ("a", "c")]
