"""Values become what their column says, or there is a reason.

Nothing raises and nothing is bent.
"""

from __future__ import annotations

import datetime
import decimal
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.project import load_project
from perennial.readers.columns import Column, SeenKinds, columns_of, merge_kinds
from perennial.readers.convert import Conformer, kind_of
from perennial.readers.read import format_of
from tests.perennial.folders import DIGITS

SCALARS = (
    st.none()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.booleans()
    | st.decimals()
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.uuids()
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
COLUMNS = st.builds(
    Column,
    st.sampled_from(["int", "float", "bytes"]),
    many=st.booleans(),
    text=st.booleans(),
    mixed=st.booleans(),
)


def conform(value, column=None, guess=False):
    """The value and its reason."""
    values, reasons = Conformer({"x": column} if column else {}, 1, guess).conform({"x": value})
    return values.get("x"), str(reasons[0]) if reasons else None


@given(ANYTHING, st.none() | COLUMNS, st.booleans())
def test_anything_is_a_value_of_the_column_or_a_reason(value, column, guess):
    found, reason = conform(value, column, guess)
    assert (found is None) == (reason is not None or value is None)
    if reason is not None:
        assert reason.startswith("`x` must be") and len(reason) < 600
    elif column and found is not None and kind_of(found):
        assert kind_of(found) == column.kind
    for item in found if isinstance(found, list) else [found]:
        if isinstance(item, float) and math.isfinite(item):
            struct.pack("<f", item)
        assert not isinstance(item, int) or -(2**63) <= item < 2**63


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_survive_as_text(number):
    assert conform(str(number), Column("int")) == (number, None)


@given(st.floats(width=32))
def test_numbers_survive_as_text(number):
    found, reason = conform(repr(number), Column("float"))
    assert reason is None and (found == number or (math.isnan(number) and math.isnan(found)))


@pytest.mark.parametrize(
    ("value", "column", "expected"),
    [
        (3.0, Column("int"), 3),
        (decimal.Decimal("3.00"), Column("int"), 3),
        (" 4 ", Column("int"), 4),
        (b"5", Column("int"), 5),
        (True, Column("float"), 1.0),
        ("True", Column("int"), 1),
        (b"false", Column("float"), 0.0),
        (7, Column("bytes"), b"7"),
        (2**64, Column("bytes"), b"18446744073709551616"),
        (2**64, None, b"18446744073709551616"),
        ("[1, 2]", Column("float", many=True), [1.0, 2.0]),
        ("[]", Column("float"), []),
        ('["a", "b"]', Column("bytes", many=True), [b"a", b"b"]),
        ("[draft] a", Column("bytes"), b"[draft] a"),
        (decimal.Decimal("1.50"), Column("bytes"), b"1.50"),
        (datetime.datetime(2026, 1, 2, 3), Column("bytes"), b"2026-01-02T03:00:00"),
        (memoryview(b"ab"), Column("bytes"), b"ab"),
        (7, Column("bytes", mixed=True), b"7"),
        ([1, 2.5], None, [1.0, 2.5]),
        (decimal.Decimal("7"), None, 7),
        (decimal.Decimal("7.0"), None, 7.0),
    ],
)
def test_what_is_accepted(value, column, expected):
    found, reason = conform(value, column)
    assert reason is None and found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "column"),
    [
        ("1_000", Column("int")), ("١٢", Column("int")), ("0x10", Column("int")), ("2.5", Column("int")),
        (float("nan"), Column("int")), (float("inf"), Column("int")), (2**63, Column("int")), ("", Column("int")),
        (decimal.Decimal("NaN"), Column("int")), (decimal.Decimal("sNaN"), Column("float")), (1e39, Column("float")),
        ("tRue", Column("float")), ([1, None], Column("float")), ("[1, [2]]", Column("float")), ({}, Column("float")),
        (1.0, Column("bytes")), (True, Column("bytes")), (b"\xff", Column("bytes", text=True)), ("\ud800", Column("bytes")), ([1, "a"], None),
    ],
)  # fmt: skip
def test_what_is_refused(value, column):
    found, reason = conform(value, column)
    assert found is None and ". Received: " in reason


def test_large_values_tell_their_size():
    for value in ("x" * 2_500_000, b"x" * 2_500_000, ["x" * 1_250_000] * 2, [1.5] * 312_500):
        assert conform(value)[1] == "`x` must be at most 1 MB. Received: 2.5 MB"


@pytest.mark.parametrize(
    ("values", "column"),
    [
        (["1", "2"], Column("int")),
        (["1", "2.5", "nan"], Column("float", mixed=True)),
        (["1", "x"], Column("bytes", mixed=True)),
        (["True", "FALSE"], Column("int")),
        (["true", "maybe"], Column("bytes", mixed=True)),
        (["12E5", "1E5"], Column("bytes")),
        (["1.5E5", "1e-05", "1e+16"], Column("float", mixed=True)),
        ([str(2**63), str(2**64)], Column("bytes")),
        ([2**63 - 1, 2**63], Column("bytes", mixed=True)),
        (["012", "123"], Column("bytes", mixed=True)),
        (["[1]", "[2, 3]"], Column("int", many=True)),
        (["[1]", "[draft]"], Column("bytes", mixed=True)),
        ([1, True, 2.0], Column("float", mixed=True)),
    ],
)
def test_values_tell_the_kind_of_their_column(values, column):
    seen = SeenKinds()
    for value in values:
        found, _ = conform(value, guess=True)
        seen.see("x", kind_of(found), not isinstance(found, list))
    assert seen.columns() == {"x": column}
    for value in values:
        assert conform(value, column)[1] is None


@given(st.lists(st.sampled_from(["int", "float", "bytes"]), min_size=1))
def test_merging_kinds_has_no_order(kinds):
    assert (
        merge_kinds(kinds)
        == merge_kinds(reversed(kinds))
        == merge_kinds([merge_kinds(kinds), *kinds])
    )


def test_columns_of_a_schema():
    found = columns_of(load_project(DIGITS).schema)
    assert found["image"] == Column("float", many=True) and found["label"] == Column("int")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("a.csv", "csv"), ("A.CSV.GZ", "csv"), ("s3://b/a.jsonl.zst", "jsonl"), ("a.json", "jsonl"),
        ("https://host/a.parquet?token=b.csv", "parquet"), ("a.tfrecord.gz", "tfrecord"), ("a.tfrecords", "tfrecord"),
    ],
)  # fmt: skip
def test_suffixes_tell_the_format(uri, expected):
    assert format_of(uri, None) == expected and format_of(uri, "csv") == "csv"


@pytest.mark.parametrize("column", [None, Column("bytes"), Column("bytes", mixed=True)])
def test_json_holds_bytes_in_base64(column):
    assert conform({"b64": "/9j/AA=="}, column) == (b"\xff\xd8\xff\x00", None)
    assert conform([{"b64": "/w=="}, {"b64": ""}], Column("bytes", many=True))[0] == [b"\xff", b""]


@pytest.mark.parametrize("value", [{"b64": "*"}, {"b64": "a"}, {"b64": 1}, {"b64": "", "c": 1}, {}])
def test_what_is_no_base64_has_a_reason(value):
    found, reason = conform(value, Column("bytes"))
    assert found is None and reason.startswith("`x` must be text. Received: {")
