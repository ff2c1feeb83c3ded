"""Views: the newest span, and the examples whose value became more frequent in it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluate_model.views import (
    drifted_features,
    find_views,
    grown_rows,
    newest_rows,
    with_views,
)
from perennial.data.examples import to_example
from perennial.errors import NotComparedError
from perennial.evaluation.prediction_table import Examples
from schemas.records import Check, Span, SpanValidation, Validation
from tests.forked import forked

OLD, NEW = 400, 200
NEWEST = np.repeat([False, True], [OLD, NEW])


def single(values):
    """Raw values as examples hold them."""
    return [None if value is None else [value] for value in values]


def span(name):
    return Span(name=name, version=1, uri=f"data/{name}", fingerprint=name)


def validation(**spans):
    """A record of checks: span -> [(kind, subject, verdict)]."""
    return Validation(
        spans=[
            SpanValidation(
                span=span(name),
                new=True,
                rows={},
                labels={},
                checks=[Check(kind=k, subject=s, verdict=v, message="") for k, s, v in checks],
            )
            for name, checks in spans.items()
        ],
        accepted=True,
        reasons=[],
    )


def test_newest_span_is_the_last_of_the_window():
    spans = np.array(["9", "10", "9", "10"])
    assert newest_rows(spans, ["9", "10"]).tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    "spans, window, why",
    [
        (["1", "1"], ["1"], "the window has one span"),
        (["2", "2"], ["1", "2"], "all test examples are of span 2"),
        (["1", "1"], ["1", "2"], "no test example is of span 2"),
    ],
)
def test_where_there_is_no_newest_span_of_its_own_it_is_said(spans, window, why):
    with pytest.raises(NotComparedError, match=why):
        newest_rows(np.array(spans), window)


@pytest.mark.parametrize("kind", [str, bytes, int])
def test_a_category_that_became_more_frequent(kind):
    """`7` grew from a tenth to a half at the cost of `3`; `5` stayed as it was."""
    old, new = np.repeat([7, 3, 5], [40, 240, 120]), np.repeat([7, 3, 5], [100, 40, 60])
    values = [str(v).encode() if kind is bytes else kind(v) for v in (*old.tolist(), *new.tolist())]
    found = grown_rows(single(values), NEWEST)
    assert {int(value) for value, grown in zip(values, found, strict=True) if grown} == {7}
    assert found.sum() == 140


def test_numbers_that_became_more_frequent_are_told_by_tenths():
    """A third of the newest numbers lie above all but a tenth of the older ones."""
    random = np.random.default_rng(0)
    old, new = (
        random.uniform(0, 1, OLD),
        np.concatenate([random.uniform(0, 1, 134), random.uniform(0.9, 1, 66)]),
    )
    numbers = np.concatenate([old, new])
    found = grown_rows(single(numbers.tolist()), NEWEST)
    assert found[numbers > 0.93].all() and not found[numbers < 0.86].any()


def test_numbers_beyond_all_older_ones_are_new():
    numbers = np.concatenate(
        [np.random.default_rng(0).normal(size=OLD), np.full(NEW, 30.0) + np.arange(NEW)]
    )
    found = grown_rows(single(numbers.tolist()), NEWEST)
    assert found[NEWEST].all() and found.sum() < NEW + OLD / 5


def test_values_that_are_missing_more_often():
    numbers = np.random.default_rng(0).normal(size=OLD + NEW).tolist()
    missing = np.arange(OLD + NEW) % 40 == 0
    missing[-100:] = True
    found = grown_rows(
        single([None if gone else v for v, gone in zip(numbers, missing, strict=True)]), NEWEST
    )
    assert found[missing].all() and found[~missing].mean() < 0.25


@pytest.mark.parametrize(
    "values, why",
    [
        ([[1.0, 2.0]] * (OLD + NEW), "the feature is a vector"),
        (single(f"comment {number}" for number in range(OLD + NEW)), "the feature is free text"),
        (single([None] * OLD + [n / 7 for n in range(NEW)]), "no older test example has it"),
        (
            single([1, 2] * ((OLD + NEW) // 2)),
            "no value became more frequent among the test examples than chance",
        ),
        ([None] * (OLD + NEW), "no value became more frequent among the test examples than chance"),
    ],
)
def test_what_cannot_be_told_is_said(values, why):
    with pytest.raises(NotComparedError, match=why):
        grown_rows(values, NEWEST)


@given(st.lists(st.sampled_from(["a", "b", None]), min_size=20, max_size=60), st.data())
def test_examples_with_the_same_value_are_in_the_view_together(values, data):
    newest = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    )
    if newest.all() or not newest.any():
        return
    try:
        found = grown_rows(single(values), newest)
    except NotComparedError:
        return
    by_value = pd.Series(found).groupby([str(value) for value in values])
    assert by_value.nunique().max() == 1 and 0 < found.sum() < len(values)
    assert found[newest].mean() > found[~newest].mean()


def test_features_that_drifted_are_those_whose_check_failed_in_the_window():
    found = validation(
        one=[
            ("drift", "fare", "failed"),
            ("drift", "miles", "passed"),
            ("schema", "tips", "failed"),
        ],
        two=[
            ("label_drift", "tips", "failed"),
            ("skew", "fare", "failed"),
            ("drift", "hour", "not_compared"),
        ],
        gone=[("drift", "company", "failed")],
    )
    assert drifted_features(found, [span("one"), span("two")]) == ["fare", "tips"]


def look():
    """Views of 60 examples whose colour drifted, and whose pixels did."""
    random = np.random.default_rng(0)
    spans = np.repeat(["1", "2"], 30)
    colours = np.where(random.uniform(size=60) < np.where(spans == "2", 0.8, 0.1), "red", "blue")
    rows = [{"colour": str(colour), "pixels": [1.0, 2.0]} for colour in colours]
    examples = Examples(
        [to_example(row).SerializeToString() for row in rows], pd.DataFrame({"span": spans})
    )
    checks = validation(
        **{"2": [("drift", name, "failed") for name in ("colour", "pixels", "gone")]}
    )
    window = [span("1"), span("2")]
    views = find_views(examples, window, checks)
    return (
        colours,
        views,
        with_views(examples, views).named,
        find_views(examples, window, None).not_compared,
    )


def test_views_of_examples():
    colours, views, named, unchecked = forked(look)
    assert set(views.masks) == {"newest span", "drifted: colour"}
    assert (views.masks["drifted: colour"] == (colours == "red")).all()
    assert views.not_compared == [
        "drifted: gone: no value became more frequent among the test examples than chance explains",
        "drifted: pixels: the feature is a vector",
    ]
    assert named["view:newest span"].sum() == 30 and named["view:drifted: colour"].dtype == bool
    assert unchecked == ["what drifted: there is no record of the data checks"]
