"""Reading the log's rows for a test: units, losses, shares over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perennial.ledger.events import Ledger, NewEvent
from perennial.production.ab_evidence import (
    choose_measure,
    compare_guards,
    find_skewed_split,
    largest_loss,
    measure_losses,
    read_periods,
    units_of,
)
from perennial.production.arms import change_share, start_test
from perennial.production.labels import LoggedPredictions
from perennial.tasks import Task
from schemas.project import ABSettings
from schemas.records import ABStarted
from tests.perennial.folders import make_project
from tests.perennial.records import deployment

BEGAN = np.datetime64("2026-01-01T00:00:00", "us")


def logged(
    keys: list[str | None], seconds: list[float], assigned: list[str], **columns: list[object]
) -> LoggedPredictions:
    rows = len(keys)
    return LoggedPredictions(
        key=np.array(keys, dtype=object),
        time=BEGAN + np.array([round(1e6 * each) for each in seconds], dtype="timedelta64[us]"),
        arm=np.array(columns.get("arm", assigned), dtype=object),
        assigned=np.array(assigned, dtype=object),
        test=np.ones(rows, dtype=np.int64),
        version=np.array(["1"] * rows, dtype=object),
        chance=np.ones(rows),
        latency_ms=np.array(columns.get("latency_ms", [1.0] * rows), dtype=np.float64),
    )


def test_what_hangs_together_is_one_unit() -> None:
    """By key, by request (all its instances have one time), by group; without a key each request stands alone."""
    rows = logged(["a", "b", "a", "c", None, None], [0, 0, 1, 2, 3, 4], ["champion"] * 6)
    units = units_of(rows, {}).tolist()
    assert units[0] == units[1] == units[2]
    assert len({units[0], *units[3:]}) == 4
    grouped = units_of(rows, {"a": "group x", "c": "group x"}).tolist()
    assert grouped[0] == grouped[3]


def test_losses_lie_between_0_and_the_largest() -> None:
    scores, labels = np.array([[0.7, 0.3], [0.0, 1.0]]), np.array([0, 0])
    assert measure_losses("accuracy", scores, labels, 1.0).tolist() == [0.0, 1.0]
    assert measure_losses("brier", scores, labels, 1.0) == pytest.approx([0.09, 1.0])
    # A class that no version knows is as wrong as can be.
    assert measure_losses("brier", np.eye(2)[:1], np.array([5]), 1.0) == pytest.approx([1.0])
    errors = measure_losses("absolute_error", np.array([1.0, 90.0]), np.array([2.0, 2.0]), 50.0)
    assert errors.tolist() == [1.0, 50.0]


def test_what_decides_and_its_bound(tmp_path: Path) -> None:
    classes, values = Task("t", "multi_class", "label"), Task("t", "regression", "label")
    assert choose_measure(ABSettings(), classes) == "accuracy"
    assert choose_measure(ABSettings(metric="brier"), classes) == "brier"
    assert choose_measure(ABSettings(), values) == "absolute_error"
    project = make_project(tmp_path / "digits")  # labels from 0 to 9
    assert largest_loss(project, classes) == 1.0
    assert largest_loss(project, values) == 9.0
    assert largest_loss(project, Task("t", "regression", "made")) == np.inf


def test_shares_are_read_with_their_times(tmp_path: Path) -> None:
    """Answers of servers that still follow a new share belong to no period."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.append(NewEvent("deployment", deployment("1")))
    test = ABStarted(
        champion_deployment=1, challenger_version="2", challenger_digest="d", share=0.1, shadow=False,
        salt="s", started_by="me", max_days=14,
    )  # fmt: skip
    tested = start_test(ledger, test)
    change_share(ledger, 0.5, "good")
    first, second = read_periods(ledger, tested)
    assert (first.share, second.share) == (0.1, 0.5)
    assert second.begin - first.end == np.timedelta64(10, "s")
    times = np.array([first.begin, first.end, second.begin])
    assert first.holds(times).tolist() == [True, False, False]
    assert second.holds(times).tolist() == [False, False, True]
    ledger.close()


def test_slow_answers_are_harm_and_a_skewed_split_is_found() -> None:
    from perennial.production.ab_evidence import Period

    rng = np.random.default_rng(0)
    rows = 800
    challenger = rng.random(rows) < 0.5
    requests = logged(
        [f"k{number}" for number in range(rows)],
        list(range(rows)),
        ["challenger" if each else "champion" for each in challenger],
        latency_ms=np.where(challenger & (rng.random(rows) < 0.3), 900.0, 20.0).tolist(),
    )
    units = units_of(requests, {})
    even = [Period(BEGAN, BEGAN + np.timedelta64(1, "D"), 0.5)]
    slow, failed = compare_guards(requests, units, even, ABSettings())
    assert slow.breached and not failed.breached
    assert not compare_guards(requests, units, even, ABSettings(slow_ms=1000))[0].breached
    assert find_skewed_split(requests, units, even) == ""
    few = [Period(BEGAN, BEGAN + np.timedelta64(1, "D"), 0.2)]
    assert "not as intended" in find_skewed_split(requests, units, few)
