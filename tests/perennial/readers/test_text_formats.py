"""CSV and JSON Lines.

Every row comes once with the place where it stands, whatever the other rows hold.
"""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import BrokenFileError
from perennial.readers.csv_rows import read_csv, read_csv_blocks, read_csv_header
from perennial.readers.json_lines import read_jsonl
from perennial.readers.lines import longest_line
from perennial.readers.rows import Part

PART = Part("a.csv", "a.csv", "csv")
NAMES = ["a", "b", "c"]
# No row is one empty line: CSV cannot tell it from none.
CELL = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
PLAIN = st.text(st.sampled_from("xyz1. é"), min_size=1, max_size=8)


def write(rows, end="\n"):
    text = io.StringIO()
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([NAMES, *rows])
    return text.getvalue().encode()


def read(data, max_value_mb=1.0):
    return list(read_csv(io.BytesIO(data), PART, max_value_mb))


@given(st.lists(st.lists(CELL, min_size=3, max_size=3)), st.sampled_from(["\n", "\r\n"]))
def test_what_was_written_is_read(rows, end):
    found = read(write(rows, end))
    assert [row.values for row in found] == [
        {n: c for n, c in zip(NAMES, row, strict=True) if c} for row in rows
    ]
    assert not any(row.reason for row in found)


@given(
    st.binary(max_size=400) | st.text(st.sampled_from('ab",\n\r\0é'), max_size=80).map(str.encode)
)
def test_rubbish_is_rows_in_their_order_or_no_text(data):
    try:
        found = read(b"a,b,c\n" + data)
    except BrokenFileError:
        assert b"\0" in data
        return
    numbers = [row.number for row in found]
    assert numbers == sorted(set(numbers)) and all(1 < n <= data.count(b"\n") + 2 for n in numbers)
    blank = [line for line in data.split(b"\n") if line in (b"", b"\r")]
    assert len(found) <= data.count(b"\n") + 1 - len(blank) + data.count(b'"')


@given(st.lists(st.lists(PLAIN, min_size=3, max_size=3), min_size=1, max_size=20), st.data())
def test_a_quote_that_never_closes_takes_only_its_own_line(rows, data):
    at = data.draw(st.integers(0, len(rows)))
    lines = write(rows).splitlines(keepends=True)
    lines.insert(at + 1, b'x,"y,z\n')
    found = read(b"".join(lines))
    assert [row.number for row in found if row.reason] == [at + 2]
    assert [list(row.values.values()) for row in found if not row.reason] == rows


def test_a_stray_quote_that_a_later_one_closes_takes_only_its_own_line():
    """It is legal CSV: one cell of 67 rows. As blocks and row by row the same is read."""
    lines = [f"{n},note {n},{n * 2}" for n in range(300)]
    lines[100], lines[168] = '100,"note 100,200', '168,note 168",336'
    data = "\n".join(["a,b,c", *lines, ""]).encode()
    found = read(data)
    assert [row.number for row in found] == list(range(2, 302))
    (fault,) = [row for row in found if row.reason]
    assert fault.number == 102 and "closed in line 170 by '168,note 168\",336\\n'" in str(
        fault.reason
    )
    blocks = read_csv_blocks(io.BytesIO(data), PART, 1.0)
    assert [row for block in blocks for row in block.rows()] == found
    letter = 'a,b,c\n1,"Dear A,\nhow are you, my friend,\nbye\nB, C, D",2\n'
    assert not any(row.reason for row in read(letter.encode()))


@pytest.mark.parametrize(
    ("line", "name"), [("a;b;c", "semicolons"), ("a\tb\tc", "tabs"), ("a|b|c", "vertical bars")]
)
def test_another_delimiter_is_named(line, name):
    with pytest.raises(BrokenFileError, match=f"must have commas between its cells.*{name}"):
        read_csv_header(io.BytesIO(f"{line}\n1\n".encode()), PART, 1.0)


def test_places_are_the_lines_that_rows_begin_in():
    found = read(b'a,b,c\n1,"two\nlines",3\n\n4,5,6\n"7\n\n",8,9\n1,2,3')
    assert [row.number for row in found] == [2, 5, 6, 9] and not any(row.reason for row in found)


def test_a_line_that_is_too_long_is_passed_over():
    longest = longest_line(0.001)
    for long in (b"1," + b"x" * longest + b",3\n", b'1,"' + b"x" * longest + b'\ny",3\n'):
        found = read(b"a,b,c\n" + long + b"4,5,6\n", 0.001)
        assert found[0].number == 2 and "the line must be at most" in str(found[0].reason)
        assert (
            found[-1].values == {"a": "4", "b": "5", "c": "6"}
            and found[-1].reason is None
            and len(found) == 2
        )


def test_a_byte_order_mark_is_no_part_of_the_first_name():
    assert read_csv_header(io.BytesIO(b"\xef\xbb\xbfid,b\n"), PART, 1) == ["id", "b"]


@pytest.mark.parametrize("text", ["id,label\na,1\n", "größe\n"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_named(text, encoding):
    with pytest.raises(BrokenFileError, match=r"a\.csv must be text in UTF-8\. Received: UTF-16"):
        read_csv_header(io.BytesIO(text.encode(encoding)), PART, 1)


OBJECTS = st.dictionaries(
    CELL.filter(bool),
    st.none() | st.integers() | st.booleans() | CELL | st.lists(st.integers()),
    max_size=4,
)


@given(st.lists(OBJECTS))
def test_json_lines(rows):
    text = "".join(f"{json.dumps(row)}\n\n" for row in rows)
    found = list(read_jsonl(io.BytesIO(text.encode()), PART, 1))
    assert [(row.number, row.values, row.reason) for row in found] == [
        (2 * n + 1, r, None) for n, r in enumerate(rows)
    ]
