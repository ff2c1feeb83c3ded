"""Rows of every format become the arrays that requests with the same values become, or a message names the row."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from components.predict_batch.rows import RowReader, TextColumnError, open_file, read_fields
from components.predict_batch.set_aside import SetAsideRows
from perennial.errors import DataError
from schemas.records import ServedDomain
from serving.domains import DomainCheck
from serving.features import Feature
from serving.inputs import from_v1
from tests.components.predict_batch.three_ways import check_three_ways
from tests.forked import forked

FARE = Feature("x", "float32", ())
COUNT = Feature("x", "int64", ())
SMALL = Feature("x", "int32", ())
WORD = Feature("x", "string", ())
PIXELS = Feature("x", "float32", (2,))
GRID = Feature("x", "int64", (2, 2))
OPTIONAL = Feature("x", "float32", (), (7,))
OPTIONAL_WORD = Feature("x", "string", (), ("none",))

SAME = {
    "floats": (FARE, pa.array([1.5, 2.25], pa.float64())),
    "integers as floats": (FARE, pa.array([1, 2**40], pa.int64())),
    "integers": (COUNT, pa.array([1, -(2**62)], pa.int64())),
    "whole floats": (COUNT, pa.array([1.0, -3.0])),
    "text": (WORD, pa.array(["a", "\u00e9"])),
    "dictionary": (WORD, pa.array(["a", "b", "a"]).dictionary_encode()),
    "lists": (PIXELS, pa.array([[1.0, 2.0], [3.0, 4.0]])),
    "lists of lists": (GRID, pa.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])),
    "missing, with a default": (OPTIONAL, pa.array([None, 2.0])),
    "missing text, with a default": (OPTIONAL_WORD, pa.array([None, "a"])),
    "all missing": (OPTIONAL, pa.array([None, None], pa.float32())),
}
REFUSED = {
    "missing": (FARE, pa.array([1.0, None]), "must be a number (float32). Received: no value"),
    "missing at all": (
        FARE,
        pa.array([None, None], pa.float32()),
        "must be a number (float32). Received: no value",
    ),
    "NaN": (FARE, pa.array([1.0, float("nan")]), "must be a number (float32). Received: nan"),
    "infinity": (FARE, pa.array([1.0, float("inf")]), "must be a number (float32). Received: inf"),
    "beyond float32": (
        FARE,
        pa.array([1.0, 1e300]),
        "must be a number from -3.4e38 to 3.4e38. Received: 1e+300",
    ),
    "beyond int32": (
        SMALL,
        pa.array([1, 2**40]),
        "must be an integer (int32). Received: 1099511627776",
    ),
    "a fraction": (COUNT, pa.array([1.0, 1.5]), "must be a whole number. Received: 1.5"),
    "a fraction for text": (WORD, pa.array([1.0, 2.0]), "must be text. Received: 1.0"),
    "a word for a number": (
        COUNT,
        pa.array(["1", "x"]),
        "must be a whole number. Received: 'x'",
    ),
    "a shorter list": (
        PIXELS,
        pa.array([[1.0, 2.0], [3.0]]),
        "must be 2 numbers (float32). Received: 1 value",
    ),
    "a list of one for two": (
        PIXELS,
        pa.array([1.0, 2.0]),
        "must be 2 numbers (float32). Received: 1 value",
    ),
    "a missing item": (
        PIXELS,
        pa.array([[1.0, 2.0], [1.0, None]]),
        "must be a number",
    ),
}
PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def read_file(path, features, size=1, kinds=None, domains=None, missing=()):
    """The blocks of a file, and the rows set aside."""
    part = open_file(path, missing)
    needed = [feature.name for feature in features if not feature.optional]
    fields = pa.schema(read_fields(part, needed, size, kinds))
    set_aside = SetAsideRows(path.name, path.with_suffix(".aside"))
    reader = RowReader(part, features, fields, size, set_aside, domains or DomainCheck())
    blocks = list(reader.read())
    set_aside.close()
    return blocks, set_aside


def read(path, features, size=1, **known):
    """The arrays of all rows of a file, and what is passed on."""
    blocks, set_aside = read_file(path, features, size, **known)
    assert not set_aside.count, set_aside.first
    arrays = {f.name: np.concatenate([block.arrays[f.name] for block in blocks]) for f in features}
    return arrays, pa.Table.from_batches([block.passed_on for block in blocks]).to_pylist()


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("case", SAME)
def test_columns_are_read_as_requests_are(case, tmp_path):
    feature, column = SAME[case]
    batch = pa.table({"x": column})
    pq.write_table(batch, tmp_path / "rows.parquet")
    arrays, _ = read(tmp_path / "rows.parquet", [feature])
    expected = from_v1({"instances": batch.to_pylist()}, [feature])["x"]
    assert arrays["x"].dtype == expected.dtype
    np.testing.assert_array_equal(arrays["x"], expected)


@pytest.mark.parametrize("case", REFUSED)
def test_row_at_fault_is_named(case, tmp_path):
    feature, column, message = REFUSED[case]
    pq.write_table(pa.table({"x": column}), tmp_path / "rows.parquet")
    blocks, set_aside = read_file(tmp_path / "rows.parquet", [feature])
    all_of_them = case in ("a fraction for text", "missing at all", "a list of one for two")
    row = 1 if all_of_them else 2
    assert f"rows.parquet: row {row}: `x` {message}" in set_aside.first
    assert set_aside.count == (2 if all_of_them else 1)
    assert [block.numbers for block in blocks] == ([] if all_of_them else [[1]])
    kept = [json.loads(line) for line in (tmp_path / "rows.aside").read_text().splitlines()]
    assert len(kept) == set_aside.count and f"`x` {message}" in kept[0]["reasons"][0]


def test_rows_at_fault_are_set_aside_and_the_others_stay_in_order(tmp_path):
    lines = [f"r{n},{'n/a' if n % 7 == 3 else n}" for n in range(500)]
    path = write(tmp_path / "rows.csv", "id,x\n" + "\n".join(lines) + "\n")
    blocks, set_aside = read_file(path, [FARE], kinds={"x": "float"})
    assert set_aside.count == 71 and "line 5: `x` must be a number. Received: 'n/a'" in (
        set_aside.first
    )
    rows = pa.Table.from_batches([block.passed_on for block in blocks]).to_pylist()
    assert rows == [{"id": f"r{n}", "x": float(n)} for n in range(500) if n % 7 != 3]
    numbers = [number for block in blocks for number in block.numbers]
    assert numbers == [n + 2 for n in range(500) if n % 7 != 3]
    optional = read_file(path, [OPTIONAL], kinds={"x": "float"}, missing=("n/a",))
    assert optional[1].count == 0
    assert np.concatenate([block.arrays["x"] for block in optional[0]])[3] == 7


def test_rows_outside_a_domain(tmp_path):
    path = write(tmp_path / "rows.csv", "x\n1\n9\n2\n")
    feature = Feature("x", "int64", (), domain=ServedDomain(low=0, high=5))
    flagging, refusing = DomainCheck("flag"), DomainCheck("refuse")
    assert read(path, [feature], domains=flagging)[0]["x"].tolist() == [1, 9, 2]
    blocks, set_aside = read_file(path, [feature], domains=refusing)
    assert blocks[0].arrays["x"].tolist() == [1, 2]
    assert set_aside.first.endswith("rows.csv: line 3: `x` must be from 0 to 5. Received: 9")
    assert flagging.counts == refusing.counts == {"x": 1}


def test_numbers_stay_numbers(tmp_path):
    """Columns that the model or the schema knows as numbers; another value makes them text."""
    kinds = {"x": "int", "fare": "float", "id": "bytes"}
    path = write(tmp_path / "rows.csv", "id,x,fare,note\n007,1,2.5,3\n8,2,,4\n")
    typed = [
        {"id": "007", "x": 1, "fare": 2.5, "note": "3"},
        {"id": "8", "x": 2, "fare": None, "note": "4"},
    ]
    assert read(path, [COUNT], kinds=kinds)[1] == typed
    lines = '{"id": "007", "x": 1, "fare": 2.5, "note": 3}\n{"id": "8", "x": 2, "note": 4}\n'
    assert read(write(tmp_path / "rows.jsonl", lines), [COUNT], kinds=kinds)[1] == typed
    path = write(tmp_path / "rows.csv", "id,x,fare\na,1,2.5\nb,2,cheap\n")
    with pytest.raises(TextColumnError, match="fare"):
        read(path, [COUNT], kinds=kinds)


def test_numbers_may_be_text_and_truth_values(tmp_path):
    """As ingestion and requests take them."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": pa.array(["1.5", " 2"])}), path)
    assert read(path, [FARE])[0]["x"].tolist() == [1.5, 2.0]
    pq.write_table(pa.table({"x": pa.array([True, False])}), path)
    assert read(path, [COUNT])[0]["x"].tolist() == [1, 0]


def test_column_that_is_not_there_is_the_default(tmp_path):
    pq.write_table(pa.table({"other": [1, 2]}), tmp_path / "rows.parquet")
    arrays, _ = read(tmp_path / "rows.parquet", [OPTIONAL])
    assert arrays["x"].tolist() == [7.0, 7.0]
    with pytest.raises(DataError, match=r"must have the features that the model needs \(x\)"):
        read(tmp_path / "rows.parquet", [FARE])


def test_text_of_a_csv_is_text_whatever_it_looks_like(tmp_path):
    rows = 'id,x\n1,10115\n2,true\n3,null\n4,"[1, 2]"\n5,1.50\n6,007\n'
    arrays, passed_on = read(write(tmp_path / "rows.csv", rows), [WORD])
    assert arrays["x"].tolist() == [b"10115", b"true", b"null", b"[1, 2]", b"1.50", b"007"]
    assert passed_on[4] == {"id": "5", "x": "1.50"}


def test_quoted_line_break_is_part_of_its_cell(tmp_path):
    path = write(tmp_path / "rows.csv", 'x,note\n"Unter den\nLinden","a ""b"", c"\nplain,\n')
    arrays, passed_on = read(path, [WORD])
    assert arrays["x"].tolist() == [b"Unter den\nLinden", b"plain"]
    assert passed_on == [
        {"x": "Unter den\nLinden", "note": 'a "b", c'},
        {"x": "plain", "note": None},
    ]


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize(
    ("suffix", "content"), [(".csv", "x\n1\n2\n"), (".jsonl", '{"x": 1}\n\n{"x": 2.0}\n')]
)
def test_compressed_files_are_read(suffix, content, ending, tmp_path):
    path = write(tmp_path / f"rows{suffix}{ending}", PACK[ending](content.encode()))
    arrays, _ = read(path, [COUNT])
    assert arrays["x"].tolist() == [1, 2]


def test_lists_in_the_cells_of_a_csv(tmp_path):
    path = write(tmp_path / "rows.csv", 'x\n"[[1, 2], [3, 4]]"\n"[5, 6, 7, 8]"\n')
    assert read(path, [GRID])[0]["x"].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    _, set_aside = read_file(write(tmp_path / "rows.csv", 'x\n"[[1, 2], [3]]"\n'), [GRID])
    assert "line 2: `x` must be a whole number" in set_aside.first


def test_line_that_is_no_row_is_named(tmp_path):
    for name, content, message in (
        (
            "rows.csv",
            "x,y\n1,2\n3\n",
            "rows.csv: line 3: the row must have 2 cells, as the header has. Received: 1",
        ),
        ("rows.jsonl", '{"x": 1}\n[1]\n', "rows.jsonl: line 2: the line must be a JSON object"),
        ("rows.jsonl", '{"x": 1}\n{"x"\n', "rows.jsonl: line 2: the line must be JSON"),
        (
            "rows.jsonl",
            '{"x": 1}\n{"y": 2}\n',
            "rows.jsonl: line 2: `x` must be an integer (int64). Received: no v",
        ),
    ):
        _, set_aside = read_file(write(tmp_path / name, content), [COUNT])
        assert message in set_aside.first and set_aside.count == 1


def test_file_that_cannot_be_read(tmp_path):
    for name, content, message in (
        ("rows.xml", b"<x/>", "must end in one of .csv, .tsv, .jsonl"),
        ("rows.csv", b"", "must hold rows. Received: 0 bytes. Write it again."),
        ("rows.parquet", b"PAR1", "must be a whole Parquet file"),
        ("rows.csv.gz", gzip.compress(b"x\n1\n")[:-4], "must be CSV, whole if it is compressed"),
    ):
        with pytest.raises(DataError) as caught:
            read(write(tmp_path / name, content), [COUNT])
        assert message in str(caught.value)
    with pytest.raises(DataError, match="must exist"):
        read(tmp_path / "none.csv", [COUNT])


def test_what_is_passed_on_from_json_lines_is_text(tmp_path):
    path = write(tmp_path / "rows.jsonl", '{"x": 1, "id": 7, "note": 1.0}\n{"x": 2, "id": "b"}\n')
    _, passed_on = read(path, [COUNT])
    assert passed_on == [{"x": "1", "id": "7", "note": "1.0"}, {"x": "2", "id": "b", "note": None}]
    # A row that lacks a column does not decide which there are.
    path = write(tmp_path / "rows.jsonl", '{"id": 7}\n{"id": 8, "x": 2}\n')
    blocks, set_aside = read_file(path, [COUNT])
    assert set_aside.count == 1 and blocks[0].passed_on.to_pylist() == [{"id": "8", "x": "2"}]


def test_ingestion_batch_and_server_read_the_same_values(tmp_path):
    forked(check_three_ways, tmp_path)
