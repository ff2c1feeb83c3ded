"""Ingestion: every row arrives once, whole, in the split that its key decides; what cannot be read is said."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.ingest_examples.step import ingest_examples, read_ingestion
from perennial.errors import DataError
from perennial.examples import split_of
from schemas.project import SPLITS
from tests.components.chain import span_of
from tests.components.forked import forked

DAY = "2026-01-01"
ROWS = 40


def read_rows(folder):
    """Split -> rows of plain values, read back from the records."""
    from perennial.examples import decode_records, read_records, split_files

    found = {}
    for split in SPLITS:
        records = list(read_records(split_files(folder, split)))
        found[split] = decode_records(records).to_pylist() if records else []
    return found


def ingest_tables(project, tables, folder):
    """Name -> what ingesting the table gives: its record, or the error's kind and message."""
    found = {}
    for name, table in tables.items():
        path = folder / f"{name}.parquet"
        path.write_bytes(table) if isinstance(table, bytes) else pq.write_table(table, path)
        try:
            found[name] = ingest_examples(project, span_of(path), folder / name)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


@pytest.fixture(scope="module")
def rows(chain):
    return forked(read_rows, chain.examples(DAY))


@pytest.fixture(scope="module")
def landed(chain):
    return pq.read_table(chain.project.folder / "data" / f"{DAY}.parquet").to_pylist()


def test_every_row_arrives_once_with_its_values(rows, landed):
    arrived = {row["id"][0].decode(): row for split in rows.values() for row in split}
    assert sum(map(len, rows.values())) == len(arrived) == len(landed)
    for row in landed:
        found = arrived[row["id"]]
        assert found["image"] == row["image"] and found["label"] == [row["label"]]
        assert found["date"] == [row["date"].encode()]


def test_the_key_decides_the_split(rows, chain):
    shares = chain.project.settings.data.splits
    for split, found in rows.items():
        assert {split_of(row["id"][0].decode(), shares) for row in found} == {split}


def test_shares_are_roughly_as_set(rows, landed):
    shares = [len(rows[split]) / len(landed) for split in SPLITS]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.12)


def test_record_counts_rows_and_labels(rows, landed, chain):
    record = read_ingestion(chain.examples(DAY))
    assert record.rows == {split: len(found) for split, found in rows.items()} and record.problem is None
    labels = [row["label"] for row in landed]
    assert record.labels == {str(label): labels.count(label) for label in sorted(set(labels))}
    assert record.span == chain.selection.window[0]


def test_repeating_it_gives_the_same(chain, rows, tmp_path):
    span = chain.selection.window[0]
    record = forked(ingest_examples, chain.project, span, tmp_path / "again")
    assert record == read_ingestion(chain.examples(DAY))
    assert forked(read_rows, tmp_path / "again") == rows


def _table(**columns):
    whole = {
        "id": [f"digit-{row}" for row in range(ROWS)],
        "image": pa.array([[0.5] * 4] * ROWS, pa.list_(pa.float32())),
        "label": pa.array([row % 3 for row in range(ROWS)], pa.int64()),
    }
    return pa.table({name: column for name, column in {**whole, **columns}.items() if column is not None})


def _nulls(values, every=4):
    return [None if row % every == 0 else value for row, value in enumerate(values)]


def _parquet_bytes():
    sink = pa.BufferOutputStream()
    pq.write_table(_table(), sink)
    return sink.getvalue().to_pybytes()


BAD = {
    "truncated": (_parquet_bytes()[:-40], "must be a whole Parquet file"),
    "no-parquet": (b"id,label\n1,2\n", "must be a whole Parquet file"),
    "no-bytes": (b"", "must be a whole Parquet file"),
    "no-rows": (_table().slice(0, 0), "must hold examples. Received: 0 rows"),
    "no-key": (_table(id=None), "must have the column `id` (data.key). Received: image, label"),
    "null-keys": (_table(id=_nulls(range(ROWS))), "`id` (data.key) must be set in every row. Received: 10 rows"),
    "struct": (_table(image=[{"a": 1}] * ROWS), "column `image` must hold numbers, text, dates or lists"),
    "null-in-list": (_table(image=[[0.5, None]] * ROWS), "Received: NoneType, float"),
    "too-large": (_table(label=pa.array([2**63] * ROWS, pa.uint64())), "column `label` must hold whole numbers of 64"),
}


@pytest.fixture(scope="module")
def bad(chain, tmp_path_factory):
    tables = {name: table for name, (table, _) in BAD.items()}
    return forked(ingest_tables, chain.project, tables, tmp_path_factory.mktemp("bad"))


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_problem_of_the_span_not_of_the_run(bad, name):
    record = bad[name]
    assert not isinstance(record, str), record
    assert BAD[name][1] in record.problem and record.problem.startswith(f"{name}.parquet")
    assert record.problem.endswith("Land it again.") and len(record.problem.splitlines()) == 1
    assert "while running" not in record.problem  # words of Beam's, not of the user's
    assert (record.rows, record.labels) == (dict.fromkeys(SPLITS, 0), {})


@pytest.fixture(scope="module")
def odd(chain, tmp_path_factory):
    """Two landings in one folder that are odd but no problem: empty lists, missing labels and text beyond ASCII."""
    images = [[] if row == 0 else [0.5] * 4 for row in range(ROWS)]
    table = _table(
        image=pa.array(images, pa.list_(pa.float32())),
        label=pa.array(_nulls(range(ROWS)), pa.int64()),
        text=["Größe\n\"'"] * ROWS,
        flag=[True] * ROWS,
    )
    folder = tmp_path_factory.mktemp("odd")
    record = forked(ingest_tables, chain.project, {"odd": table}, folder)["odd"]
    return record, forked(read_rows, folder / "odd")


def test_missing_labels_are_counted(odd):
    record, _ = odd
    assert record.problem is None and record.labels["missing"] == 10
    assert sum(record.labels.values()) == sum(record.rows.values()) == ROWS


def test_missing_and_empty_values_are_missing_and_others_are_as_they_were(odd):
    found = {row["id"][0].decode(): row for split in odd[1].values() for row in split}
    assert found["digit-0"]["label"] is None and not found["digit-0"]["image"]
    assert found["digit-1"]["image"] == [0.5] * 4 and found["digit-1"]["label"] == [1]
    assert found["digit-1"]["text"] == ["Größe\n\"'".encode()] and found["digit-1"]["flag"] == [1]


def test_file_that_changed_since_the_run_selected_it(project, tmp_path):
    path = project.folder / "data" / f"{DAY}.parquet"
    span = span_of(path)
    os.truncate(path, 1000)
    with pytest.raises(DataError, match="must not change while it is read"):
        forked(ingest_examples, project, span, tmp_path / "out")
    assert not (tmp_path / "out" / "ingestion.json").exists()


def test_file_that_is_gone(project, tmp_path):
    path = project.folder / "data" / f"{DAY}.parquet"
    span = span_of(path)
    path.unlink()
    with pytest.raises(DataError, match="must be readable"):
        forked(ingest_examples, project, span, tmp_path / "out")


def test_the_record_is_json_that_a_person_can_read(chain):
    record = json.loads((chain.examples(DAY) / "ingestion.json").read_text())
    assert record["span"]["name"] == DAY
