"""Ingestion: every row arrives once, whole, in the split that its key decides.

What cannot be read is said.
"""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from components.ingest_examples.step import ingest_examples
from perennial.data.examples import split_of
from schemas.project import SPLITS
from schemas.records import Ingestion
from tests.components.ingest_examples import column_jobs, jobs
from tests.forked import forked

DAY = "2026-01-01"


def read_rows(folder):
    """Split -> rows of plain values, read back from the records."""
    from perennial.data.examples import decode_records, read_records, split_files

    found = {}
    for split in SPLITS:
        records = list(read_records(split_files(folder, split)))
        found[split] = decode_records(records).to_pylist() if records else []
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
    record = Ingestion.read(chain.examples(DAY))
    assert (
        record.rows == {split: len(found) for split, found in rows.items()}
        and record.problem is None
    )
    labels = [row["label"] for row in landed]
    assert record.labels == {str(label): labels.count(label) for label in sorted(set(labels))}
    assert record.span == chain.selection.window[0]


def test_repeating_it_gives_the_same(chain, rows, tmp_path):
    span = chain.selection.window[0]
    record = forked(ingest_examples, chain.project, span, tmp_path / "again")
    assert record == Ingestion.read(chain.examples(DAY))
    assert forked(read_rows, tmp_path / "again") == rows


def test_rows_and_rules_never_lose_a_row(tmp_path):
    forked(jobs.check_no_row_is_lost, tmp_path)


def test_columns_give_what_rows_give(tmp_path):
    forked(column_jobs.check_columns_give_what_rows_give, tmp_path)


def test_the_record_is_json_that_a_person_can_read(chain):
    record = json.loads((chain.examples(DAY) / "ingestion.json").read_text())
    assert record["span"]["name"] == DAY
