"""Arguments of the blocks that are none."""

from __future__ import annotations

import pytest

from tests.forked import forked
from tests.perennial.blocks.jobs import argument_error


@pytest.mark.parametrize(
    ("function", "named", "message"),
    [
        (
            "table_stem",
            {},
            "numeric and categorical must be one name or more, all different. Received: []",
        ),
        ("table_stem", {"numeric": "miles"}, "numeric must be a list of names. Received: 'miles'"),
        ("table_stem", {"numeric": ["a", "a"]}, "must be one name or more, all different"),
        (
            "table_stem",
            {"numeric": ["a"], "categorical": {"a": 3}},
            "must be one name or more, all different",
        ),
        ("table_stem", {"numeric": ["a/b"]}, "must be names without `/`"),
        (
            "table_stem",
            {"categorical": {"a": 0}},
            "categorical['a'] must be a whole number of at least 1. Received: 0",
        ),
        ("table_stem", {"numeric": ["a"], "embedding": 0}, "embedding must be a whole number"),
        (
            "table_tokens",
            {"numeric": ["a"], "width": 1.5},
            "width must be a whole number of at least 1. Received: 1.5",
        ),
        (
            "image_stem",
            {"feature": "x", "shape": (8, 8)},
            "shape must be 3 whole numbers above 0. Received: (8, 8)",
        ),
        (
            "image_stem",
            {"feature": "x", "shape": (8, 8, 1), "stride": 0},
            "stride must be a whole number",
        ),
        (
            "text_stem",
            {"feature": "x", "vocabulary": True, "length": 3},
            "vocabulary must be a whole number",
        ),
        (
            "text_stem",
            {"feature": "x", "vocabulary": 9, "length": 3, "dropout": 1},
            "dropout must be a number from 0",
        ),
        ("joined", {}, "branches must be two or more. Received: 0"),
        ("mlp", {"units": []}, "units must be whole numbers above 0. Received: []"),
        ("mlp", {"units": "64"}, "units must be whole numbers above 0. Received: '64'"),
        (
            "residual_groups",
            {"groups": 0},
            "groups must be a whole number of at least 1. Received: 0",
        ),
        (
            "transformer_encoder",
            {"hidden": 0},
            "hidden must be a whole number of at least 1. Received: 0",
        ),
        (
            "multi_class",
            {"classes": 1},
            "classes must be a whole number of at least 2. Received: 1",
        ),
        ("binary", {"name": ""}, "name must be names without `/`"),
    ],
)
def test_arguments_that_are_none_are_refused(function, named, message):
    error = forked(argument_error, function, named)
    assert error.startswith(f"ValueError: blocks.{function}: ") and message in error
