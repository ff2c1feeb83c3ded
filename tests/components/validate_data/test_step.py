"""Validation: what each span is compared with, what goes on, and what is left of it."""

from __future__ import annotations

import json
import os

import pytest

from perennial.errors import DataError
from perennial.storage.digests import digest_folder
from schemas.records import Check, CheckedSpan, Span, Validation
from tests.chain import copy_project
from tests.components.validate_data.jobs import (
    Day,
    check_log,
    keys_of_window,
    validate_again,
    validate_days,
    validate_third_day,
)
from tests.components.validate_data.spans import COLUMNS, SCHEMA, make_project
from tests.forked import forked

BROKEN = {
    "checks": [
        Check(kind="expectation", subject="fare", verdict="failed", message="not so in 90 rows")
    ]
}
UNREADABLE = {
    "columns": [],
    "checks": [
        Check(
            kind="readable", subject="2.csv", verdict="failed", message="data/2.csv must hold rows"
        )
    ],
}


def by_name(found):
    return {span.span.name: span for span in found.validation.spans}


def checks_of(span, kind, verdict=None):
    return [c for c in span.checks if c.kind == kind and verdict in (None, c.verdict)]


def linked(found):
    window = found.folder / "window"
    return {path.name: sorted(p.name for p in path.iterdir()) for path in sorted(window.iterdir())}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Examples and statistics of the cases' spans, which many have in common."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def four(tmp_path_factory, made):
    """An old span, a good new one, a broken one, and a drifted one whose columns stand in another order."""
    folder = tmp_path_factory.mktemp("four")
    swapped = {"columns": ["id", "zone", "fare", "label"], "set_aside": 2}
    days = [
        Day("1", new=False),
        Day("2", {"rows": 250}),
        Day("3", {"fare": 90.0}, BROKEN),
        Day("4", {"fare": 12.0}, swapped),
    ]
    checks = {"columns": "warn", "drift": "warn"}
    return forked(validate_days, make_project(folder / "project", checks), days, folder, made)


def test_quarantined_span_stays_out_and_the_run_goes_on(four):
    assert four.validation.accepted
    assert four.validation.reasons[0] == "span 3 was refused: fare: not so in 90 rows"
    assert linked(four) == {
        n: ["Split-eval", "Split-test", "Split-train", "checked.json"] for n in "124"
    }
    assert Validation.read(four.folder / "validation") == four.validation


def test_quarantined_span_is_never_what_a_later_one_is_compared_with(four):
    (previous, window) = [
        c for c in checks_of(by_name(four)["4"], "drift", "failed") if c.subject == "fare"
    ]
    # The span before is 2 (mean 10) and not 3 (mean 90); the same goes for the window, 1 and 2.
    assert (
        "the span before" in previous.message
        and "at 250 rows" in previous.message
        and previous.distance < 0.2
    )
    assert (
        "the window" in window.message and "at 300 rows" in window.message and window.distance < 0.2
    )


def test_what_is_old_is_not_judged_again(four):
    assert not by_name(four)["1"].checks and not by_name(four)["1"].new


def test_span_without_change_passes_what_is_compared(four):
    span = by_name(four)["2"]
    assert not span.failures and not span.warnings
    compared = {c.subject: c.verdict for c in checks_of(span, "drift")}
    assert compared == {"id": "not_compared", "fare": "passed", "zone": "passed"}
    assert [c.verdict for c in checks_of(span, "label_drift")] == ["passed"]
    assert [c.message for c in checks_of(span, "skew", "not_compared")] == [
        "no serving log: project.yaml sets no data.serving_log"
    ]
    assert {c.subject for c in checks_of(span, "schema", "passed")} == {
        "id",
        "fare",
        "zone",
        "label",
    }


def test_order_of_columns_is_told(four):
    (check,) = checks_of(by_name(four)["4"], "columns", "failed")
    assert "data/4.csv must have its columns in the order of the span before" in check.message
    assert check.severity == "warn"


def test_window_shares_the_bytes_of_the_checked_spans(four):
    for name in "124":
        for split in ("train", "eval", "test"):
            part = f"Split-{split}"
            assert digest_folder(four.folder / "window" / name / part) == digest_folder(
                four.folder / "checked" / name / part
            )
    file = next((four.folder / "window" / "1" / "Split-train").iterdir())
    assert os.stat(file).st_nlink == 2


def test_statistics_are_those_of_the_good_spans(four):
    assert set(four.examples) == {"table", *COLUMNS} and set(four.examples.values()) == {
        300 + 250 + 300
    }


def test_each_new_span_has_its_pages(four):
    validation = four.folder / "validation"
    assert sorted(p.name for p in (validation / "statistics").iterdir()) == [
        "2.html",
        "3.html",
        "4.html",
    ]
    assert sorted(p.name for p in (validation / "data_docs").iterdir()) == ["2", "3", "4"]
    assert (validation / "data_docs" / "4" / "index.html").read_text() == "4"
    assert [p.name for p in (validation / "set_aside").iterdir()] == ["4.jsonl"]
    page = (validation / "statistics" / "4.html").read_text()
    assert "quartiles went from" in page and "1 to 2" in page


@pytest.fixture
def run(made):
    def validate(folder, days, checks=None, **data):
        return forked(
            validate_days, make_project(folder / "project", checks, **data), days, folder, made
        )

    return validate


def test_unreadable_span_is_said_and_leaves_no_statistics(tmp_path, run):
    found = run(tmp_path, [Day("1", new=False), Day("2", {"rows": 0}, UNREADABLE)])
    assert not found.validation.accepted and not linked(found)
    assert found.validation.reasons[0] == "span 2 was refused: data/2.csv must hold rows"
    assert [check.kind for check in by_name(found)["2"].checks] == ["readable"]
    assert not (found.folder / "validation" / "statistics").exists()


def test_readable_span_without_rows_is_compared_with_nothing(tmp_path, run):
    found = run(tmp_path, [Day("1", new=False), Day("2", {"rows": 0})], {"anomalies": "warn"})
    drift = checks_of(by_name(found)["2"], "drift") + checks_of(by_name(found)["2"], "label_drift")
    assert len(drift) == 4 and {check.verdict for check in drift} == {"not_compared"}
    assert found.validation.accepted  # on the span before


def test_stop_stops_and_a_release_goes_on(tmp_path, run):
    stops = {"columns": "stop"}
    lacking = {"columns": ["id", "fares", "zone", "label"]}
    days = [Day("1", new=False), Day("2"), Day("3", {}, lacking)]
    stopped = run(tmp_path / "stopped", days, stops)
    assert not stopped.validation.accepted and not linked(stopped)
    assert (
        "span 3" in stopped.validation.reasons[0]
        and "Did `fare` become `fares`?" in stopped.validation.reasons[0]
    )
    released = run(tmp_path / "released", [*days[:2], Day("3", {}, lacking, released=True)], stops)
    assert released.validation.accepted and list(linked(released)) == ["1", "2", "3"]
    assert by_name(released)["3"].failures and by_name(released)["3"].released


def test_anomaly_that_the_columns_explain_is_not_told_twice(tmp_path, run):
    columns = {"columns": [*COLUMNS, "tip"]}
    found = run(tmp_path, [Day("1", {"without": 1.0}, columns)], {"columns": "warn"})
    span = by_name(found)["1"]
    assert {c.subject for c in checks_of(span, "columns", "failed")} == {"tip"}
    assert "zone" in {
        c.subject for c in checks_of(span, "schema", "failed")
    }  # the column is there, without values
    lacking = {"columns": ["id", "fare", "label"]}
    found = run(tmp_path / "lacking", [Day("1", {"without": 1.0}, lacking)], {"columns": "warn"})
    assert found.validation.accepted and not checks_of(by_name(found)["1"], "schema", "failed")


def test_splits_by_time_hold_the_newest_good_span_out(tmp_path, run):
    days = [Day("1", new=False), Day("2"), Day("3", {}, BROKEN)]
    found = run(tmp_path, days, splits={"by": "time"})
    assert found.validation.accepted
    assert linked(found) == {
        "1": ["Split-eval", "Split-train", "checked.json"],
        "2": ["Split-test", "checked.json"],
    }
    files = sorted(path.name for path in (found.folder / "window" / "2" / "Split-test").iterdir())
    assert len(files) == 3 and all(name.startswith("data_tfrecord") for name in files)


def test_splits_by_time_need_a_second_span(tmp_path, run):
    with pytest.raises(DataError, match=r"needs two good spans.*Received: 1. Land another span"):
        run(tmp_path, [Day("1")], splits={"by": "time"})


def test_killed_attempt_leaves_nothing(tmp_path, made):
    project = make_project(tmp_path / "project")
    first, second = forked(validate_again, project, [Day("1"), Day("2")], tmp_path, made)
    assert first.validation == second.validation and list(linked(second)) == ["1", "2"]


# --- rows that several spans have ------------------------------------------------------------------

OLD_AND_NEW = {"again": (1, 200)}
CORRECTED = {"again": (1, 200), "dearer": 0.5}


def duplicates(found, name):
    (check,) = checks_of(by_name(found)[name], "duplicates")
    return check


def rows_of(found):
    return {name: sum(span.rows.values()) for name, span in by_name(found).items()}


def set_aside(found, name):
    path = found.folder / "validation" / "set_aside" / f"{name}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if "reasons" in line]  # the first is of the span itself


def test_a_copy_under_another_name_waits(tmp_path, run):
    days = [Day("1", new=False), Day("2"), Day("3", {"again": (1, 300)})]
    found = run(tmp_path, days)
    assert found.validation.accepted and list(linked(found)) == ["1", "2"]
    assert found.validation.reasons[0] == (
        "span 3 was refused: id: expected rows of its own; received the same rows as span 1"
    )


def test_the_same_bytes_are_told_also_of_a_span_that_has_left_the_window(tmp_path, run):
    same = Span(name="2", version=1, uri="2.csv", fingerprint="2", same_as="0")
    found = run(tmp_path, [Day("1"), Day("2", {}, {"span": same})])
    assert duplicates(found, "2").message.endswith("received the bytes of span 0")
    assert by_name(found)["2"].quarantined


def test_the_same_rows_are_told_also_of_a_span_that_has_left_the_window(tmp_path, run, made):
    first = by_name(run(tmp_path / "first", [Day("1"), Day("2")]))
    assert first["1"].rows_digest not in (None, first["2"].rows_digest)
    days = [
        Day("2", {"again": (2, 300)}, new=False),
        Day("3", {"again": (1, 300)}),
        Day("4", {"again": (1, 299)}),
    ]
    # Digests of rows that are known; of a span's own earlier version nothing is told.
    known = {first["1"].rows_digest: "1", "another": "0"}
    project, folder = make_project(tmp_path / "project"), tmp_path / "later"
    found = forked(validate_days, project, days, folder, made, known)
    assert duplicates(found, "3").message == (
        "expected rows of its own; received the same rows as span 1, which is not in the window "
        "any more"
    )
    assert by_name(found)["3"].quarantined and by_name(found)["3"].rows_digest in known
    assert list(linked(found)) == ["2", "4"] and by_name(found)["2"].rows_digest is None
    own = {first["1"].rows_digest: "3"}
    again = forked(validate_days, project, days, tmp_path / "own", made, own)
    assert list(linked(again)) == ["2", "3", "4"]


def test_old_rows_in_a_new_span_count_once(tmp_path, run):
    found = run(tmp_path, [Day("1", new=False), Day("2", OLD_AND_NEW)])
    check = duplicates(found, "2")
    assert check.verdict == "set_aside" and "200 of 300 rows" in check.message
    assert "(1: 200), 200 with the same values; the older" in check.message
    assert rows_of(found) == {"1": 300, "2": 100}
    span = by_name(found)["2"]
    assert span.set_aside == 200 and sum(span.labels.values()) in (0, 100)
    reasons = {reason for line in set_aside(found, "2") for reason in line["reasons"]}
    assert len(reasons) == 200 and any("'1-7'" in reason or "1-7," in reason for reason in reasons)
    assert all("which span 1 has too, with the same values" in reason for reason in reasons)
    keys = forked(keys_of_window, found.folder / "window")
    assert len(keys) == len(set(keys)) == 400


def test_newer_rows_replace_older_ones_by_a_setting(tmp_path, run):
    days = [Day("1", new=False), Day("2", CORRECTED)]
    found = run(tmp_path, days, duplicates="replace")
    assert duplicates(found, "2").message.endswith(
        "0 with the same values; the newer span's row counts"
    )
    assert rows_of(found) == {"1": 100, "2": 300} and found.validation.accepted
    content = CheckedSpan.read(found.folder / "window" / "1").content
    assert content != CheckedSpan.read(found.folder / "checked" / "1").content


def test_a_span_whose_rows_are_all_replaced_leaves_the_window(tmp_path, run):
    days = [Day("1", new=False), Day("2", {"again": (1, 300), "dearer": 0.5})]
    found = run(tmp_path, days, duplicates="replace")
    assert found.validation.accepted and list(linked(found)) == ["2"]


def test_where_a_key_has_other_values_a_person_chooses(tmp_path, run):
    days = [Day("1", new=False), Day("2", CORRECTED)]
    found = run(tmp_path / "set_aside", days)
    assert (
        by_name(found)["2"].quarantined and "Set data.duplicates" in duplicates(found, "2").message
    )
    found = run(tmp_path / "keep", days, duplicates="keep")
    assert duplicates(found, "2").verdict == "passed" and rows_of(found) == {"1": 300, "2": 300}
    released = [Day("1", new=False), Day("2", CORRECTED, released=True)]
    found = run(tmp_path / "released", released)
    assert found.validation.accepted and rows_of(found) == {"1": 300, "2": 100}


def test_a_copy_of_a_later_span_is_found(tmp_path, run):
    found = run(tmp_path, [Day("1", {"again": (2, 300)}), Day("2", new=False)])
    assert "same rows as span 2" in duplicates(found, "1").message


# --- spans of the future, and spans that lack what the schema asks for -------------------------------


def test_a_span_of_the_future_waits_or_goes_on_with_a_warning(tmp_path, run):
    days = [Day("2020-01-01", new=False), Day("2999-01-01")]
    found = run(tmp_path / "waits", days)
    (check,) = checks_of(by_name(found)["2999-01-01"], "future")
    assert by_name(found)["2999-01-01"].quarantined and "received 2999-01-01" in check.message
    found = run(tmp_path / "warns", days, {"future": "warn"})
    assert list(linked(found)) == ["2020-01-01", "2999-01-01"]


REQUIRED = SCHEMA.replace(
    '"zone" type: BYTES presence { ', '"zone" type: BYTES presence { min_fraction: 1 '
)


@pytest.fixture
def strict(tmp_path, made):
    def validate(*days, **checks):
        project = make_project(tmp_path / "project", checks, REQUIRED)
        return forked(validate_days, project, days, tmp_path, made)

    return validate


def test_the_window_begins_where_every_row_has_what_the_schema_asks_for(strict):
    found = strict(Day("1", {"without": 0.1}, new=False), Day("2"))
    assert found.validation.accepted and list(linked(found)) == ["2"]
    (reason,) = found.validation.reasons
    assert reason.startswith(
        "left out of the window: 1: zone: data/1.csv must have `zone` in every"
    )
    assert not by_name(found)["1"].quarantined and not by_name(found)["1"].in_window


@pytest.mark.parametrize("how", ["released", "warned"])
def test_what_cannot_be_trained_on_stays_out_whatever_a_person_says(strict, how):
    lacking = Day("2", {"without": 0.1}, released=how == "released")
    found = strict(
        Day("1", new=False), lacking, anomalies="warn" if how == "warned" else "quarantine"
    )
    assert by_name(found)["2"].quarantined and not found.validation.accepted
    assert "`zone` in every row" in found.validation.reasons[0]


@pytest.fixture
def log_checks(tmp_path, made):
    def check(log, served=None, file="1.jsonl"):
        project = make_project(tmp_path / "project", {"skew": "quarantine"}, serving_log=log)
        if served is not None:
            (project.folder / "log").mkdir()
            (project.folder / "log" / file).write_text(served)
        return forked(check_log, project, {}, tmp_path, made)

    return check


def requests(zone, rows=400):
    return "".join(
        f'{{"fare": {7 + n % 7}, "zone": "{zone if n % 4 else "b"}", "other": 1}}\n'
        for n in range(rows)
    )


def test_skew_between_a_span_and_served_requests(log_checks):
    checks = log_checks("log/{YYYY}-{MM}.jsonl", requests("a"), "2026-01.jsonl")
    found = {check.subject: check for check in checks}
    assert set(found) == {"fare", "zone"} and {check.severity for check in checks} == {"quarantine"}
    assert found["zone"].verdict == "failed" and found["zone"].kind == "skew"
    assert (
        "from 400 served requests" in found["zone"].message and "went from" in found["zone"].message
    )


@pytest.mark.parametrize(
    "served, file, why",
    [
        (None, "", "no file matches log/*"),
        ("{broken\n", "1.jsonl", "no requests in log/*"),
        ("", "1.csv", "serving log"),
        ("?", "1.what", "cannot be read"),
        ("PAR1", "1.parquet", "cannot be read: log/1.parquet must be a whole Parquet file"),
    ],
)
def test_log_that_says_nothing_is_not_passed_and_stops_no_run(log_checks, served, file, why):
    (check,) = log_checks("log/*", served, file)
    assert check.verdict == "not_compared" and why in check.message


REFUSED = {
    "wrong-range": "image.max",
    "missing-labels": "label",
    "shuffled-columns": "id",
    "truncated-file": "2026-01-03.parquet must be a whole Parquet file",
}


@pytest.fixture(scope="module")
def refused(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("refused")
    project = copy_project(chain, folder / "digits")
    return forked(validate_third_day, chain, project, list(REFUSED), folder)


def test_good_days_are_accepted(chain):
    validation = Validation.read(chain.validation)
    assert validation.accepted and validation.reasons == []
    for span in validation.spans:
        assert not span.failures and not span.warnings
        assert {check.kind for check in span.checks} >= {
            "readable",
            "columns",
            "rows",
            "schema",
            "drift",
            "skew",
        }


@pytest.mark.parametrize("kind", REFUSED)
def test_broken_day_is_refused_with_what_is_broken(refused, kind):
    verdict = refused[kind]
    assert not verdict.accepted
    assert (
        verdict.reasons[0].startswith("span 2026-01-03 was refused: ")
        and REFUSED[kind] in verdict.reasons[0]
    )


def test_wrapper_has_the_inputs_of_the_pipeline():
    from components.validate_data.component import validate_data

    names = list(validate_data.component_spec.inputs)
    assert names == ["project", "digest", "selection"]
