"""Labels that come late, of real digits, joined to the prediction log."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.ledger.events import Ledger
from perennial.production.labels import read_labelled, read_requests, read_scored
from perennial.production.live_metrics import DayCoverage, completeness, measure_live
from perennial.production.log_files import LogFiles, part_name
from perennial.production.prediction_log import LoggedAnswer, Masks, make_tables
from perennial.project import Project
from schemas.records import Span
from tests.chain import land, span_of
from tests.perennial.folders import make_project
from tests.perennial.production.rows import answer
from tests.perennial.records import judged

NOW = datetime.now(UTC)
BEFORE = NOW - timedelta(days=2)
SINCE = NOW - timedelta(days=10)
CLASSES = 10


def log(project: Project, *answers: LoggedAnswer) -> None:
    for number, (day, table) in enumerate(make_tables(answers, Masks.of_project(project))):
        name = part_name(answers[0].time, answers[0].request, number)
        LogFiles.of_project(project).write(table, day, name)


def accept(project: Project, span: Span, accepted: bool = True) -> None:
    ledger = Ledger(project.ledger_url)
    ledger.append(judged(accepted, span))
    ledger.close()


def labels_of(span: Span) -> tuple[list[str], np.ndarray[Any, Any]]:
    table = pq.read_table(span.uri)
    return table["id"].to_pylist(), np.array(table["label"].to_pylist())


def scores_for(labels: np.ndarray[Any, Any], right: int) -> np.ndarray[Any, Any]:
    """Scores that are right about the first labels, and take the others for the next class."""
    chosen = np.where(np.arange(len(labels)) < right, labels, (labels + 1) % CLASSES)
    return np.eye(CLASSES, dtype=np.float32)[chosen] * 0.9 + 0.01


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "digits")


def test_a_label_counts_once_for_predictions_made_before(project: Project) -> None:
    first, second = land(project, 1), land(project, 2)
    keys, labels = labels_of(first)
    others, _ = labels_of(second)
    scores = scores_for(labels, right=100)
    log(project, answer("r1", keys, BEFORE, scores=scores))
    log(project, answer("r2", keys[:40], BEFORE, arm="shadow", scores=scores[:40]))
    log(project, answer("r3", [*others[:5], None], BEFORE, scores=scores[:6]))
    assert len(read_labelled(project, SINCE).key) == 0, "nothing is accepted yet"
    accept(project, first)
    accept(project, second, accepted=False)
    log(project, answer("r4", keys[:7], NOW + timedelta(hours=1), scores=scores[:7]))
    labelled = read_labelled(project, SINCE)
    assert len(labelled.key) == len(keys) + 40
    champion = labelled.arm == "champion"
    known = dict(zip(keys, labels.tolist(), strict=True))
    assert labelled.label[champion].tolist() == [known[key] for key in labelled.key[champion]]
    assert accuracy_score(labelled.label[champion], labelled.scores[champion].argmax(1)) == (
        pytest.approx(100 / len(keys))
    )
    assert labelled.version[~champion].tolist() == ["2"] * 40
    assert len(read_requests(project, SINCE).key) == len(keys) + 40 + 6 + 7
    # It lands again, corrected: the newest label counts, and it was known since the first one.
    corrected = pq.read_table(first.uri)
    changed = pa.array([(label + 5) % CLASSES for label in corrected["label"].to_pylist()])
    place = corrected.schema.get_field_index("label")
    pq.write_table(corrected.set_column(place, "label", changed), first.uri)
    newer = span_of(Path(first.uri)).model_copy(update={"version": 2})
    accept(project, newer)
    again = read_labelled(project, SINCE)
    assert len(again.key) == len(labelled.key)
    assert again.label[0] == (known[again.key[0]] + 5) % CLASSES
    assert again.label_time.max() == labelled.label_time.max()
    assert not again.notes
    assert len(read_labelled(project, NOW - timedelta(hours=1)).key) == 0


def test_labels_that_are_gone_are_told(project: Project) -> None:
    span = land(project, 1)
    log(project, answer("r1", labels_of(span)[0], BEFORE))
    accept(project, span)
    Path(span.uri).unlink()
    labelled = read_labelled(project, SINCE)
    assert len(labelled.key) == 0
    assert labelled.notes == ("labels of version 1 of span 2026-01-01 are not there any more",)


def test_hashed_keys_join_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEPPER", "a secret")
    hashed = {"log": {"enabled": True, "hashed": ["id"], "secret": "PEPPER"}}
    project = make_project(tmp_path / "digits", serving=hashed)
    span = land(project, 1)
    keys, labels = labels_of(span)
    log(project, answer("r1", keys, BEFORE, scores=scores_for(labels, right=len(keys))))
    accept(project, span)
    labelled = read_labelled(project, SINCE)
    assert len(labelled.key) == len(keys)
    assert (labelled.scores.argmax(1) == labelled.label).all()
    assert not set(labelled.key) & set(keys)


def test_days_are_measured_by_arm_with_intervals_and_remarks(project: Project) -> None:
    span = land(project, 1)
    keys, labels = labels_of(span)
    count = len(keys)
    for days in (3, 2):
        time = NOW - timedelta(days=days)
        log(project, answer(f"r{days}", keys, time, scores=scores_for(labels, count - 20)))
    unknown = [f"unknown {number}" for number in range(count)]
    log(project, answer("r1", unknown, NOW - timedelta(days=1), scores=scores_for(labels, 0)))
    few = [*keys[:30], *unknown[:300]]
    log(project, answer("r0", few, NOW - timedelta(days=1)))
    accept(project, span)
    printed = CliRunner().invoke(app, ["live", str(project.folder), "--json"])
    assert printed.exit_code == 0, printed.output
    live = json.loads(printed.stdout)
    first, second, third = live["days"]
    assert first["remark"] == "no former day tells how many labels come"
    assert second["complete"] and second["value"] == pytest.approx(1 - 20 / count)
    assert second["low"] < second["value"] < second["high"]
    assert not third["complete"] and "former days reached 100%" in third["remark"]
    assert live["delay_days"]["median"] == pytest.approx(2, abs=1.01)
    table = CliRunner().invoke(app, ["live", str(project.folder)])
    assert "labels come after" in table.output and "accuracy" in table.output


def test_predictions_weigh_by_their_chance(project: Project) -> None:
    span = land(project, 1)
    keys, labels = labels_of(span)
    half = len(keys) // 2
    right, wrong = scores_for(labels[:half], half), scores_for(labels[half:], 0)
    log(project, answer("r1", keys[:half], BEFORE, scores=right, chance=1.0))
    log(project, answer("r2", keys[half:], BEFORE, scores=wrong, chance=0.25))
    accept(project, span)
    requests, labelled = read_requests(project, SINCE), read_labelled(project, SINCE)
    scored = read_scored(project, SINCE)
    (day,) = measure_live(requests, labelled, scored, "accuracy", NOW.date()).days
    assert day.metric.value == pytest.approx(half / (half + 4 * (len(keys) - half)))


@pytest.mark.parametrize(("right", "used"), [(0.91, True), (0.7, False)])
def test_scores_that_held_when_labels_came_tell_the_accuracy_before_they_come(
    project: Project, right: float, used: bool
) -> None:
    """The scores say 91% throughout."""
    span = land(project, 1)
    keys, labels = labels_of(span)
    scores = scores_for(labels, round(right * len(keys)))
    for days in range(9, 1, -1):
        log(project, answer(f"r{days}", keys, NOW - timedelta(days=days), scores=scores))
    unknown = [f"unknown {number}" for number in range(len(keys))]
    log(project, answer("r1", unknown, NOW - timedelta(days=1), scores=scores))
    accept(project, span)
    live = json.loads(CliRunner().invoke(app, ["live", str(project.folder), "--json"]).stdout)
    estimator, newest = live["estimator"], live["days"][-1]
    assert (estimator["status"], estimator["days"]) == ("trusted" if used else "not_trusted", 8)
    assert newest["value"] is None
    if used:
        assert newest["estimate"]["value"] == pytest.approx(0.91)
        assert newest["estimate"]["low"] < 0.91 < newest["estimate"]["high"]
    else:
        assert all(day["estimate"] is None for day in live["days"])
    printed = CliRunner().invoke(app, ["live", str(project.folder)]).output
    assert f"the interval held on {8 if used else 0} of 8 days, 95% promised" in printed
    assert ("accuracy by scores" in printed.splitlines()[0]) == used


COUNTS = (80, 79, 60, 75, 20, 0, 90)


def test_a_day_is_complete_when_it_reached_what_former_days_reached() -> None:
    days = [DayCoverage(date(2026, 1, day), 100, count) for day, count in enumerate(COUNTS, 1)]
    remarks = completeness(days, date(2026, 1, 7))
    complete = [day.day for day, remark in remarks.items() if remark is None]
    assert complete == [2, 4], "of 80, 79, 60, 75, 20, 0 and 90 labels"
    assert remarks[date(2026, 1, 7)] == "the day is not over"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=20))
def test_no_day_without_labels_of_former_days_is_complete(pairs: list[tuple[int, int]]) -> None:
    days = [
        DayCoverage(date(2026, 1, number), keys, min(keys, labelled))
        for number, (keys, labelled) in enumerate(pairs, 1)
    ]
    remarks = completeness(days, date(2026, 3, 1))
    for number, day in enumerate(days):
        former = [each for each in days[:number] if each.keys >= 20 and each.labelled]
        if remarks[day.day] is None:
            assert former and (day.labelled or math.isclose(day.share, 0))
