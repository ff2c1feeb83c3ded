"""The repetition of a rejected run that `perennial run` goes on with."""

from __future__ import annotations

from typing import Any

import pytest

from components.select_spans.repetitions import due_attempt
from perennial.ledger.events import Ledger
from schemas.records import Criterion, Decision
from tests.perennial.records import run_ended, run_started, selection

PROJECT = "p"
REPEATS = 2


def decision(promote: bool = False, compared: bool = True) -> Decision:
    criterion = Criterion(
        name="accuracy", passed=promote, compared=compared, explanation="a reason"
    )
    return Decision(promote=promote, criteria=[criterion], reasons=[], not_compared=[])


@pytest.fixture
def ledger(tmp_path):
    return Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def due(
    ledger: Ledger, attempt: int, outcome: str | None, made: Decision | None, **changes: Any
) -> int | None:
    """Records a run that was this attempt and its outcome (None: killed).

    Gives what is due then.
    """
    ledger.append(run_started("r", selection("r", attempt=attempt, **changes)))
    if outcome is not None:
        ledger.append(run_ended("r", outcome))
    return due_attempt(ledger.newest_run(), made, REPEATS, PROJECT)


@pytest.mark.parametrize(("attempt", "expected"), [(0, 1), (1, 2), (2, None)])
def test_a_rejected_run_is_followed_by_its_next_repetition_until_there_is_none(
    ledger, attempt, expected
):
    assert due(ledger, attempt, "kept_champion", decision()) == expected


@pytest.mark.parametrize("outcome", [None, "failed"])
def test_a_repetition_that_was_killed_or_failed_is_due_again(ledger, outcome):
    assert due(ledger, 1, outcome, None) == 1


def test_a_repetition_that_was_killed_after_its_decision_is_due_again(ledger):
    """Its steps are in the cache, and its end is still to be recorded."""
    assert due(ledger, 1, None, decision()) == 1


@pytest.mark.parametrize("outcome", [None, "failed"])
def test_a_first_run_that_was_cut_short_is_not_a_repetition(ledger, outcome):
    assert due(ledger, 0, outcome, None) is None


@pytest.mark.parametrize(
    ("outcome", "made"),
    [
        ("promoted", decision(promote=True)),
        ("kept_champion", decision(compared=False)),
        ("data_rejected", None),
        ("nothing_new", None),
    ],
)
def test_nothing_is_due_where_other_draws_could_not_help(ledger, outcome, made):
    assert due(ledger, 0, outcome, made) is None


def test_nothing_is_due_in_another_project_or_in_a_new_one(ledger):
    assert ledger.newest_run() is None
    assert due(ledger, 0, "kept_champion", decision(), project_digest="changed since") is None


def test_only_the_newest_run_counts(ledger):
    assert due(ledger, 0, "kept_champion", decision()) == 1
    ledger.append(run_started("later"))
    ledger.append(run_ended("later", "nothing_new"))
    assert due_attempt(ledger.newest_run(), None, REPEATS, PROJECT) is None
