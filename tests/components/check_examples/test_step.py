"""Checking a span.

What breaks a rule is set aside whole or not at all, and what is published is what was judged.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil

import pandas as pd
import pytest

from perennial.errors import ProjectError
from perennial.project import load_project
from perennial.storage.digests import digest_folder
from schemas.records import CheckedSpan, SetAside, Span
from tests.components.check_examples import jobs
from tests.forked import forked
from tests.perennial.folders import make_project

SPAN = Span(name="a/b [1]", version=1, uri="data/day.csv", fingerprint="f")
UNIQUE = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}}
RANGE = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "x", "min_value": 0, "max_value": 1},
}
IMAGE = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "image.max", "max_value": 16},
}
COUNT = {
    "type": "expect_table_row_count_to_be_between",
    "kwargs": {"min_value": 1, "max_value": 299},
}
MEAN = {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "x", "max_value": 0.6}}


def _project(folder, rules, **checks):
    project = make_project(folder, checks={"set_aside": 0.05, **checks})
    project.expectations_path.write_text(json.dumps({"expectations": rules}))
    return load_project(folder)


def _rows(count=300):
    source = random.Random(count)
    return [
        {
            "id": f"row-{i:04d}",
            "label": i % 3,
            "x": source.random(),
            "image": [float(i % 16), 0.0, 1.0],
        }
        for i in range(count)
    ]


def _by_subject(checked, kind="expectation"):
    return {check.subject: check for check in checked.checks if check.kind == kind}


def _aside(folder):
    lines = (folder / "checked" / "set_aside.jsonl").read_text().split("\n")
    return [SetAside.model_validate_json(line) for line in lines if line]


def _inodes(folder):
    return {
        path.relative_to(folder): path.stat().st_ino
        for path in sorted(folder.rglob("data_tfrecord*"))
    }


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    return folder, forked(
        jobs.check, _project(folder / "project", [UNIQUE, RANGE, IMAGE]), _rows(), folder, 2
    )


def test_good_span_passes_and_shares_its_bytes(good):
    folder, checked = good
    assert [check.kind for check in checked.checks] == ["readable", "rows", *["expectation"] * 3]
    assert {check.verdict for check in checked.checks} == {"passed"}
    assert checked.readable and checked.set_aside == 0 and _aside(folder) == []
    assert sum(checked.rows.values()) == 300 and checked.labels == {"0": 100, "1": 100, "2": 100}
    assert _inodes(folder / "examples") == _inodes(folder / "checked")
    assert CheckedSpan.read(folder / "checked") == checked


def test_only_what_is_promised_is_published(good):
    names = {path.name for path in (good[0] / "checked").iterdir()}
    assert names == {
        "Split-train",
        "Split-eval",
        "Split-test",
        "checked.json",
        "set_aside.jsonl",
        "data_docs",
    }


def test_data_docs_lead_from_their_index_to_the_span_and_load_nothing(good):
    site = good[0] / "checked" / "data_docs"
    (link,) = re.findall(r'href="(validations/[^"]+)"', (site / "index.html").read_text())
    assert "values must be unique" in (site / link.replace("%20", " ")).read_text()
    for page in site.rglob("*.html"):
        assert not re.findall(
            r'<(?:link|script|img)[^>]*(?:href|src)="https?://', page.read_text()
        ), page


def test_row_of_the_frame_is_the_record_of_the_files(good, tmp_path):
    for without in (set(), {0, 17, 299}):
        frame, records = forked(jobs.frame_and_records, good[0] / "examples", without, tmp_path)
        assert len(records) == 300
        assert frame == [name for place, name in enumerate(records) if place not in without]


def _spoiled():
    """300 rows of which six break a rule: two share an id, four are out of range.

    One of them has a wrong image too.
    """
    rows = _rows()
    rows[10] = {**rows[10], "x": 7.0, "image": [99.0] * 64}
    rows[11] = {**rows[11], "x": -1.0, "label": None}
    rows[12] = {**rows[12], "x": 2.0, "y": float("nan")}
    rows[13] = {**rows[13], "x": 3.0, "id": rows[13]["id"] + "\u2028é"}
    rows[15] = {**rows[15], "id": rows[14]["id"]}
    return rows


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoiled")
    project = _project(folder / "project", [COUNT, UNIQUE, RANGE, IMAGE, MEAN])
    lay = {"causes": {"`label` must be set": 2}, "set_aside": 2, "span": SPAN}
    return folder, forked(jobs.check, project, _spoiled(), folder, 3, lay)


def test_few_broken_rows_are_set_aside_and_nothing_else(spoiled):
    folder, checked = spoiled
    before, after = (forked(jobs.read_ids, folder / name) for name in ("examples", "checked"))
    gone = {"row-0010", "row-0011", "row-0012", "row-0013\u2028é", "row-0014"}
    assert after == {
        split: [name for name in ids if name not in gone] for split, ids in before.items()
    }
    assert checked.rows == {split: len(ids) for split, ids in after.items()}
    assert sum(checked.rows.values()) == 294 and checked.set_aside == 8
    assert checked.labels == {"0": 98, "1": 98, "2": 98}


def test_set_aside_rows_tell_where_why_and_what(spoiled):
    rows = {row.values["id"]: row for row in _aside(spoiled[0])}
    assert len(rows) == 5 and len(_aside(spoiled[0])) == 6  # two rows share an id
    wrong = rows["row-0010"]
    assert wrong.place == "id row-0010" and wrong.span == "a/b [1]"
    assert wrong.reasons == [
        "x: expected column values to be between min value 0, max value 1; received 7.0",
        "image.max: expected column values to be between max value 16; received 99.0",
    ]
    assert wrong.values == {
        "id": "row-0010",
        "label": 1,
        "x": 7.0,
        "image": [99.0] * 8 + ["… 64 values"],
    }
    assert "label" not in rows["row-0011"].values and rows["row-0012"].values["y"] == "NaN"


def test_broken_rules_are_settled_and_aggregates_are_judged_on_what_is_left(spoiled):
    _, checked = spoiled
    found = _by_subject(checked)
    assert [c.verdict for c in checked.checks if c.kind == "expectation"] == [
        "passed",  # 294 rows: fewer than 300, which would be too many
        *["set_aside"] * 3,
        "passed",
    ]
    assert "not so in 2 of 300 rows" in found["id"].message
    rows = _by_subject(checked, "rows")["table"]
    assert rows.verdict == "set_aside"
    assert rows.message.startswith(
        "8 of 302 rows (2.65%) were set aside: x: expected column values to be between"
    )
    assert "`label` must be set (2)" in rows.message


def test_data_docs_show_the_rows_that_are_left(spoiled):
    site = spoiled[0] / "checked" / "data_docs"
    pages = list((site / "validations").rglob("*.html"))
    shown = re.sub(r"<[^>]*>", " ", pages[0].read_text())
    assert len(pages) == 1 and "Succeeded" in shown and " 294 " in shown
    index = (site / "index.html").read_text()
    assert "a/b [1]" in index and "<td>id, x, image.max</td>" in index


def test_files_that_lose_no_row_are_shared_and_the_source_is_untouched(spoiled, tmp_path):
    folder = spoiled[0]
    before, after = _inodes(folder / "examples"), _inodes(folder / "checked")
    assert before.keys() == after.keys() and any(before[name] != after[name] for name in before)
    forked(jobs.lay_out, load_project(folder / "project"), _spoiled(), tmp_path / "again", 3)
    for name in before:
        assert (tmp_path / "again" / name).read_bytes() == (folder / "examples" / name).read_bytes()


def test_step_repeats_after_a_killed_attempt(spoiled, tmp_path):
    project = _project(tmp_path / "project", [COUNT, UNIQUE, RANGE, IMAGE, MEAN])
    shutil.copytree(spoiled[0] / "examples", tmp_path / "examples")
    # a killed attempt left files that share their bytes with the source, and one that no other
    # attempt writes
    shutil.copytree(tmp_path / "examples", tmp_path / "checked", copy_function=os.link)
    (tmp_path / "checked" / "Split-train" / "data_tfrecord-99999.gz").write_bytes(b"half")
    source = digest_folder(tmp_path / "examples")
    assert forked(jobs.check_again, project, tmp_path) == spoiled[1]
    assert digest_folder(tmp_path / "examples") == source
    for split in ("train", "eval", "test"):
        name = f"Split-{split}"
        assert digest_folder(tmp_path / "checked" / name) == digest_folder(
            spoiled[0] / "checked" / name
        )


def test_too_many_broken_rows_stay_and_fail_with_their_severity(tmp_path):
    rows = [{**row, "x": 5.0} if i < 250 else row for i, row in enumerate(_rows())]
    stop = RANGE | {"meta": {"severity": "stop"}}
    checked = forked(jobs.check, _project(tmp_path / "project", [stop, UNIQUE]), rows, tmp_path)
    failed = _by_subject(checked)["x"]
    assert (failed.verdict, failed.severity) == (
        "failed",
        "stop",
    ) and "not so in 250 of 300 rows" in failed.message
    table = _by_subject(checked, "rows")["table"]
    assert (
        table.verdict == "passed"
        and "250 more (83.3%) broke an expectation and stay" in table.message
    )
    assert sum(checked.rows.values()) == 300 and _aside(tmp_path) == []
    assert _inodes(tmp_path / "examples") == _inodes(tmp_path / "checked")


def test_rows_past_every_cap_are_set_aside(tmp_path):
    rows = [{**row, "x": 5.0} if i % 4 == 0 else row for i, row in enumerate(_rows(1_200))]
    project = _project(tmp_path / "project", [RANGE], set_aside=0.25)
    checked = forked(jobs.check, project, rows, tmp_path)
    assert checked.set_aside == 300 and sum(checked.rows.values()) == 900
    expected = {row["id"] for i, row in enumerate(rows) if i % 4 == 0}
    assert {row.values["id"] for row in _aside(tmp_path)} == expected


def test_warning_sets_no_row_aside(tmp_path):
    rows = _spoiled()
    warn = [item | {"meta": {"severity": "warn"}} for item in (UNIQUE, RANGE, IMAGE)]
    checked = forked(jobs.check, _project(tmp_path / "project", warn), rows, tmp_path)
    assert {(c.verdict, c.severity) for c in checked.checks if c.kind == "expectation"} == {
        ("failed", "warn")
    }
    assert checked.set_aside == 0 and sum(checked.rows.values()) == 300


def test_default_severity_is_the_projects(tmp_path):
    checked = forked(
        jobs.check,
        _project(tmp_path / "project", [RANGE], expectations="warn"),
        _spoiled(),
        tmp_path,
    )
    assert _by_subject(checked)["x"].severity == "warn" and checked.set_aside == 0


def test_too_many_rows_lost_in_ingestion_fail_the_rows(tmp_path):
    lay = {"set_aside": 40, "causes": {"`label` must be set": 30, "`x` must be a number": 10}}
    checked = forked(
        jobs.check,
        _project(tmp_path / "project", [RANGE], rows="stop"),
        _spoiled(),
        tmp_path,
        1,
        lay,
    )
    rows = _by_subject(checked, "rows")["table"]
    assert (rows.verdict, rows.severity) == ("failed", "stop")
    assert (
        "40 of 340 rows (11.8%): `label` must be set (30), `x` must be a number (10)"
        in rows.message
    )
    assert checked.set_aside == 40 and _by_subject(checked)["x"].verdict == "failed"


def test_rows_of_ingestion_keep_their_lines(tmp_path):
    project = _project(tmp_path / "project", [RANGE])
    forked(jobs.lay_out, project, _spoiled(), tmp_path / "examples", 1)
    line = SetAside(
        span="s", place="data/day.csv: line 3", reasons=["r"], values={"a": "b\u2028c"}
    ).model_dump_json()
    (tmp_path / "examples" / "set_aside.jsonl").write_text(f"{line}\n")
    forked(jobs.check_again, project, tmp_path)
    first, *others = _aside(tmp_path)
    assert first.place == "data/day.csv: line 3" and first.values == {"a": "b\u2028c"}
    assert len(others) == 4 and {row.reasons[0].split(":")[0] for row in others} == {"x"}


def test_unreadable_span_has_its_problem_and_nothing_else(tmp_path):
    project = _project(tmp_path / "project", [RANGE], readable="stop")
    checked = forked(
        jobs.check, project, [], tmp_path, 0, {"problem": "day.csv must be a whole file"}
    )
    (check,) = checked.checks
    assert (check.kind, check.subject, check.verdict, check.severity) == (
        "readable",
        "day.csv",
        "failed",
        "stop",
    )
    assert check.message == "day.csv must be a whole file" and not checked.readable
    assert {path.name for path in (tmp_path / "checked").iterdir()} == {
        "checked.json",
        "set_aside.jsonl",
    }


def test_span_of_which_no_row_is_left_is_not_passed(tmp_path):
    lay = {"set_aside": 7, "causes": {"`label` must be set": 7}}
    checked = forked(jobs.check, _project(tmp_path / "project", [RANGE]), [], tmp_path, 0, lay)
    assert _by_subject(checked, "rows")["table"].verdict == "failed"
    assert _by_subject(checked)["x"].verdict == "not_compared"


def test_row_that_was_the_only_one_of_its_file_leaves_an_empty_file(tmp_path):
    rows = _rows(30)
    rows[0] = {**rows[0], "x": 9.0}
    checked = forked(jobs.check, _project(tmp_path / "project", [RANGE]), rows, tmp_path, 12)
    assert checked.set_aside == 1
    after = forked(jobs.read_ids, tmp_path / "checked")
    assert sum(map(len, after.values())) == 29


def test_rule_that_others_break_once_some_rows_are_gone_is_followed_to_its_end(tmp_path):
    rows = _rows()
    for number, value in enumerate((1e9, 1e6)):
        rows[number] = {**rows[number], "x": value}
    outliers = {
        "type": "expect_column_value_z_scores_to_be_less_than",
        "kwargs": {"column": "x", "threshold": 4, "double_sided": True},
    }
    checked = forked(jobs.check, _project(tmp_path / "project", [outliers]), rows, tmp_path)
    assert _by_subject(checked)["x"].verdict == "set_aside" and checked.set_aside == 2
    assert [row.values["id"] for row in _aside(tmp_path)] == sorted(
        ["row-0000", "row-0001"], key=_order(tmp_path)
    )


def _order(folder):
    ids = forked(jobs.read_ids, folder / "examples")
    return [*ids["eval"], *ids["test"], *ids["train"]].index


def test_rule_without_an_end_sets_nothing_aside(tmp_path):
    rows = _rows()
    for number in range(12):
        rows[number] = {**rows[number], "x": 100.0 ** (number + 1)}
    outliers = {
        "type": "expect_column_value_z_scores_to_be_less_than",
        "kwargs": {"column": "x", "threshold": 4, "double_sided": True},
    }
    checked = forked(jobs.check, _project(tmp_path / "project", [outliers]), rows, tmp_path)
    assert checked.set_aside == 0 and _by_subject(checked)["x"].verdict == "failed"
    assert (
        "once they are gone, other rows break one" in _by_subject(checked, "rows")["table"].message
    )
    assert "not so in 1 of 300 rows" in _by_subject(checked)["x"].message


def test_rule_on_a_column_that_this_span_lacks_fails_and_the_rest_is_judged(tmp_path):
    lacking = {"type": UNIQUE["type"], "kwargs": {"column": "date"}}  # of schema.pbtxt
    checked = forked(
        jobs.check, _project(tmp_path / "project", [lacking, RANGE]), _spoiled(), tmp_path
    )
    found = _by_subject(checked)
    assert found["date"].verdict == "failed"
    assert found["date"].message.endswith("the span has no value of `date`")
    assert found["x"].verdict == "set_aside"


def test_rule_on_a_column_that_there_is_not_is_an_error_of_the_project(tmp_path):
    nowhere = {"type": UNIQUE["type"], "kwargs": {"column": "dates"}}
    with pytest.raises(ProjectError, match=r"expectations\[1\] must name a column.*mean `date`"):
        forked(jobs.check, _project(tmp_path / "project", [RANGE, nowhere]), _rows(20), tmp_path)


def test_span_with_a_rule_that_cannot_be_used_is_an_error_of_the_project(tmp_path):
    wrong = RANGE | {"meta": {"severity": "loud"}}
    with pytest.raises(ProjectError, match=r"expectations\[0\]\.meta\.severity"):
        forked(jobs.check, _project(tmp_path / "project", [wrong]), _rows(20), tmp_path)


def test_content_follows_the_examples_and_the_rules(good, spoiled):
    assert len({good[1].content, spoiled[1].content}) == 2
    project = load_project(good[0] / "project")
    assert forked(jobs.check_again, project, good[0]).content == good[1].content


def test_span_that_is_judged_in_parts_gives_what_it_gives_as_a_whole(spoiled, tmp_path):
    folder, checked = spoiled
    (tmp_path / "examples").symlink_to(folder / "examples")
    parts = forked(jobs.check_in_parts, load_project(folder / "project"), tmp_path, 37)
    assert parts == checked
    assert _aside(tmp_path) == _aside(folder)
    for pages in ("index.html", "validations/*/*/*/*.html"):
        (one,), (other,) = (
            list((each / "checked" / "data_docs").glob(pages)) for each in (folder, tmp_path)
        )
        assert _numbers_in(one) == _numbers_in(other)


def _numbers_in(page):
    """What a page of Great Expectations says, without when it was made and its identifiers."""
    text = re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", page.read_text(), flags=re.DOTALL)
    time = r"\d{4}-\d\d-\d\d[^ ]*|\d{8}T[^ ]*|T\d{6}[^ ]*|\d\d:\d\d:\d\d[^ ]*"
    return re.sub(rf"[0-9a-f]{{8,}}(-[0-9a-f]+)*|{time}", "", text).split()


def test_blocks_are_the_frame_in_parts(tmp_path):
    rows = _spoiled()
    rows[20] = {name: value for name, value in rows[20].items() if name not in ("image", "label")}
    rows[21]["image"] = []
    rows = [{**row, "late": 5} if number > 250 else row for number, row in enumerate(rows)]
    forked(jobs.check, _project(tmp_path / "project", []), rows, tmp_path, 3)
    (tmp_path / "scratch").mkdir()
    whole, blocks = forked(
        jobs.frame_and_blocks, tmp_path / "examples", {0, 7, 150, 299}, tmp_path / "scratch", 40
    )
    assert len(blocks) > 3 and len(whole) == 296
    assert all((block.dtypes == whole.dtypes).all() for block in blocks)
    pd.testing.assert_frame_equal(pd.concat(blocks), whole, check_index_type=False)
