"""Distributions add up to what one count of everything would give, and survive their file."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.data import distributions
from perennial.data.distributions import (
    Distribution,
    kind,
    merge,
    most_frequent,
    read_distributions,
    write_distributions,
)

NUMBERS = st.lists(
    st.sampled_from([-2.5, -1.0, 0.0, 0.5, 3.0, 1e300]) | st.floats(-100, 100), max_size=30
)
WORDS = st.lists(st.text(max_size=3), max_size=30)
MISSING = st.integers(0, 5)


def of_numbers(values: list[float], missing: int = 0) -> Distribution:
    knots, counts = np.unique(np.array(values, np.float64), return_counts=True)
    cumulative = np.cumsum(counts.astype(np.float64))
    return Distribution(len(values) + missing, missing, len(values), None, knots, cumulative)


def of_words(values: list[str], missing: int = 0) -> Distribution:
    return Distribution(
        len(values) + missing, missing, len(values), dict(Counter(values)), None, None
    )


def same(one: Distribution, other: Distribution) -> bool:
    totals = [(p.examples, p.missing, p.total, p.counts, p.capped) for p in (one, other)]
    return totals[0] == totals[1] and all(
        (a is None) == (b is None) and (a is None or np.array_equal(a, b))
        for a, b in ((one.knots, other.knots), (one.cumulative, other.cumulative))
    )


@given(st.lists(st.tuples(NUMBERS, MISSING), min_size=1, max_size=5))
def test_numbers_of_spans_add_up(spans):
    whole = of_numbers(
        [v for values, _ in spans for v in values], sum(missing for _, missing in spans)
    )
    assert same(merge([of_numbers(*span) for span in spans]), whole)


@given(st.lists(st.tuples(WORDS, MISSING), min_size=1, max_size=5))
def test_categories_of_spans_add_up(spans):
    whole = of_words(
        [v for values, _ in spans for v in values], sum(missing for _, missing in spans)
    )
    assert same(merge([of_words(*span) for span in spans]), whole)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_merging_in_steps_is_merging_at_once(first, second, third):
    parts = [of_numbers(values) for values in (first, second, third)]
    assert same(merge([merge(parts[:2]), parts[2]]), merge(parts))


def test_merging_nothing():
    assert same(merge([]), Distribution(0, 0, 0, None, None, None))


def test_what_was_never_there_counts_as_missing():
    absent = Distribution(7, 7, 0, None, None, None)
    assert same(
        merge([absent, of_words(["a"]), absent]), Distribution(15, 14, 1, {"a": 1}, None, None)
    )


@pytest.mark.parametrize("newest", ["categories", "numbers"])
def test_the_newest_kind_counts(newest):
    parts = [of_words(["1", "2"], 1), of_numbers([1.0, 2.0, 3.0])]
    if newest == "categories":
        parts.reverse()
    merged = merge([*parts, Distribution(4, 4, 0, None, None, None)])
    other = 3
    assert kind(merged) == newest and merged.examples == 10
    assert merged.missing == 4 + other + (newest == "categories") and merged.total == parts[1].total


def test_rare_values_beyond_the_cap_are_left_out(monkeypatch):
    monkeypatch.setattr(distributions, "CATEGORIES", 2)
    merged = merge([of_words(["a", "a", "b"]), of_words(["b", "c"])])
    assert merged.counts == {"a": 2, "b": 2} and merged.capped and merged.total == 5


def test_values_that_were_not_counted_are_not_hidden():
    assert merge([of_words(["a"]), Distribution(1, 0, 1, None, None, None)]).capped


def test_most_frequent_breaks_ties_as_tfdv_does():
    counts = {"9": 2, "10": 2, "1": 5, "3": 1}
    assert most_frequent(counts, 2) == [("1", 5), ("9", 2)]
    assert most_frequent(counts, 9, whole_numbers=True) == [("1", 5), ("10", 2), ("9", 2), ("3", 1)]


FEATURES = {
    "words/with é": of_words(["", "\0", "é", "a\nb", "😀"], 2),
    "numbers": of_numbers([-1e308, 0.0, 0.1, 0.1], 1),
    "nothing": Distribution(3, 3, 0, None, None, None),
    "only NaN": Distribution(1, 0, 1, None, np.empty(0), np.empty(0)),
    "capped": Distribution(3, 0, 3, {"x": 2}, None, None, capped=True),
    "no words": Distribution(3, 0, 0, {}, None, None),
}


@pytest.mark.parametrize("features", [FEATURES, {}], ids=["some", "none"])
def test_file(tmp_path, features):
    write_distributions(features, tmp_path / "new")
    write_distributions(features, tmp_path / "new")  # a killed attempt may have left one
    found = read_distributions(tmp_path / "new")
    assert list(found) == list(features) and all(
        same(found[name], features[name]) for name in features
    )
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["distributions.npz"]
