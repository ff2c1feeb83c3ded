"""Bad days and bad rows in the whole loop: what waits, what goes on, what a person decides.

The tests of this module follow each other.
"""

import json
import shlex
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from perennial.data.examples import split_of
from perennial.registry.versions import Registry
from tests.chain import landing
from tests.stored import kept, read_file

from .conftest import make_digits, with_a_wrong_label

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

QUICK = {"train": {"instances": 1, "epochs": 4}, "gate": {"floors": {}, "trivial": "warn"}}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A project whose models need not be good."""
    return make_digits(tmp_path_factory.mktemp("project") / "digits", **QUICK)


def test_a_bad_day_does_not_keep_the_good_ones_waiting(digits):
    digits.land("--days", "3", "--corrupt", "2=wrong-range")
    result = digits.run()
    assert (result.ended.outcome, result.exit_code) == ("promoted", 0)
    assert result.ended.window == ["2026-01-01", "2026-01-03"]
    assert any("2026-01-02" in reason and "image" in reason for reason in result.ended.reasons)
    assert _states(digits) == {
        "2026-01-01": "accepted",
        "2026-01-02": "quarantined",
        "2026-01-03": "accepted",
    }


def test_what_was_trained_on_is_what_the_registry_says(digits):
    assert Registry(digits.project).lineage("1")["spans"] == "2026-01-01@1, 2026-01-03@1"


def test_a_quarantined_day_waits(digits):
    assert digits.run().ended.outcome == "nothing_new"
    assert _states(digits)["2026-01-02"] == "quarantined"
    shown = digits.command_of("spans", "show", "2026-01-02")
    assert shown.returncode == 0 and "image" in shown.stdout and "quarantined" in shown.stdout


def test_a_person_releases_it_and_the_next_run_trains_on_it(digits):
    assert digits.command_of("spans", "release", "2026-01-02").returncode == 2, (
        "a reason must be given"
    )
    done = digits.command_of("spans", "release", "2026-01-02", "--why", "the new scanner is real")
    assert done.returncode == 0, done.stderr
    result = digits.run()
    assert result.ended.outcome in ("promoted", "kept_champion")
    assert result.ended.new_spans == ["2026-01-02"]
    assert result.ended.window == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert _states(digits)["2026-01-02"] == "accepted"
    shown = digits.command_of("spans", "show", "2026-01-02").stdout
    assert "the new scanner is real" in shown and "user " in shown and "version 2" in shown
    assert "released by a person" in (digits.folder / result.ended.report).read_text()


def test_a_few_bad_rows_are_set_aside_and_the_rest_is_trained_on(digits):
    digits.land("--days", "4")
    table = with_a_wrong_label(digits.folder / "data" / "2026-01-04.parquet")
    result = digits.run()
    assert result.ended.outcome in ("promoted", "kept_champion")
    (verdict,) = [
        e.body for e in digits.ledger.events("span_accepted") if e.body.span.name == "2026-01-04"
    ]
    assert (verdict.set_aside, verdict.rows) == (1, table.num_rows - 1)
    kept = (digits.folder / result.ended.report).parent / "set_aside" / "2026-01-04.jsonl"
    (row,) = [json.loads(line) for line in kept.read_text().splitlines()]
    assert "label" in row["reasons"][0] and "99" in row["reasons"][0] and "row 1" in row["place"]


def test_a_broken_rule_is_a_mistake_in_the_rule_and_not_in_the_data(digits):
    digits.land("--days", "5")
    with _rule(digits, "date", min_value=1767225600):  # a date in text, compared with a timestamp
        done = digits.command("run")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (message,) = done.stderr.strip().splitlines()
    assert "expectations.json: expectations[10].min_value must be a date" in message
    assert "as `date` holds text" in message and "Write a date" in message
    assert _states(digits)["2026-01-05"] == "new"


def test_after_a_correction_a_run_names_what_waits_and_the_command_that_judges_it_again(digits):
    with _rule(digits, "label", max_value=4):
        assert digits.run().ended.outcome == "data_rejected"
    assert _states(digits)["2026-01-05"] == "quarantined"
    result = digits.run()
    assert result.ended.outcome == "nothing_new"
    (waits,) = (reason for reason in result.ended.reasons if "2026-01-05" in reason)
    command = shlex.split(waits.split("`")[1].replace("…", "the rule was wrong"))
    assert command[:5] == ["perennial", "spans", "judge", "PROJECT", "2026-01-05"]
    done = digits.command_of("spans", "judge", *command[4:])
    assert done.returncode == 0, done.stderr
    ended = digits.run().ended
    assert ended.outcome in ("promoted", "kept_champion") and "2026-01-05" in ended.window


def test_a_check_that_stops_ends_the_run_with_exit_code_3(digits):
    settings = yaml.safe_load((digits.folder / "project.yaml").read_text())
    settings["checks"] = {"expectations": "stop"}
    (digits.folder / "project.yaml").write_text(yaml.safe_dump(settings))
    champion = digits.ledger.champion()
    digits.land("--days", "7", "--corrupt", "6=wrong-range")
    result = digits.run()
    assert (result.ended.outcome, result.exit_code) == ("data_rejected", 3)
    assert digits.ledger.champion() == champion
    # The good day that landed with it is still new; the bad one waits.
    states = _states(digits)
    assert (states["2026-01-06"], states["2026-01-07"]) == ("quarantined", "new")


def test_a_day_that_lies_in_a_table_is_trained_on(tmp_path):
    """Files of other formats are in the tests of ingestion, and CSV in those of the taxi loop."""
    digits = make_digits(tmp_path / "digits", **QUICK)
    rows = landing(digits.project).digits_of_day(1).to_pylist()
    _write_table(digits.folder / "digits.db", rows)
    url = f"sqlite:///{digits.folder / 'digits.db'}"
    _configure(digits, spans=None, table={"url": url, "table": "digits", "span": "landed"})
    result = digits.run()
    assert result.ended.outcome == "promoted", result.ended.reasons
    splits = Counter(split_of(row["id"], digits.project.settings.data.splits) for row in rows)
    assert _counts(digits) == splits


@contextmanager
def _rule(digits, column: str, **bounds: int) -> Iterator[None]:
    """Asks in expectations.json that a column lies between bounds, while the block runs."""
    path = digits.folder / "expectations.json"
    before = path.read_text()
    rules = json.loads(before)
    asked = {"type": "expect_column_values_to_be_between", "kwargs": {"column": column, **bounds}}
    rules["expectations"].append(asked)
    path.write_text(json.dumps(rules))
    yield
    path.write_text(before)


def _states(digits) -> dict[str, str]:
    listed = json.loads(digits.command_of("spans", "list", "--json").stdout)
    return {row["span"]: row["state"] for row in listed}


def _counts(digits) -> dict[str, int]:
    """Examples of each split of the span that was checked."""
    (result,) = kept(digits.project, "check_examples")
    return json.loads(read_file(digits.project, result, "checked", "checked.json"))["rows"]


def _configure(digits, **data) -> None:
    settings = yaml.safe_load((digits.folder / "project.yaml").read_text())
    settings["data"] = {
        key: value for key, value in {**settings["data"], **data}.items() if value is not None
    }
    (digits.folder / "project.yaml").write_text(yaml.safe_dump(settings))


def _write_table(path, rows) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE digits (landed TEXT, id TEXT, date TEXT, image TEXT, label INTEGER)"
        )
        connection.executemany(
            "INSERT INTO digits VALUES (?, ?, ?, ?, ?)",
            [
                ("2026-01-01", row["id"], row["date"], json.dumps(row["image"]), row["label"])
                for row in rows
            ],
        )
