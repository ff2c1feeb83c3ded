"""Every format gives the same examples: the same keys, values, splits and counts."""

from __future__ import annotations

import datetime
import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from perennial.data.examples import split_of
from perennial.spans.database import find_table_spans
from schemas.project import SPLITS
from schemas.records import Span
from tests.components.ingest_examples import jobs
from tests.components.ingest_examples.jobs import COLUMNS, as_csv, as_jsonl, make_project
from tests.forked import forked

ROWS = [
    {
        "id": f"ride-{n}",
        "fare": n + 0.5,
        "seats": n % 4,
        "note": f'Größe, "{n}"\nnext',
        "label": n % 3,
    }
    for n in range(60)
]
FILES = {
    "a.csv": as_csv(ROWS),
    "bom.csv": b"\xef\xbb\xbf" + as_csv(ROWS),
    "crlf.csv": as_csv(ROWS).replace(b"\n", b"\r\n").replace(b"\r\nnext", b"\nnext"),
    "a.csv.gz": gzip.compress(as_csv(ROWS)),
    "a.jsonl": as_jsonl(ROWS),
    "a.json.gz": gzip.compress(as_jsonl(ROWS)),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("formats") / "rides")
    data = project.folder / "data"
    data.mkdir()
    for name, contents in FILES.items():
        (data / name).write_bytes(contents)
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, data / "a.parquet", row_group_size=13)
    for part in range(3):
        pq.write_table(table.slice(part * 20, 20), data / f"part-{part}.parquet")
        (data / f"part-{part}.csv").write_bytes(as_csv(ROWS[part * 20 : part * 20 + 20]))
    rows = [
        {name: value.encode() if isinstance(value, str) else value for name, value in row.items()}
        for row in ROWS
    ]
    forked(jobs.write_tfrecord, data / "a.tfrecord", rows)
    forked(jobs.write_tfrecord, data / "a.tfrecord.gz", rows)
    return project


URIS = [f"data/{name}" for name in FILES]
URIS += [
    "data/a.parquet",
    "data/a.tfrecord",
    "data/a.tfrecord.gz",
    "data/part-*.parquet",
    "data/part-*.csv",
]


@pytest.fixture(scope="module")
def ingested(project, tmp_path_factory):
    return forked(jobs.ingest_files, project, URIS, tmp_path_factory.mktemp("ingested"))


def check(found, splits):
    assert found.error is None and found.record.problem is None, found
    assert found.examples == {row["id"]: _stored(row) for row in ROWS} and not found.set_aside
    for split, rows in found.splits.items():
        assert {split_of(row["id"].decode(), splits) for row in rows} == {split}
    assert found.record.rows == {split: len(found.splits[split]) for split in SPLITS}
    assert found.record.labels == {"0": 20, "1": 20, "2": 20}
    assert (
        found.record.set_aside == 0
        and found.record.causes == {}
        and len(found.record.content) == 64
    )


@pytest.mark.parametrize("uri", URIS)
def test_every_format_gives_the_same_examples(project, ingested, uri):
    check(ingested[uri], project.settings.data.splits)
    assert set(ingested[uri].record.columns) == set(COLUMNS)
    if "tfrecord" not in uri:  # a map of features has no order
        assert ingested[uri].record.columns == COLUMNS


@pytest.mark.parametrize("uri", ["data/a.csv", "data/part-*.parquet"])
def test_the_same_order_again(project, ingested, tmp_path, uri):
    again = forked(jobs.ingest_files, project, [uri], tmp_path)[uri]
    assert again == ingested[uri]
    assert [row["id"] for row in again.splits["train"]] == [
        row["id"].encode()
        for row in ROWS
        if split_of(row["id"], project.settings.data.splits) == "train"
    ]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'rides.db'}"
    return request.getfixturevalue("postgres").new_database()


def test_a_table_gives_the_same_examples(database, tmp_path):
    engine = sa.create_engine(database)
    kinds = [sa.Text, sa.Numeric(8, 2), sa.Integer, sa.Text, sa.Integer]
    table = sa.Table(
        "rides", sa.MetaData(), *map(sa.Column, COLUMNS, kinds), sa.Column("day", sa.Date)
    )
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(
            table.insert(), [{**row, "day": datetime.date(2026, 1, 1)} for row in ROWS]
        )
        connection.execute(table.insert(), [{**ROWS[0], "day": datetime.date(2026, 1, 2)}])
    engine.dispose()
    project = make_project(
        tmp_path / "rides", table={"url": database, "table": "rides", "span": "day"}
    )
    landed, _ = find_table_spans(project.settings.data.table)
    span = Span(name=landed.name, version=1, uri=landed.uri, fingerprint=landed.fingerprint)
    found = forked(jobs.ingest, project, "", tmp_path / "out", False, span)
    check(found, project.settings.data.splits)
    assert found.record.columns == COLUMNS  # not that of the span, which the schema does not know
    changed = span.model_copy(update={"fingerprint": "0" * 64})
    refused = forked(jobs.ingest, project, "", tmp_path / "other", False, changed)
    assert (
        "must be as the run selected it" in refused.error
        and not (tmp_path / "other" / "ingestion.json").exists()
    )


def _stored(row):
    return {
        name: value.encode() if isinstance(value, str) else value for name, value in row.items()
    }
