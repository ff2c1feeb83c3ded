"""A CSV file is read with the delimiter of the settings, wherever CSV is read; another one is named."""

from __future__ import annotations

import io

import pytest

from perennial.data.examples import split_of
from perennial.errors import DelimiterError
from perennial.readers.csv_rows import read_csv, read_csv_blocks, read_csv_header
from perennial.readers.rows import Part
from schemas.project import SplitSettings
from tests.forked import forked
from tests.perennial.readers.delimited_cases import CASES, DELIMITERS, ROWS
from tests.perennial.readers.delimiter_jobs import read_all, read_with_wrong_delimiter

WAYS = ("rows", "columns", "ingestion", "batch", "unlabelled", "serving log")
EXPECTED = [(row["fare"], row["note"]) for row in ROWS]
IN_TRAIN = [
    (row["fare"], row["note"]) for row in ROWS if split_of(row["id"], SplitSettings()) == "train"
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    return forked(read_all, tmp_path_factory.mktemp("delimited"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("delimiter", "name"), CASES)
def test_same_rows_by_every_way(outcomes, delimiter, name, way):
    rows = outcomes[delimiter, name, way]
    if way == "ingestion":  # in the order of the splits
        assert sorted(rows) == EXPECTED
    else:
        assert rows == (IN_TRAIN if way == "unlabelled" else EXPECTED)


@pytest.mark.parametrize("other", [d for d in DELIMITERS if d != "\x01"])
@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_another_delimiter_is_named(delimiter, other):
    part = Part("a.csv", "a.csv", "csv", delimiter=delimiter)
    for cells in (["a", "b", "c"], ['"a"', '"b"', '"c"']):
        data = other.join(cells).encode() + b"\n1\n"
        if delimiter == other:
            assert read_csv_header(io.BytesIO(data), part, 1.0) == ["a", "b", "c"]
            continue
        for read in (read_csv_header, read_csv, lambda *a: list(read_csv_blocks(*a))):
            with pytest.raises(DelimiterError) as refused:
                read(io.BytesIO(data), part, 1.0)
            written = other.replace("\t", "\\t")
            assert refused.value.expected == (
                f"must have {DELIMITERS[delimiter]} between its cells"
            )
            assert refused.value.received.startswith(f"{DELIMITERS[other]}: ")
            assert refused.value.remedy.startswith(f'Set data.delimiter: "{written}" in')


def test_another_delimiter_is_named_wherever_a_file_is_read(tmp_path):
    messages = forked(read_with_wrong_delimiter, tmp_path / "rides")
    assert set(messages) == {"ingestion", "batch", "unlabelled", "serving log"}
    for way, message in messages.items():
        assert "must have commas between its cells. Received: semicolons: " in message
        remedy = "--delimiter" if way == "batch" else 'Set data.delimiter: ";" in project.yaml'
        assert remedy in message


def test_rows_that_a_stray_quote_swallows_are_told_by_the_delimiter():
    lines = [f"{n};note, {n};{n * 2}" for n in range(40)]
    lines[10], lines[20] = '10;"note 10;20', '20;note 20";40'
    data = "\n".join(["a;b;c", *lines, ""]).encode()
    part = Part("a.csv", "a.csv", "csv", delimiter=";")
    rows = list(read_csv(io.BytesIO(data), part, 1.0))
    assert [row.number for row in rows] == list(range(2, 42))
    assert [row.number for row in rows if row.reason] == [12]
    blocks = read_csv_blocks(io.BytesIO(data), part, 1.0)
    assert [row for block in blocks for row in block.rows()] == rows
