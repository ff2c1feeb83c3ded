"""Files that cannot be read as a whole are the problem of their span.

Places that cannot be read stop the step.
"""

from __future__ import annotations

import gzip
import json
import os
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perennial.spans.database import find_table_spans
from perennial.storage.fingerprints import fingerprint
from schemas.project import SPLITS
from schemas.records import Span
from tests.components.ingest_examples import jobs
from tests.components.ingest_examples.jobs import COLUMNS, as_csv, as_jsonl, make_project
from tests.forked import forked

ROWS = [
    {"id": f"r-{n}", "fare": n + 0.5, "seats": 1, "note": f"note {n}", "label": n % 3}
    for n in range(500)
]
NONE = [{**row, "label": ""} for row in ROWS]


def _parquet(rows=ROWS, cut=0):
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_pylist(rows, pa.Table.from_pylist(ROWS[:1]).schema), sink, row_group_size=100
    )
    data = sink.getvalue().to_pybytes()
    return data[: len(data) - cut]


def _damaged_page():
    """Parquet whose end is whole and whose values are not."""
    data = bytearray(_parquet())
    data[40:200] = b"\xff" * 160
    return bytes(data)


GZIPPED = gzip.compress(as_csv(ROWS))
BAD = {
    "cut.parquet": (_parquet(cut=40), "must be a whole Parquet file"),
    "damaged.parquet": (_damaged_page(), "must be a whole Parquet file"),
    "csv.parquet": (as_csv(ROWS), "must be a whole Parquet file"),
    "no-rows.parquet": (_parquet(ROWS[:0]), "must hold rows. Received: 0 rows"),
    "cut.csv.gz": (
        GZIPPED[: len(GZIPPED) // 2],
        "must be CSV, whole if it is compressed. Received: ",
    ),
    "no-gzip.csv.gz": (
        as_csv(ROWS),
        "must be CSV, whole if it is compressed. Received: Not a gzipped file",
    ),
    "cut.jsonl.gz": (
        gzip.compress(as_jsonl(ROWS))[:-20],
        "must be JSON Lines, whole if they are compressed",
    ),
    "empty.csv": (b"", "must hold rows. Received: 0 bytes"),
    "empty.jsonl": (b"", "must hold rows. Received: 0 bytes"),
    "empty.csv.gz": (gzip.compress(b""), "must have a header and rows. Received: no line"),
    "blank.jsonl": (b"\n\n", "must hold rows. Received: 0 rows"),
    "header.csv": (as_csv([]), "must hold rows. Received: 0 rows"),
    "twice.csv": (
        b"id,label,fare,fare\na,1,2,3\n",
        "must have each column once. Received: `fare` twice",
    ),
    "nameless.csv": (
        b"id,,label\na,1,2\n",
        "must have a name for every column. Received: none for column 2",
    ),
    "no-key.csv": (
        b"fare,label\n1,2\n",
        "must have the column `id` (data.key). Received: fare, label",
    ),
    "semicolons.csv": (
        b"id;label\na;1\n",
        ": line 1 must have commas between its cells. Received: semicolons: 'id;label'",
    ),
    "no-label.csv": (b"id,fare\na,1\n", "must have the column `label` (label). Received: id, fare"),
    "no-label.jsonl": (
        b'{"id": "a", "fare": 1}\n',
        "must have the column `label` (label). Received: id, fare",
    ),
    "no-labels.csv": (as_csv(NONE), "must have labels (`label`). Received: 500 rows without one"),
    "unreadable.csv": (
        as_csv([{**row, "fare": "x"} for row in ROWS]),
        "must hold rows that are examples. Received: 500 rows, all set aside, the first "
        "data/unreadable.csv: line 2: `",
    ),
    "array.json": (
        json.dumps(ROWS).encode(),
        "must hold rows that are examples. Received: 1 row, all",
    ),
    "utf-16.csv": (
        as_csv(ROWS).decode().encode("utf-16"),
        "must be text in UTF-8. Received: UTF-16",
    ),
    "utf-16-no-mark.csv": (
        as_csv(ROWS).decode().encode("utf-16-le"),
        "must be text in UTF-8. Received: UTF-16",
    ),
    "latin-header.csv": (
        "id,größe,label\na,1,1\n".encode("latin-1"),
        ": line 1 must be a header: the line must",
    ),
    "quote-header.csv": (
        b'id,"label\na,1\n',
        ": line 1 must be a header: the row must be CSV with every quote closed",
    ),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("bad") / "rides")
    data = project.folder / "data"
    data.mkdir()
    for name, (contents, _) in BAD.items():
        (data / name).write_bytes(contents)
    return project


@pytest.fixture(scope="module")
def bad(project, tmp_path_factory):
    return forked(
        jobs.ingest_files, project, [f"data/{name}" for name in BAD], tmp_path_factory.mktemp("out")
    )


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_a_problem_of_the_span_not_of_the_run(bad, name):
    found = bad[f"data/{name}"]
    assert found.record is not None, found.error
    place = BAD[name][1] if BAD[name][1].startswith(":") else f" {BAD[name][1]}"
    assert found.problem.startswith(f"data/{name}{place}")
    remedy = "or convert the file." if name == "semicolons.csv" else "Land it again."
    assert found.problem.endswith(remedy) and len(found.problem.splitlines()) == 1
    assert "while running" not in found.problem  # words of Beam's, not of the user's
    assert (found.record.rows, found.record.labels) == (dict.fromkeys(SPLITS, 0), {})
    assert not any(found.splits.values())


def test_nothing_that_was_set_aside_is_forgotten(bad):
    found = bad["data/unreadable.csv"]
    assert found.record.set_aside == len(found.set_aside) == 500
    assert found.record.columns == COLUMNS


@pytest.fixture(scope="module")
def records(project):
    """A TFRecord file in three states of damage."""
    data = project.folder / "data"
    forked(
        jobs.write_tfrecord,
        data / "whole.tfrecord",
        [{**row, "label": row["label"]} for row in ROWS],
    )
    whole = (data / "whole.tfrecord").read_bytes()
    (data / "cut.tfrecord").write_bytes(whole[:-10])
    (data / "flipped.tfrecord").write_bytes(whole[:30] + bytes([whole[30] ^ 1]) + whole[31:])
    (data / "cut.tfrecord.gz").write_bytes(gzip.compress(whole)[:-2000])
    return project


def test_damaged_tfrecords(records, tmp_path):
    names = ["data/cut.tfrecord", "data/flipped.tfrecord", "data/cut.tfrecord.gz"]
    found = forked(jobs.ingest_files, records, names, tmp_path)
    problems = [found[name].problem for name in names]
    assert problems[0].startswith("data/cut.tfrecord: row 500 must be whole (")
    assert problems[1].startswith(
        "data/flipped.tfrecord: row 1 must have the checksum of its bytes"
    )
    assert problems[2].startswith("data/cut.tfrecord.gz must be a whole TFRecord file")


def test_files_of_one_span_that_differ_in_their_columns(tmp_path):
    project = make_project(tmp_path / "rides")
    (project.folder / "data").mkdir()
    (project.folder / "data" / "1.csv").write_bytes(as_csv(ROWS))
    (project.folder / "data" / "2.csv").write_bytes(
        as_csv(ROWS, ["label", "id", "fare", "seats", "comment"])
    )
    found = forked(jobs.ingest, project, "data/*.csv", tmp_path / "out")
    assert found.problem == (
        "data/2.csv must have the columns of data/1.csv. Received: no note and also comment. Land "
        "it again."
    )


def test_a_suffix_that_tells_no_format(tmp_path):
    project = make_project(tmp_path / "rides")
    (project.folder / "data").mkdir()
    (project.folder / "data" / "a.dat").write_bytes(as_csv(ROWS[:30]))
    refused = forked(jobs.ingest, project, "data/a.dat", tmp_path / "out")
    assert refused.error.startswith(
        "ProjectError: project.yaml: data.format must name the format of files that end in"
    )
    told = make_project(tmp_path / "rides", format="csv")
    assert len(forked(jobs.ingest, told, "data/a.dat", tmp_path / "out").examples) == 30


def _span(path):
    return Span(name="s", version=1, uri=str(path), fingerprint=fingerprint(str(path)))


@pytest.fixture
def landed(tmp_path):
    project = make_project(tmp_path / "rides")
    (project.folder / "data").mkdir()
    path = project.folder / "data" / "a.csv"
    path.write_bytes(as_csv(ROWS))
    return project, path, _span(path)


@pytest.mark.parametrize("change", ["more", "cut", "gone", "folder"])
def test_a_file_that_is_not_what_the_run_selected(landed, tmp_path, change):
    project, path, span = landed
    if change == "more":
        path.write_bytes(as_csv(ROWS) + b"new,1,1,x,1\n")
    elif change == "cut":
        os.truncate(path, 0)
    else:
        path.unlink()
        if change == "folder":
            path.mkdir()
    found = forked(jobs.ingest, project, "data/a.csv", tmp_path / "out", False, span)
    expected = "must not change while it is read" if change in ("more", "cut") else "must"
    assert (
        found.error.startswith("DataError")
        and "data/a.csv" in found.error
        and expected in found.error
    )
    assert not (tmp_path / "out" / "ingestion.json").exists()


def test_a_repeated_attempt_leaves_nothing_of_the_one_before(landed, tmp_path):
    project, _, span = landed
    left = tmp_path / "out" / "Split-train" / "data_tfrecord-00007-of-00009.gz"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    (tmp_path / "out" / "work").mkdir()
    (tmp_path / "out" / "work" / "set_aside-00000-of-00001").write_text("old\n")
    found = forked(jobs.ingest, project, "data/a.csv", tmp_path / "out", False, span)
    assert (
        len(found.examples) == 500
        and not left.exists()
        and not (tmp_path / "out" / "work").exists()
    )


def test_a_database_that_goes_away(tmp_path, postgres):
    import sqlalchemy as sa

    url = postgres.new_database()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE rides (id text, fare float, label int, day date)"))
        connection.execute(
            sa.text(
                "INSERT INTO rides SELECT 'r-' || n, n, n % 3, '2026-01-01' FROM "
                "generate_series(1, 40000) AS n"
            )
        )
    # A view that ends its own connection when the reading has come to row 30,000.
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE FUNCTION fails(n float) RETURNS float LANGUAGE plpgsql IMMUTABLE AS $$ "
                "BEGIN IF n = 30000 THEN "
                "PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN n; END $$"
            )
        )
        connection.execute(
            sa.text("CREATE VIEW failing AS SELECT id, fails(fare) AS fare, label, day FROM rides")
        )
    engine.dispose()
    project = make_project(
        tmp_path / "rides", table={"url": url, "table": "failing", "span": "day"}
    )
    (landed,) = find_table_spans(project.settings.data.table)
    span = Span(name=landed.name, version=1, uri=landed.uri, fingerprint=landed.fingerprint)
    found = forked(jobs.ingest, project, "", tmp_path / "out", False, span)
    assert found.error.startswith("DataError: postgresql") and "must be readable" in found.error
    assert (
        "terminating connection" in found.error
        and not (tmp_path / "out" / "ingestion.json").exists()
    )


def test_a_database_file_that_is_damaged(tmp_path):
    path = tmp_path / "rides.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE rides (id, fare, seats, note, label, day)")
        rows = [(*row.values(), "one") for row in ROWS * 20]
        connection.executemany("INSERT INTO rides VALUES (?, ?, ?, ?, ?, ?)", rows)
    project = make_project(
        tmp_path / "rides", table={"url": f"sqlite:///{path}", "table": "rides", "span": "day"}
    )
    (landed,) = find_table_spans(project.settings.data.table)
    span = Span(name=landed.name, version=1, uri=landed.uri, fingerprint=landed.fingerprint)
    data = bytearray(path.read_bytes())
    data[200_000:240_000] = b"\xff" * 40_000
    path.write_bytes(data)
    found = forked(jobs.ingest, project, "", tmp_path / "out", False, span)
    assert (
        found.error.startswith("DataError: sqlite")
        and not (tmp_path / "out" / "ingestion.json").exists()
    )
