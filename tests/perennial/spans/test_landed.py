"""Spans on disk: which files they are, what they are called and in which order they come."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import DataError, ProjectError
from perennial.spans.landed import find_spans
from perennial.spans.names import span_order
from perennial.storage.digests import digest_file
from perennial.storage.files import expand
from perennial.storage.fingerprints import fingerprint
from tests.perennial.other_account import as_nobody


def _land(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def _names(folder, pattern):
    return [span.name for span in find_spans(folder, pattern)]


def test_named_by_date(tmp_path):
    _land(tmp_path, "data/2026-02-01.parquet", "data/2025-12-31.parquet", "data/2026-01-15.parquet")
    _land(
        tmp_path,
        "data/notes.parquet",
        "data/2026-02-01.parquet.tmp",
        "data/26-02-01.parquet",
        "2026-02-02.parquet",
    )
    assert _names(tmp_path, "data/{YYYY}-{MM}-{DD}.parquet") == [
        "2025-12-31",
        "2026-01-15",
        "2026-02-01",
    ]


def test_date_over_several_folders(tmp_path):
    _land(
        tmp_path,
        "in/2026/01/02/labels.parquet",
        "in/2026/01/01/labels.parquet",
        "in/2026/01/01/other.parquet",
    )
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
    [
        "data/all.parquet",
        "",
        "{YYYY}-{MM}.parquet",
        "{SPAN}/{SPAN}",
        "{YYYY}{MM}{DD}{SPAN}",
        "{DAY}",
        "{SPAN}-{MM}",
        "{VERSION}",
        "{SPAN}v{VERSION}w{VERSION}",
        "{YYYY:4}{MM}{DD}",
    ],
)
def test_a_pattern_that_names_no_spans_is_refused(tmp_path, pattern):
    with pytest.raises(ProjectError) as refused:
        find_spans(tmp_path, pattern)
    assert "data.spans" in str(refused.value) and "For example" in str(refused.value)


def _versions(folder, pattern):
    return [(span.name, span.version) for span in find_spans(folder, pattern)]


def test_every_version_that_lies_there_is_found(tmp_path):
    _land(tmp_path, "10/v2/a.csv", "9/v10/a.csv", "9/v9/a.csv", "9/latest/a.csv", "README/v1/b.csv")
    assert _versions(tmp_path, "{SPAN}/v{VERSION}/a.csv") == [("9", 9), ("9", 10), ("10", 2)]


def test_a_width_means_so_many_digits(tmp_path):
    _land(tmp_path, "s07-v001.csv", "s7-v001.csv", "s07-v1.csv", "s123-v001.csv")
    assert _versions(tmp_path, "s{SPAN:2}-v{VERSION:3}.csv") == [("07", 1)]


def test_a_span_of_many_files_is_one_span(tmp_path):
    _land(
        tmp_path,
        "data/2026-01-01/part-1.csv",
        "data/2026-01-01/part-2.csv",
        "data/2026-01-02/part-1.csv",
    )
    _land(tmp_path, "data/2026-01-01/.part-3.csv")  # is being written
    pattern = "data/{YYYY}-{MM}-{DD}/*.csv"
    first, second = find_spans(tmp_path, pattern)
    assert (first.name, first.uri, first.version) == (
        "2026-01-01",
        f"{tmp_path}/data/2026-01-01/*.csv",
        None,
    )
    assert expand(first.uri) == [f"{tmp_path}/data/2026-01-01/part-{n}.csv" for n in (1, 2)]
    assert first.fingerprint == fingerprint(first.uri) != second.fingerprint


@pytest.mark.parametrize("change", ["bytes", "name", "more", "less", "swapped"])
def test_any_change_of_a_span_of_many_files_is_another_fingerprint(tmp_path, change):
    _land(tmp_path, "7/a.csv", "7/b.csv")
    folder = tmp_path / "7"
    (before,) = find_spans(tmp_path, "{SPAN}/*.csv")
    if change == "bytes":
        (folder / "a.csv").write_text("other")
    elif change == "name":
        (folder / "a.csv").rename(folder / "c.csv")
    elif change == "more":
        (folder / "c.csv").write_text("c")
    elif change == "less":
        (folder / "b.csv").unlink()
    else:
        (folder / "a.csv").write_text("7/b.csv")
        (folder / "b.csv").write_text("7/a.csv")
    (after,) = find_spans(tmp_path, "{SPAN}/*.csv")
    assert after.fingerprint != before.fingerprint and after.uri == before.uri


def test_the_same_files_elsewhere_have_the_same_fingerprint(tmp_path):
    _land(tmp_path, "7/a.csv", "7/b.csv")
    (here,) = find_spans(tmp_path, "{SPAN}/*.csv")
    (tmp_path / "7").rename(tmp_path / "moved")
    (there,) = find_spans(tmp_path, "{SPAN}/*.csv")
    assert (here.fingerprint, there.name) == (there.fingerprint, "moved")


def test_absolute_paths_and_file_urls_are_taken(tmp_path):
    _land(tmp_path, "in/1.csv")
    for pattern in (f"{tmp_path}/in/{{SPAN}}.csv", f"file://{tmp_path}/in/{{SPAN}}.csv"):
        (span,) = find_spans(tmp_path / "elsewhere", pattern)
        assert (span.name, span.uri) == ("1", str(tmp_path / "in" / "1.csv"))


@pytest.mark.parametrize(
    "pattern", ["./in/{SPAN}.csv", "../project/in/{SPAN}.csv", "in//{SPAN}.csv"]
)
def test_paths_are_taken_as_they_are_written(tmp_path, pattern):
    _land(tmp_path, "project/in/1.csv")
    (span,) = find_spans(tmp_path / "project", pattern)
    assert span.name == "1" and expand(span.uri) == [span.uri]


def test_other_file_systems_are_looked_into(tmp_path):
    import fsspec

    store = fsspec.filesystem("memory")
    for name in ("1/v1/a.csv", "1/v1/b.csv", "2/v1/a.csv", "2/v2/a.csv"):
        store.pipe(f"/{tmp_path.name}/{name}", name.encode())
    found = find_spans(tmp_path, f"memory://{tmp_path.name}/{{SPAN}}/v{{VERSION}}/*.csv")
    assert [(span.name, span.version) for span in found] == [("1", 1), ("2", 1), ("2", 2)]
    assert found[0].uri == f"memory://{tmp_path.name}/1/v1/*.csv"
    assert found[0].fingerprint == fingerprint(found[0].uri)


def test_characters_that_mean_something_elsewhere_mean_themselves(tmp_path):
    _land(tmp_path, "a[1]?/{x}1.csv", "a1/{x}1.csv")
    assert _names(tmp_path, "a[1]?/{SPAN}.csv") == []
    _land(tmp_path, "a[1]?/1+.csv", "a[1]?/1.csv")
    assert _names(tmp_path, "a[1]?/{SPAN}.csv") == ["1"]


def test_two_places_for_one_version_are_refused(tmp_path):
    _land(tmp_path, "7-v1.csv", "7-v01.csv")
    with pytest.raises(
        DataError, match=r"version 1 of span 7 must lie in one place.*7-v01\.csv and .*7-v1\.csv"
    ):
        find_spans(tmp_path, "{SPAN}-v{VERSION}.csv")


def test_a_file_where_the_folder_of_the_spans_should_be_is_no_empty_folder(tmp_path):
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(DataError, match=r"data.*a part of its path is a file"):
        find_spans(tmp_path, "data/{SPAN}.csv")


@pytest.mark.parametrize("closed", ["data", "data/2.csv"])
def test_what_may_not_be_read_is_named_and_never_left_out(tmp_path, closed):
    _land(tmp_path, "data/1.csv", "data/2.csv")
    (tmp_path / closed).chmod(0)
    done = as_nobody(
        tmp_path,
        "from perennial.spans.landed import find_spans; find_spans(Path(folder), "
        "'data/{SPAN}.csv')",
    )
    assert (
        "DataError" in done.stderr
        and "Permission denied" in done.stderr
        and str(tmp_path / closed) in done.stderr
    )


@given(st.lists(st.dates(min_value=datetime.date(1000, 1, 1))))
def test_order_of_dates_is_that_of_time(dates):
    assert sorted((d.isoformat() for d in dates), key=span_order) == [
        d.isoformat() for d in sorted(dates)
    ]


@given(st.lists(st.integers(min_value=0)))
def test_order_of_numbers_is_numeric(numbers):
    assert sorted(map(str, numbers), key=span_order) == [str(number) for number in sorted(numbers)]
