"""`perennial schema`.

From what has landed to a schema, and from a span that does not fit to a reviewed change.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from perennial.ledger.events import Ledger, NewEvent
from perennial.project import load_project
from perennial.schema.environments import serving_features
from perennial.schema.proposal import read_proposal
from perennial.spans.landed import find_landed
from perennial.spans.window import number_versions
from schemas.records import SpanJudged
from tests.chain import land
from tests.forked import forked
from tests.perennial.folders import TAXI, make_project
from tests.perennial.schema.jobs import run_cli

INFER, SHOW, DIFF = ["schema", "infer"], ["schema", "show"], ["schema", "diff"]
ACCEPT = ["schema", "accept", "--why", "the new scanner is real"]
DAYS = [f"2026-01-0{day}" for day in (1, 2, 3)]


def add_columns(path, **columns):
    """Adds columns to a landed file; each repeats its values."""
    rows = pq.read_table(path)
    for name, values in columns.items():
        rows = rows.append_column(
            name, pa.array([values[row % len(values)] for row in range(len(rows))])
        )
    pq.write_table(rows, path)


def land_days(folder):
    """The digits project without a schema; on the third day a scanner is new, and a column."""
    project = make_project(folder)
    for day, scanners in ((1, ["A", "B"]), (2, ["B", "A"]), (3, ["A", "A", "C", "B"])):
        path = Path(land(project, day).uri)
        add_columns(path, scanner=scanners, **({"pressure": [1.5, None, 2.5]} if day == 3 else {}))
    (folder / "schema.pbtxt").unlink()
    return project


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """Gives the folder that a round trip left, and the exit code and output of each command."""
    folder = tmp_path_factory.mktemp("round") / "digits"
    land_days(folder)
    answers = forked(
        run_cli,
        str(folder),
        DIFF,
        [*INFER, "--span", DAYS[0], "--span", DAYS[1]],
        ["validate"],
        INFER,
        SHOW,
        [*DIFF, DAYS[1]],
        [*DIFF, "--text"],
        ["schema", "accept", "--why", " "],
        ACCEPT,
        DIFF,
        ACCEPT,
        ["validate"],
    )
    names = ["none", "infer", "validate", "again", "show", "fits", "differs"]
    names += ["silent", "accept", "after", "twice", "still"]
    return folder, dict(zip(names, answers, strict=True))


def test_without_a_schema_infer_is_named(steps):
    code, output = steps[1]["none"]
    assert code == 2 and "must exist" in output and "perennial schema infer" in output


def test_infer_writes_a_schema_that_validates(steps):
    code, output = steps[1]["infer"]
    assert code == 0 and "schema.pbtxt from 300 rows" in output
    code, output = steps[1]["validate"]
    assert code == 0 and "served features    date, image, scanner" in output
    assert "served" in steps[1]["still"][1] and steps[1]["still"][0] == 0


def test_label_and_key_are_absent_in_serving(steps):
    schema = load_project(steps[0]).schema
    assert [feature.name for feature in schema.feature] == [
        "id",
        "date",
        "image",
        "label",
        "scanner",
        "pressure",
    ]
    assert serving_features(schema) == ["date", "image", "scanner"]


def test_infer_never_overwrites(steps):
    code, output = steps[1]["again"]
    assert code == 2 and "must not exist yet" in output and "`perennial schema accept`" in output
    assert '+  name: "pressure"' in output  # what all days would give


def test_show_fits_sixty_columns(steps):
    code, output = steps[1]["show"]
    lines = output.splitlines()
    assert code == 0 and max(map(len, lines)) <= 60
    assert (
        lines[lines.index("image  FLOAT") + 1].strip() == "always; a list of 64; training, serving"
    )
    assert (
        lines[lines.index("label  INT") + 1].strip()
        == "always; one value; 0 to 9, category; training"
    )


def test_a_span_that_fits_needs_no_change(steps):
    code, output = steps[1]["fits"]
    assert (
        code == 0
        and output.splitlines()[-1] == f"span {DAYS[1]} is as schema.pbtxt says: no change needed"
    )


def test_diff_tells_exactly_what_changed(steps):
    code, output = steps[1]["differs"]
    lines = [line.strip() for line in output.splitlines() if line.startswith("  `")]
    assert code == 0 and lines == [
        "`pressure`: new feature FLOAT, at most one value, in 67% of examples; not asked of "
        "clients",
        "`scanner`: values +1: C",
    ]
    added = [line for line in output.splitlines() if re.match(r"\+ |\+feature|\+}", line)]
    assert '+  value: "C"' in added and '+  name: "pressure"' in added


def test_accept_records_who_why_and_what_and_names_the_next_command(steps):
    folder, answers = steps
    code, output = answers["accept"]
    assert code == 0 and "next: `perennial run" in output
    project = load_project(folder)
    (event,) = Ledger(project.ledger_url).events("schema_accepted")
    assert event.body.why == "the new scanner is real" and event.body.by.startswith("user ")
    assert len(event.body.changes) == 2 and event.body.after == project.schema_digest()


def test_after_it_nothing_is_left_to_accept(steps):
    assert steps[1]["after"][0] == 0 and "no change needed" in steps[1]["after"][1]
    code, output = steps[1]["twice"]
    assert code == 2 and "must hold a proposal to accept" in output


def test_a_reason_is_asked_for(steps):
    assert steps[1]["silent"][0] == 2 and "must say why" in steps[1]["silent"][1]


def test_nothing_of_the_measuring_stays(steps):
    left = {path.name for path in (steps[0] / ".perennial").iterdir()}
    assert not [name for name in left if name.startswith(".schema-")]
    assert read_proposal(load_project(steps[0])) is None


# --- what cannot be done ------------------------------------------------------------------------------


def provoke_faults(folder):
    """Gives what the commands print where nothing, or nothing readable, has landed."""
    project = make_project(folder)
    schema = (folder / "schema.pbtxt").read_text()
    answers = {"nothing": run_cli(str(folder), DIFF)[0]}
    for day in (1, 2):
        land(project, day)
    (newest,) = number_versions(find_landed(project), {})[-1:]
    answers["unknown"] = run_cli(str(folder), [*DIFF, "2026-01-1"])[0]
    first = folder / "data" / f"{DAYS[0]}.parquet"
    os.truncate(first, 1000)
    (broken,) = number_versions(find_landed(project), {})[:1]
    judged = SpanJudged(span=broken, rows=0, reasons=["truncated"], readable=False)
    Ledger(project.ledger_url).append(NewEvent("span_quarantined", judged, "run-1", "one"))
    answers["unreadable"] = run_cli(str(folder), DIFF)[0]
    (folder / "schema.pbtxt").write_text("feature { nme: 1 }")
    answers["schema"], answers["shown"] = run_cli(str(folder), [*DIFF, newest.name], SHOW)
    (folder / "schema.pbtxt").unlink()
    answers["inferred"] = run_cli(str(folder), INFER)[0]
    answers["written"] = ((folder / "schema.pbtxt").exists(), "")
    (folder / "schema.pbtxt").write_text(schema)
    return answers


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    return forked(provoke_faults, tmp_path_factory.mktemp("faults") / "digits")


@pytest.mark.parametrize(
    ("case", "code", "message"),
    [
        ("nothing", 3, r"data\.spans must hold a span that landed.*none at data/"),
        ("unknown", 3, r"span 2026-01-1 must have landed.*Did you mean 2026-01-01"),
        (
            "unreadable",
            3,
            r"span 2026-01-01 must be readable\. Received: .*2026-01-01\.parquet must be",
        ),  # quarantined
        ("schema", 2, r"schema\.pbtxt must be a schema in protobuf text format.*1:11"),
        ("shown", 2, r"schema\.pbtxt must be a schema in protobuf text format"),
        ("inferred", 3, r"span 2026-01-01 must be readable"),
        ("written", False, ""),
    ],
)
def test_faults_are_reported(faults, case, code, message):
    assert faults[case][0] == code
    assert re.search(message, faults[case][1], re.DOTALL), faults[case][1]


def test_spans_of_a_table_that_disagree_name_the_odd_value_and_its_row(tmp_path):
    project = make_project(tmp_path / "irises")
    database = project.folder / "irises.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE irises (day TEXT, id TEXT, width, label INTEGER)")
        rows = [
            (DAYS[number // 150], f"iris-{number}", 2 + number / 100, number % 3)
            for number in range(300)
        ]
        rows[17] = (DAYS[0], "iris-17", "n/a", 2)
        connection.executemany("INSERT INTO irises VALUES (?, ?, ?, ?)", rows)
    settings = yaml.safe_load((project.folder / "project.yaml").read_text())
    table = {"url": f"sqlite:///{database}", "table": "irises", "span": "day"}
    settings["data"] = {"table": table, "key": "id"}
    (project.folder / "project.yaml").write_text(yaml.safe_dump(settings))
    (project.folder / "schema.pbtxt").unlink()
    ((code, output),) = forked(run_cli, str(project.folder), INFER)
    assert code == 3
    assert (
        "column `width` must hold numbers in every span, or text in every span. Received: numbers "
        f"in span {DAYS[1]}, and text in 1 of 150 values of span {DAYS[0]}, the first at "
    ) in output
    assert "row 18: 'n/a'" in output


# --- text, where types are not in the file ------------------------------------------------------------


def land_taxi(folder):
    """Taxi trips as CSV.

    Two days of the three most frequent companies, a third with a new one and other types.
    """
    with TAXI.open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = (
        "Taxi Affiliation Services",
        "Dispatch Taxi Affiliation",
        "Blue Ribbon Taxi Association Inc.",
    )
    rows = [row for row in rows if row["company"] in known and row["trip_seconds"]][:1500]
    for number, row in enumerate(rows):
        row |= {
            "id": f"trip-{number:05d}",
            "big_tip": int(float(row.pop("tips")) > 0.2 * float(row["fare"])),
        }
    for number, row in enumerate(rows[1000:]):
        row |= {"surge": 1 + number % 7 / 10, "trip_seconds": f"{row['trip_seconds']}.5"}
        row |= {"company": "Zebra Cabs"} if number % 20 == 0 else {}
    (folder / "data").mkdir(parents=True)
    for day, part in zip(DAYS, (rows[:500], rows[500:1000], rows[1000:]), strict=True):
        with (folder / "data" / f"{day}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(part[0]))
            writer.writeheader()
            writer.writerows(part)
    settings = 'name: taxi\nlabel: big_tip\ndata: {spans: "data/{YYYY}-{MM}-{DD}.csv", key: id}\n'
    (folder / "project.yaml").write_text(settings)
    (folder / "model.py").write_text(
        "def preprocessing_fn(inputs):\n    return {'fare': inputs['fare']}\n"
        "def build_model(features):\n    return None\n"
    )
    rule = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}}
    (folder / "expectations.json").write_text(json.dumps({"name": "taxi", "expectations": [rule]}))


@pytest.mark.skipif(not TAXI.exists(), reason="the taxi trips are not beside the repository")
def test_infer_says_what_it_doubts(tmp_path):
    """One word among numbers, separators, codes, long numbers, labels from 1; the rest is plain."""
    project = make_project(tmp_path / "digits")
    (project.folder / "schema.pbtxt").unlink()
    settings = yaml.safe_load((project.folder / "project.yaml").read_text())
    settings["data"] |= {"spans": "data/{SPAN}.csv", "key": "id"}
    settings["label"] = "label"
    (project.folder / "project.yaml").write_text(yaml.safe_dump(settings))
    (project.folder / "data").mkdir(exist_ok=True)
    rows = [
        {
            "id": f"r{n}",
            "fare": "n/a" if n == 7 else n / 2,
            "price": f"1,{n:03}",
            "code": f"{n:04}",
            "long": 2**63 + n,
            "town": "a, b" if n % 2 else "c",
            "street": "Main\nStreet" if n % 2 else "Oak",
            "flag": n % 2 == 0,
            "label": n % 3 + 1,
        }
        for n in range(300)
    ]
    with (project.folder / "data" / "2026-01-01.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    ((code, output),) = forked(run_cli, str(project.folder), INFER)
    assert code == 0, output
    doubts = [line.split(" ", 1)[1] for line in output.splitlines() if line.startswith("doubt: ")]
    numbers, price, written, long, label, breaks = doubts
    assert numbers.startswith("`fare`: 299 of 300 values are numbers; the other is `n/a`, so")
    assert '`data.missing: ["n/a"]`' in numbers
    assert price.startswith(
        "`price`: 300 of 300 values are numbers with separators, such as `1,000`"
    )
    assert written.startswith(
        "`code`: 300 of 300 values would not survive as numbers, such as `0000`"
    )
    assert long.startswith("`long`: 300 of 300 values would not survive as numbers")
    assert label.startswith("`label`: 3 classes, 1 to 3, and classes count from 0")
    assert breaks.startswith(
        "`street`: a vocabulary of TensorFlow Transform leaves out values with"
    )
    assert "`Main\\nStreet`" in breaks
    types = {f.name: f.type for f in load_project(project.folder).schema.feature}
    assert (types["fare"], types["price"], types["code"], types["long"]) == (1,) * 4  # BYTES
    assert types["flag"] == types["label"] == 2  # INT
    assert '"a, b", c' in output or 'c, "a, b"' in output
    settings["data"]["missing"] = ["n/a"]
    (project.folder / "project.yaml").write_text(yaml.safe_dump(settings))
    (project.folder / "schema.pbtxt").unlink()
    ((code, output),) = forked(run_cli, str(project.folder), INFER)
    types = {f.name: f.type for f in load_project(project.folder).schema.feature}
    assert code == 0 and types["fare"] == 3 and "n/a" not in output  # FLOAT


def test_semicolons_and_decimal_commas(tmp_path):
    """The delimiter is named before it is set; then numbers with decimal commas are, too."""
    (tmp_path / "data").mkdir()
    lines = [f"r{n};{n // 2},{n % 10};{n},250;1.{n:03},5;{n % 2}" for n in range(100, 300)]
    text = "\n".join(["id;price;weight;total;label", *lines, ""])
    (tmp_path / "data" / "2026-01-01.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    settings = "name: shop\nlabel: label\ndata: {spans: 'data/{YYYY}-{MM}-{DD}.csv', key: id}\n"
    (tmp_path / "project.yaml").write_text(settings)
    ((code, output),) = forked(run_cli, str(tmp_path), INFER)
    assert code == 3 and "must have commas between its cells. Received: semicolons" in output
    assert 'Set data.delimiter: ";" in project.yaml' in output
    (tmp_path / "project.yaml").write_text(settings.replace("key: id", 'key: id, delimiter: ";"'))
    ((code, output),) = forked(run_cli, str(tmp_path), INFER)
    assert code == 0, output
    doubts = [line.split(" ", 1)[1] for line in output.splitlines() if line.startswith("doubt: ")]
    price, weight, total = doubts
    decimal = "200 of 200 values are numbers with a decimal comma, such as"
    assert price.startswith(f"`price`: {decimal} `50,0`") and price.endswith(
        "land it with a point, as 1.5, and without separators of thousands"
    )
    assert total.startswith(f"`total`: {decimal} `1.100,5`")
    # It may be a thousand, too.
    assert weight.startswith("`weight`: 200 of 200 values are numbers with separators")


def test_round_trip_of_text(tmp_path):
    land_taxi(tmp_path)
    days = ["--span", DAYS[0], "--span", DAYS[1]]
    answers = forked(
        run_cli, str(tmp_path), [*INFER, *days], ["validate"], DIFF, ACCEPT, DIFF, ["validate"]
    )
    assert [code for code, _ in answers] == [0] * 6, answers
    lines = [line.strip() for line in answers[2][1].splitlines() if line.startswith("  `")]
    assert lines == [
        "`trip_seconds`: type INT -> FLOAT",
        "`surge`: new feature FLOAT, at most one value, in 100% of examples; not asked of clients",
        "`company`: values +1: Zebra Cabs",
    ]
    assert "no change needed" in answers[4][1]
