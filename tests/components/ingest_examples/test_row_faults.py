"""Rows that are no examples are set aside, each with its place and its reasons.

The others arrive.
"""

from __future__ import annotations

import datetime
import decimal
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.components.ingest_examples import jobs
from tests.components.ingest_examples.jobs import COLUMNS, as_csv, as_jsonl, make_project
from tests.forked import forked

GOOD = {"id": "good", "fare": 1.5, "seats": 2, "note": "fine", "label": 1}
MB = 1_000_000

# What a row differs in from a good one -> its reason, the cause before "Received". None: it is an
# example.
CELLS = {
    "text-fare": (
        {"fare": "twelve"},
        "`fare` must be a number. Received: 'twelve'",
    ),
    "huge-fare": (
        {"fare": "1e300"},
        "`fare` must be a number from -3.4e38 to 3.4e38. Received: '1e300'",
    ),
    "underscore": (
        {"fare": "1_000"},
        "`fare` must be a number. Received: '1_000'",
    ),
    "half-seat": ({"seats": "2.5"}, "`seats` must be a whole number. Received: '2.5'"),
    "many-seats": (
        {"seats": 2**63},
        f"`seats` must be a whole number from {-(2**63)} to {2**63 - 1}. Received: '{2**63}'",
    ),
    "": ({"id": ""}, "`id` (data.key) must be set. Received: nothing"),
    "no-label": ({"label": ""}, "`label` (label) must be set. Received: nothing"),
    "nan-label": ({"label": "NaN"}, "`label` must be a whole number. Received: 'NaN'"),
    "unknown-label": ({"label": 7}, "`label` (label) must be from 0 to 3. Received: 7"),
    "low-label": ({"label": -1}, "`label` (label) must be from 0 to 3. Received: -1"),
    "long-text": (
        {"fare": "x" * 500},
        f"`fare` must be a number. Received: '{'x' * 39}…",
    ),
    "large-note": ({"note": "n" * (MB + MB // 2)}, "`note` must be at most 1 MB. Received: 1.5 MB"),
    "very-large-note": (
        {"note": "n" * 6 * MB},
        "the line must be at most 4.0 MB. Received: 6.0 MB",
    ),
    "whole-float": ({"seats": "3.0"}, None),
    "missing": ({"fare": "", "seats": "", "note": ""}, None),
    "nan-fare": ({"fare": "nan"}, None),
    "infinite": ({"fare": "-inf"}, None),
    "two-lines": ({"note": "one\ntwo"}, None),
    "path": ({"path": "[1, 2.5]"}, None),
    "broken-path": (
        {"path": "[1, null]"},
        "`path` must be a number. Received: '[1, null]'",
    ),
}


def _lines():
    """The file, and the place of each row."""
    text, places = as_csv([], [*COLUMNS, "path"]), {}
    for name, (changes, _) in CELLS.items():
        places[name] = f"line {len(text.splitlines()) + 1}"
        text += as_csv([{**GOOD, "id": name, **changes}], [*COLUMNS, "path"]).split(b"\n", 1)[1]
    for raw in (
        b"few,1\n",
        b"more,1,2,x,1,,9,8\n",
        b"latin,1,2,\xe9t\xe9,1,\n",
        b'open,1,2,"a,1,\n',
        b'shut,1,2,"a"b,1,\n',
    ):
        places[raw.split(b",")[0].decode()] = f"line {len(text.splitlines()) + 1}"
        text += raw
    return text + as_csv([{**GOOD, "id": "last"}], [*COLUMNS, "path"]).split(b"\n", 1)[1], places


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def found(folder):
    project = make_project(folder / "rides", max_value_mb=1)
    (project.folder / "data").mkdir()
    (project.folder / "data" / "a.csv").write_bytes(_lines()[0])
    return forked(jobs.ingest, project, "data/a.csv", folder / "out")


@pytest.mark.parametrize("name", CELLS)
def test_cells_of_csv(found, name):
    expected, place = CELLS[name][1], _lines()[1][name]
    if expected is None:
        assert name in found.examples and place not in found.reasons
    else:
        assert name not in found.examples and found.reasons[place][0].startswith(expected)
        assert len(found.reasons[place]) == 1 and len(found.reasons[place][0]) < 150


@pytest.mark.parametrize("label", ["inf", "-inf"])
def test_a_label_that_is_infinite_is_set_aside_as_nan_is(tmp_path, label):
    project = make_project(tmp_path / "rides", label="fare")
    (project.folder / "data").mkdir()
    rows = [{**GOOD, "id": "good"}, {**GOOD, "id": "bad", "fare": label}]
    (project.folder / "data" / "a.csv").write_bytes(as_csv(rows, COLUMNS))
    found = forked(jobs.ingest, project, "data/a.csv", tmp_path / "out")
    assert list(found.examples) == ["good"]
    assert found.reasons["line 3"] == [f"`fare` (label) must be a finite number. Received: {label}"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("few", "the row must have 6 cells, as the header has. Received: 2"),
        ("more", "the row must have 6 cells, as the header has. Received: 8"),
        ("latin", "the line must be text in UTF-8. Received: b'latin,1,2,"),
        ("open", "the row must be CSV with every quote closed"),
        ("shut", "the row must be CSV with every quote closed"),
    ],
)
def test_lines_of_csv(found, row, expected):
    assert found.reasons[_lines()[1][row]][0].startswith(expected)


def test_the_rest_arrives_and_all_is_counted(found):
    good = [name for name, (_, reason) in CELLS.items() if reason is None]
    assert sorted(found.examples) == sorted([*good, "last"])
    assert found.examples["missing"] == {"id": b"missing", "label": 1}
    assert (
        found.examples["path"]["path"] == [1.0, 2.5]
        and found.examples["two-lines"]["note"] == b"one\ntwo"
    )
    record = found.record
    assert (
        record.problem is None
        and sum(record.rows.values()) == sum(record.labels.values()) == len(good) + 1
    )
    assert (
        record.set_aside
        == len(found.set_aside)
        == len(CELLS) - len(good) + 5
        == sum(record.causes.values())
    )
    long = f"'{'x' * 39}…"
    assert record.causes[f"`fare` must be a number, not 'twelve', '1_000', {long}"] == 3


def test_a_row_set_aside_tells_what_it_held(found):
    row = next(row for row in found.set_aside if row.values.get("id") == "text-fare")
    assert row.span == "s" and row.place == f"data/a.csv: {_lines()[1]['text-fare']}"
    assert row.values == {
        "id": "text-fare",
        "fare": "twelve",
        "seats": "2",
        "note": "fine",
        "label": "1",
    }
    assert all(len(json.dumps(row.values)) < 1000 for row in found.set_aside)


JSON = [
    (
        as_jsonl([{**GOOD, "fare": "1.5", "more": {"a": 1}}]),
        "`more` must be a number, text, a date, or a list",
    ),
    (
        as_jsonl([{**GOOD, "fare": [1, None]}]),
        "`fare` must be a number. Received: None",
    ),
    (as_jsonl([{**GOOD, "note": 1.0}]), "`note` must be text. Received: 1.0"),
    (
        b'{"id": "twice", "fare": 1, "fare": 2, "label": 1}\n',
        "the line must have each key once. Received: 'fare' twice",
    ),
    (
        as_jsonl([{**GOOD, "id": ["a", "b"]}]),
        "`id` (data.key) must be one value. Received: 2 values",
    ),
    (as_jsonl([{**GOOD, "label": None}]), "`label` (label) must be set. Received: nothing"),
    (
        as_jsonl([{**GOOD, "label": float("nan")}]),
        "`label` must be a whole number. Received: nan",
    ),
    (b'{"id": "cut", "fare": 1\n', 'the line must be JSON. Received: \'{"id": "cut"'),
    (b'["a", "list"]\n', "the line must be a JSON object. Received: ['a', 'list']"),
    (
        b'{"id": "x", "": 1}\n',
        "every name must be text that UTF-8 can hold, and not empty. Received: ''",
    ),
    (b'{"id": "x", "\\ud800": 1}\n', "every name must be text that UTF-8 can hold"),
    (b'{"id": "\\ud800", "label": 1}\n', "`id` must be text in UTF-8"),
    (b"[" * 100_000 + b"\n", "the line must be JSON"),
    (
        b'{"id": "\xff", "label": 1}\n',
        'the line must be text in UTF-8. Received: b\'{"id": "\\xff"',
    ),
    (b"\n", None),
    (as_jsonl([{**GOOD, "seats": True, "unknown": 1}]), None),
    (as_jsonl([{**GOOD, "id": "other", "seats": 2.0, "unknown": "text"}]), None),
]


@pytest.fixture(scope="module")
def found_json(folder):
    project = make_project(folder / "json")
    (project.folder / "data").mkdir()
    (project.folder / "data" / "a.jsonl").write_bytes(b"".join(line for line, _ in JSON))
    return forked(jobs.ingest, project, "data/a.jsonl", folder / "json-out")


def test_lines_of_json(found_json):
    for number, (_, expected) in enumerate(JSON, start=1):
        reasons = found_json.reasons.get(f"line {number}")
        assert reasons is None if expected is None else reasons[0].startswith(expected), (
            number,
            reasons,
        )


def test_a_column_outside_the_schema_has_one_kind_whatever_its_values(found_json):
    assert (
        found_json.examples["good"]["seats"] == 1 and found_json.examples["good"]["unknown"] == b"1"
    )
    assert (
        found_json.examples["other"]["seats"] == 2
        and found_json.examples["other"]["unknown"] == b"text"
    )
    assert found_json.record.columns == [*COLUMNS, "more", "unknown"]


def test_kinds_that_databases_and_parquet_have(folder):
    project = make_project(folder / "kinds")
    (project.folder / "data").mkdir()
    row = {
        "id": "a", "fare": decimal.Decimal("12.50"), "seats": decimal.Decimal("3"), "note": datetime.date(2026, 1, 2),
        "path": [1, 2], "label": True, "flag": False, "when": datetime.datetime(2026, 1, 2, 3, 4), "raw": b"\xff\x00",
    }  # fmt: skip
    struct = pa.array([{"a": 1}, None], pa.struct([("a", pa.int64())]))
    table = pa.Table.from_pylist([{**row, "id": "b"}, row]).append_column("deep", struct)
    pq.write_table(table, project.folder / "data" / "a.parquet")
    found = forked(jobs.ingest, project, "data/a.parquet", folder / "kinds-out")
    assert found.examples["a"] == {
        "id": b"a", "fare": 12.5, "seats": 3, "note": b"2026-01-02", "path": [1.0, 2.0], "label": 1, "flag": 0,
        "when": b"2026-01-02T03:04:00", "raw": b"\xff\x00",
    }  # fmt: skip
    assert found.reasons["row 1"][0].startswith(
        "`deep` must be a number, text, a date, or a list of one of them"
    )


def test_duplicate_keys(folder):
    project = make_project(folder / "keys")
    data = project.folder / "data"
    data.mkdir()
    rows = {name: [{**GOOD, "id": name}] for name in ("once", "same", "other", "three")}
    changed = [{**GOOD, "id": "other", "fare": 2.5}]
    spoilt = [{**GOOD, "id": "once", "fare": "x"}]
    (data / "1.csv").write_bytes(
        as_csv(rows["same"] + rows["once"] + rows["other"] + rows["same"] + rows["three"])
    )
    (data / "2.csv").write_bytes(as_csv(changed + rows["same"] + rows["three"] + spoilt))
    found = forked(jobs.ingest, project, "data/*.csv", folder / "keys-out")
    assert sorted(found.examples) == ["once", "same", "three"]
    told = {row.place: row.reasons for row in found.set_aside}
    unique = "`id` (data.key) must be unique in a span. Received:"
    same = [f"{unique} 'same' in 3 rows that are the same, the first at data/1.csv: line 2"]
    three = [f"{unique} 'three' in 2 rows that are the same, the first at data/1.csv: line 6"]
    other = [f"{unique} 'other' in 2 rows that differ, the first at data/1.csv: line 4"]
    assert told.pop("data/2.csv: line 5")[0].startswith("`fare` must be a number")
    assert told == {
        "data/1.csv: line 5": same, "data/2.csv: line 3": same, "data/2.csv: line 4": three,
        "data/1.csv: line 4": other, "data/2.csv: line 2": other,
    }  # fmt: skip
    assert found.record.causes == {
        f"{unique[:-11]}": 5,
        "`fare` must be a number, not 'x'": 1,
    }


def test_fifty_megabytes_in_one_cell(folder):
    project = make_project(folder / "large")
    (project.folder / "data").mkdir()
    rows = [
        {**GOOD, "id": "before"},
        {**GOOD, "id": "large", "note": "n" * 50 * MB},
        {**GOOD, "id": "after"},
    ]
    (project.folder / "data" / "a.csv").write_bytes(as_csv(rows))
    (project.folder / "data" / "a.jsonl").write_bytes(as_jsonl(rows))
    found = forked(jobs.ingest_files, project, ["data/a.csv", "data/a.jsonl"], folder / "large-out")
    for ingested in found.values():
        assert sorted(ingested.examples) == ["after", "before"]
        (row,) = ingested.set_aside
        assert (
            row.reasons == ["`note` must be at most 16 MB. Received: 50.0 MB"]
            and row.values["id"] == "large"
        )
        assert len(row.values["note"]) < 300


def test_without_a_schema_the_values_tell_what_they_are(folder):
    project = make_project(folder / "infer", schema=None)
    (project.folder / "data").mkdir()
    text = 'id,seats,fare,zip,note,path,label,empty\na,1,1,012,5,[1],0,\nb,2,2.5,123,x,"[1, 2]",1,\nc,,nan,3,[x],,2,\n'
    (project.folder / "data" / "a.csv").write_text(text)
    found = forked(jobs.ingest, project, "data/a.csv", folder / "infer-out", True)
    assert found.examples == {
        "a": {
            "id": b"a",
            "seats": 1,
            "fare": 1.0,
            "zip": b"012",
            "note": b"5",
            "path": 1,
            "label": 0,
        },
        "b": {
            "id": b"b",
            "seats": 2,
            "fare": 2.5,
            "zip": b"123",
            "note": b"x",
            "path": [1, 2],
            "label": 1,
        },
        "c": {
            "id": b"c",
            "fare": pytest.approx(float("nan"), nan_ok=True),
            "zip": b"3",
            "note": b"[x]",
            "label": 2,
        },
    }
    assert found.record.columns == text.split("\n")[0].split(",") and not found.set_aside


def test_splits_by_time_leave_the_test_split_to_a_whole_span(folder):
    splits = {"by": "time", "train": 0.6, "eval": 0.2, "test": 0.2}
    project = make_project(folder / "time", splits=splits)
    (project.folder / "data").mkdir()
    (project.folder / "data" / "a.csv").write_bytes(
        as_csv([{**GOOD, "id": f"r-{n}"} for n in range(400)])
    )
    found = forked(jobs.ingest, project, "data/a.csv", folder / "time-out")
    assert found.record.rows == {
        "train": len(found.splits["train"]),
        "eval": 400 - len(found.splits["train"]),
        "test": 0,
    }
    assert found.record.rows["train"] / 400 == pytest.approx(0.75, abs=0.1)
    assert not (folder / "time-out" / "Split-test").exists()
