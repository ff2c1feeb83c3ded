"""Spans that are rows of a database, on a real PostgreSQL server and on SQLite."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from perennial.errors import DataError, ProjectError
from perennial.spans.database import find_table_spans, read_table_rows, table_uri
from schemas.project import TableSettings
from tests.perennial.postgres import Postgres, find_binaries, start

ROOT = Path(__file__).parents[3]
MANY = 200_000
# Resident memory while rows go by, against the size of what goes by: 200,000 rows of 200 characters
# are 40 MB.
_GROWTH = """
import resource, sys
sys.path.insert(0, {root!r})
from perennial.spans.database import read_table_rows
from schemas.project import TableSettings
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
settings, count, before, peak = TableSettings(url={url!r}, table="big", span="day"), 0, 0.0, 0.0
for row in read_table_rows(settings, "2026-01-01"):
    count += 1
    if count == 2000:
        before = resident()
    if count % 1000 == 0:
        peak = max(peak, resident())
print(count, peak - before)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """SQLAlchemy URL of an empty database."""
    if request.param == "sqlite":
        (tmp_path / "warehouse.db").touch()
        return f"sqlite:///{tmp_path / 'warehouse.db'}"
    return request.getfixturevalue("postgres").new_database()


def _execute(url, *statements):
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def _make(url):
    _execute(
        url,
        'CREATE TABLE trips (id TEXT, day DATE, "Tip paid" INTEGER, updated INTEGER)',
        "INSERT INTO trips VALUES ('a', '2026-01-02', 1, 1), ('b', '2026-01-01', 0, 1), ('c', "
        "'2026-01-02', NULL, 3)",
    )
    return TableSettings(url=url, table="trips", span="day", version="updated")


def _fingerprints(settings):
    return {span.name: span.fingerprint for span in find_table_spans(settings)}


def test_spans_are_found_with_their_names_in_order(url):
    found = find_table_spans(_make(url))
    assert [(span.name, span.version) for span in found] == [
        ("2026-01-01", None),
        ("2026-01-02", None),
    ]
    assert len({span.fingerprint for span in found}) == 2


def test_rows_are_those_of_the_span_as_they_are(url):
    settings = _make(url)
    day = (
        datetime.date(2026, 1, 2) if "postgresql" in url else "2026-01-02"
    )  # SQLite keeps dates as text
    rows = sorted(read_table_rows(settings, "2026-01-02"), key=lambda row: row["id"])
    assert rows == [
        {"id": "a", "day": day, "Tip paid": 1, "updated": 1},
        {"id": "c", "day": day, "Tip paid": None, "updated": 3},
    ]
    assert list(read_table_rows(settings, "2026-01-03")) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE trips SET updated = 4 WHERE id = 'a'",
        "INSERT INTO trips VALUES ('d', '2026-01-02', 1, 3)",
        "DELETE FROM trips WHERE id = 'a'",
    ],
)
def test_a_span_that_is_written_again_has_another_fingerprint_and_the_others_keep_theirs(
    url, change
):
    settings = _make(url)
    before = _fingerprints(settings)
    assert _fingerprints(settings) == before
    _execute(url, change)
    after = _fingerprints(settings)
    assert (
        after["2026-01-01"] == before["2026-01-01"] and after["2026-01-02"] != before["2026-01-02"]
    )
    with pytest.raises(
        DataError, match=r"span 2026-01-02 of .*trips must be as the run selected it.*other rows"
    ):
        next(read_table_rows(settings, "2026-01-02", before["2026-01-02"]))
    assert len(list(read_table_rows(settings, "2026-01-01", before["2026-01-01"]))) == 1


def test_rows_are_those_of_one_moment(url):
    settings = _make(url)
    _execute(url, *(f"INSERT INTO trips VALUES ('x{n}', '2026-01-01', 1, 1)" for n in range(1500)))
    if "sqlite" in url:
        _execute(url, "PRAGMA journal_mode=WAL")
    rows = read_table_rows(settings, "2026-01-01", _fingerprints(settings)["2026-01-01"])
    next(rows)
    _execute(url, "UPDATE trips SET updated = 9", "DELETE FROM trips WHERE id = 'x1499'")
    assert [row["updated"] for row in rows] == [1] * 1500


def test_a_query_instead_of_a_table(url):
    _make(url)
    query = """SELECT id, CAST(updated AS TEXT) AS "Generation", '12:30 100%' AS at FROM trips -- not the tips;"""
    settings = TableSettings(url=url, query=query, span="Generation")
    assert [span.name for span in find_table_spans(settings)] == ["1", "3"]
    assert list(read_table_rows(settings, "3")) == [
        {"id": "c", "Generation": "3", "at": "12:30 100%"}
    ]


def test_casts_with_colons_stay_casts(postgres):
    url = postgres.new_database()
    _make(url)
    settings = TableSettings(
        url=url, query="SELECT day::text AS day, id FROM trips WHERE id <> ':x';", span="day"
    )
    assert [span.name for span in find_table_spans(settings)] == ["2026-01-01", "2026-01-02"]


def test_a_table_of_another_schema(postgres):
    url = postgres.new_database()
    _execute(
        url,
        "CREATE SCHEMA sales",
        'CREATE TABLE sales."Trips" (n INTEGER)',
        'INSERT INTO sales."Trips" VALUES (7)',
    )
    settings = TableSettings(url=url, table="sales.Trips", span="n")
    assert [span.name for span in find_table_spans(settings)] == ["7"]
    assert list(read_table_rows(settings, "7")) == [{"n": 7}]


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [
        ("INTEGER", "10", "10"),
        ("TEXT", "'week 3'", "week 3"),
        ("DATE", "'2026-01-02'", "2026-01-02"),
        ("TIMESTAMP", "'2026-01-02 06:00'", "2026-01-02T06:00:00"),
        ("TIMESTAMPTZ", "'2026-01-02 06:00+02'", "2026-01-02T04:00:00+00:00"),
        ("NUMERIC", "1.50", "1.50"),
    ],
)
def test_names_of_spans_by_type(postgres, kind, value, name):
    url = postgres.new_database()
    _execute(url, f"CREATE TABLE t (s {kind})", f"INSERT INTO t VALUES ({value})")
    settings = TableSettings(url=url, table="t", span="s")
    assert [span.name for span in find_table_spans(settings)] == [name]
    assert len(list(read_table_rows(settings, name))) == 1


def test_rows_without_a_span_are_refused(url):
    settings = _make(url)
    _execute(url, "INSERT INTO trips VALUES ('d', NULL, 1, 1), ('e', NULL, 1, 1)")
    with pytest.raises(
        DataError, match=r"trips: column day must name the span of every row.*2 rows without one"
    ):
        find_table_spans(settings)


def test_a_name_that_is_no_folder_is_refused(url):
    _execute(url, "CREATE TABLE t (s TEXT)", "INSERT INTO t VALUES ('../up')")
    with pytest.raises(DataError, match="without a slash"):
        find_table_spans(TableSettings(url=url, table="t", span="s"))


def test_columns_of_one_name_are_refused(postgres):
    url = postgres.new_database()
    _make(url)
    settings = TableSettings(
        url=url, query="SELECT id, day, updated AS n, 2 AS n FROM trips", span="day"
    )
    with pytest.raises(DataError, match="n twice"):
        next(read_table_rows(settings, "2026-01-01"))


@pytest.mark.parametrize("changes", [{"table": "none"}, {"span": "nope"}, {"version": "nope"}])
def test_what_the_database_does_not_know_is_named(url, changes):
    _make(url)
    values = {"url": url, "table": "trips", "span": "day", **changes}
    with pytest.raises(DataError) as told:
        find_table_spans(TableSettings(**values))
    (wrong,) = changes.values()
    assert wrong in str(told.value).partition("Received")[2] and told.value.exit_code == 3


def test_the_password_is_shown_nowhere():
    settings = TableSettings(
        url="postgresql+psycopg://me:secret@127.0.0.1:9/db?password=secret",
        table="trips",
        span="day",
    )
    assert table_uri(settings) == "postgresql+psycopg://me@127.0.0.1:9/db#trips"
    with pytest.raises(
        DataError, match=r"127\.0\.0\.1:9/db#trips must be readable.*Check that the database runs"
    ) as told:
        find_table_spans(settings)
    assert "secret" not in str(told.value)


def test_a_database_file_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        find_table_spans(
            TableSettings(url=f"sqlite:///{tmp_path / 'none.db'}", table="t", span="s")
        )
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    "wrong", ["no url", "sqlite:///relative.db", "nosuchdb://host/db", "mysql+mysqldb://host/db"]
)
def test_a_url_that_cannot_work_is_a_mistake_of_the_project(wrong):
    with pytest.raises(ProjectError, match=r"project\.yaml: data\.table\.url"):
        find_table_spans(TableSettings(url=wrong, table="t", span="s"))


def test_a_span_of_any_size_goes_by_in_little_memory(postgres):
    url = postgres.new_database()
    rows = f"SELECT n, DATE '2026-01-01', repeat('x', 200) FROM generate_series(1, {MANY}) AS n"
    _execute(url, "CREATE TABLE big (n INTEGER, day DATE, body TEXT)", f"INSERT INTO big {rows}")
    program = _GROWTH.format(root=str(ROOT), url=url)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    count, growth = done.stdout.split()
    assert int(count) == MANY and float(growth) < 8, f"{growth} MB"


def test_a_server_that_goes_away_while_it_is_read():
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's programs are not installed: sudo sh tools/system-packages.sh")
    server = Postgres(start(binaries))
    url = server.new_database()
    rows = "SELECT n, repeat('x', 1000) FROM generate_series(1, 50000) AS n"
    _execute(
        url,
        "CREATE TABLE big (n INTEGER, body TEXT)",
        f"INSERT INTO big SELECT 1, body FROM ({rows}) AS r(n, body)",
    )
    reading = read_table_rows(TableSettings(url=url, table="big", span="n"), "1")
    next(reading)
    server.crash()
    with pytest.raises(
        DataError, match=r"#big must be readable.*Check that the database runs"
    ) as told:
        list(reading)
    assert told.value.exit_code == 3 and "127.0.0.1" in told.value.where
