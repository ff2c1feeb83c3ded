"""Labels that a task does not take are found when they land, with their values and rows."""

from __future__ import annotations

import json

import pytest

from perennial.project import load_project
from tests.components.check_examples import jobs
from tests.forked import forked
from tests.perennial.folders import make_project


def _check(folder, kind, labels, task=None, **checks):
    """Checks a span of rows with these labels; its checks of the label, and the whole record."""
    metric = "mean_absolute_error" if kind == "regression" else "accuracy"
    project = make_project(
        folder / "project",
        model={"tasks": [{"kind": kind, **(task or {})}]},
        gate={"metric": metric, "floors": {}},
        checks={"set_aside": 0.05, **checks},
    )
    project.expectations_path.write_text(json.dumps({"expectations": []}))
    rows = [{"id": f"row-{number:04d}", "label": label} for number, label in enumerate(labels)]
    checked = forked(jobs.check, load_project(project.folder), rows, folder)
    return [check for check in checked.checks if check.subject == "label"], checked


@pytest.mark.parametrize("severity", ["warn", "stop"])
def test_minus_one_and_one_are_no_labels_of_a_binary_task(tmp_path, severity):
    labels = [-1, 1] * 50
    (check,), checked = _check(tmp_path, "binary", labels, expectations=severity)
    assert check.verdict == "failed"
    assert check.severity == ("stop" if severity == "stop" else "quarantine")
    assert "not so in 50 of 100 rows (such as -1, -1, -1)" in check.message
    assert "the binary task `prediction` takes 0 and 1" in check.message
    assert "name it in model.tasks[0].label" in check.message
    assert checked.set_aside == 0


def test_few_labels_that_are_no_classes_are_set_aside_with_their_rows(tmp_path):
    labels = [0, 1, 2, 3] * 25
    labels[7], labels[50] = -1, -2
    (check,), checked = _check(tmp_path, "multi_class", labels)
    assert check.verdict == "set_aside" and checked.set_aside == 2
    assert "-1" not in checked.labels and sum(checked.rows.values()) == 98
    lines = (tmp_path / "checked" / "set_aside.jsonl").read_text().splitlines()
    assert [json.loads(line)["place"] for line in lines] == ["id row-0007", "id row-0050"]
    assert json.loads(lines[0])["reasons"][0].endswith("received -1")


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("binary", [0, 1]), ("multi_class", [0, 5, 2]), ("regression", [-1, 1])],
)
def test_labels_that_the_task_takes_are_not_looked_at_again(tmp_path, kind, labels):
    checks, checked = _check(tmp_path, kind, labels * 10)
    assert checks == [] and checked.set_aside == 0


def test_labels_that_preprocessing_fn_replaces_are_not_looked_at(tmp_path):
    labels = [-1, 1] * 50
    checks, checked = _check(tmp_path, "binary", labels, {"label_from": "preprocessing_fn"})
    assert checks == [] and checked.set_aside == 0
