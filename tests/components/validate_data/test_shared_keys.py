"""Keys that several spans have: the same as a dictionary finds, whatever they are."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.validate_data import shared_keys
from components.validate_data.shared_keys import SharedKeys
from perennial.data.row_keys import ROW_KEY, keys_without, read_row_keys, write_row_keys

# Few keys, so that spans share them; some have one half in common.
KEYS = st.tuples(st.sampled_from([0, 1, 2**63, 2**64 - 1]), st.integers(0, 3))
SPANS = st.lists(st.dictionaries(KEYS, st.integers(0, 1)), min_size=1, max_size=4)


@pytest.fixture(autouse=True)
def in_many_ranges(monkeypatch):
    """Merges a few keys at a time, as of a large window."""
    monkeypatch.setattr(shared_keys, "_KEYS_AT_ONCE", 3)


def written(spans, folder):
    """Folders with the keys of spans."""
    folders = [folder / str(number) for number in range(len(spans))]
    for path, span in zip(folders, spans, strict=True):
        path.mkdir()
        rows = [(high, low, values) for (high, low), values in sorted(span.items())]
        write_row_keys([np.array(rows, ROW_KEY)], len(rows), path)
    return folders


@given(SPANS, st.data())
def test_overlap_counts_what_other_spans_have(spans, data):
    others = data.draw(st.sets(st.integers(0, len(spans) - 1)))
    mine = data.draw(st.integers(0, len(spans) - 1))
    others.discard(mine)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        found = SharedKeys(written(spans, work), work).overlap(mine, others)
    rows, same = Counter(), Counter()
    for key, values in spans[mine].items():
        holders = [other for other in sorted(others) if key in spans[other]]
        rows.update(holders[:1])
        same.update(holders[:1] * any(spans[other][key] == values for other in holders))
    assert found.rows == rows and found.same == same


@given(SPANS, st.sampled_from(["oldest", "newest"]), st.data())
def test_every_key_is_left_in_one_span(spans, keep, data):
    good = data.draw(st.sets(st.integers(0, len(spans) - 1)))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        surplus = SharedKeys(written(spans, work), work).surplus(good, keep)
        for number, span in enumerate(spans):
            digests = np.array(list(span), np.uint64).reshape(-1, 2)
            places = surplus[number].find(digests) if number in surplus else [-1] * len(span)
            for key, place in zip(span, places, strict=True):
                holders = [other for other in sorted(good) if key in spans[other]]
                holder = holders[0 if keep == "oldest" else -1] if number in good else number
                assert (place < 0) == (holder == number)
                if place >= 0:
                    assert surplus[number].holder[place] == holder
                    assert surplus[number].same[place] == (spans[holder][key] == span[key])


@given(st.dictionaries(KEYS, st.integers(0, 1)), st.data())
def test_keys_of_rows_set_aside_go_and_the_others_stay(span, data):
    gone = data.draw(st.sets(st.sampled_from(sorted(span)))) if span else set()
    with tempfile.TemporaryDirectory() as folder:
        (path,) = written([span], Path(folder))
        digests = np.array(sorted(gone), np.uint64).reshape(-1, 2)
        left = [key.tolist() for part in keys_without(read_row_keys(path), digests) for key in part]
    assert left == [(*key, span[key]) for key in sorted(span.keys() - gone)]
