"""Spans on disk: which files they are, what they are called and in which order they come."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.digests import digest_file
from perennial.errors import ProjectError
from perennial.spans import find_spans, span_order


def _land(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def _names(folder, pattern):
    return [span.name for span in find_spans(folder, pattern)]


def test_named_by_date(tmp_path):
    _land(tmp_path, "data/2026-02-01.parquet", "data/2025-12-31.parquet", "data/2026-01-15.parquet")
    _land(tmp_path, "data/notes.parquet", "data/2026-02-01.parquet.tmp", "data/26-02-01.parquet", "2026-02-02.parquet")
    assert _names(tmp_path, "data/{YYYY}-{MM}-{DD}.parquet") == ["2025-12-31", "2026-01-15", "2026-02-01"]


def test_date_over_several_folders(tmp_path):
    _land(tmp_path, "in/2026/01/02/labels.parquet", "in/2026/01/01/labels.parquet", "in/2026/01/01/other.parquet")
    assert _names(tmp_path, "in/{YYYY}/{MM}/{DD}/labels.parquet") == ["2026-01-01", "2026-01-02"]


def test_named_by_number_are_ordered_as_numbers(tmp_path):
    _land(tmp_path, "span-10.parquet", "span-9.parquet", "span-100.parquet")
    assert _names(tmp_path, "span-{SPAN}.parquet") == ["9", "10", "100"]


def test_named_by_text_are_ordered_as_text(tmp_path):
    _land(tmp_path, "b.parquet", "a.parquet", "7.parquet")
    assert _names(tmp_path, "{SPAN}.parquet") == ["7", "a", "b"]


def test_a_folder_is_no_span(tmp_path):
    (tmp_path / "1.parquet").mkdir()
    assert _names(tmp_path, "{SPAN}.parquet") == []


def test_nothing_landed(tmp_path):
    assert _names(tmp_path, "data/{SPAN}.parquet") == []


def test_fingerprint_is_that_of_the_bytes(tmp_path):
    _land(tmp_path, "1.parquet")
    (found,) = find_spans(tmp_path, "{SPAN}.parquet")
    assert found.fingerprint == digest_file(tmp_path / "1.parquet")
    (tmp_path / "1.parquet").write_text("other bytes")
    assert find_spans(tmp_path, "{SPAN}.parquet")[0].fingerprint != found.fingerprint


@pytest.mark.parametrize(
    "pattern",
    ["data/all.parquet", "", "{YYYY}-{MM}.parquet", "{SPAN}/{SPAN}", "{YYYY}{MM}{DD}{SPAN}", "{DAY}", "/data/{SPAN}"],
)
def test_a_pattern_that_names_no_spans_is_refused(tmp_path, pattern):
    with pytest.raises(ProjectError) as refused:
        find_spans(tmp_path, pattern)
    assert "data.spans" in str(refused.value) and "For example" in str(refused.value)


@given(st.lists(st.dates(min_value=datetime.date(1000, 1, 1))))
def test_order_of_dates_is_that_of_time(dates):
    assert sorted((d.isoformat() for d in dates), key=span_order) == [d.isoformat() for d in sorted(dates)]


@given(st.lists(st.integers(min_value=0)))
def test_order_of_numbers_is_numeric(numbers):
    assert sorted(map(str, numbers), key=span_order) == [str(number) for number in sorted(numbers)]
