"""The sample: always the same, and it hardly moves when examples are added."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from components.probe_model.sample import sample_rows


def named(count, span="2026-01-01"):
    return pd.DataFrame({"span": [span] * count, "key": [f"k{number}" for number in range(count)]})


@given(st.integers(1, 60), st.integers(0, 80), st.randoms())
def test_sample_is_of_the_examples_not_of_their_order(count, most, random):
    frame = named(count)
    rows = sample_rows(frame, most)
    assert len(rows) == min(count, most) and list(rows) == sorted(set(rows))
    order = list(range(count))
    random.shuffle(order)
    shuffled = frame.iloc[order].reset_index(drop=True)
    again = sample_rows(shuffled, most)
    assert set(shuffled["key"].iloc[again]) == set(frame["key"].iloc[rows])


@given(st.integers(1, 60), st.integers(0, 30), st.integers(0, 30))
def test_smaller_sample_is_part_of_a_larger_one(count, one, other):
    frame = named(count)
    assert set(sample_rows(frame, min(one, other))) <= set(sample_rows(frame, max(one, other)))


def test_sample_takes_its_share_of_every_span():
    frame = pd.concat([named(3000, "2026-01-01"), named(1000, "2026-01-02")], ignore_index=True)
    spans = frame["span"].iloc[sample_rows(frame, 1000)].value_counts()
    assert abs(spans["2026-01-01"] - 750) < 5 * np.sqrt(1000 * 0.75 * 0.25)
