"""When a run is due, and that one cause makes one run due."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.production.due import Alarm, Facts, Interrupted, Landing, decide_due
from schemas.project import RetrainSettings
from schemas.records import RetrainingDue

NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)
NIGHTLY = RetrainSettings(schedule="30 3 * * *", time_zone="Europe/Berlin")
NOTHING = Facts(since=NOW - timedelta(minutes=1))
LANDED = replace(NOTHING, landings=[Landing("a", "1"), Landing("b", "2")])


def answer(facts: Facts, due: RetrainingDue) -> Facts:
    """The facts once a run was begun for it."""
    since = datetime.fromisoformat(due.moment) if due.moment else facts.since
    return replace(facts, answered=facts.answered | {due.cause}, since=max(since, facts.since))


def test_nothing_is_due_without_a_cause():
    assert decide_due(NOW, NIGHTLY, NOTHING) is None


@pytest.mark.parametrize("nights", [1, 3, 40])
def test_moments_that_were_missed_are_one_run_for_the_newest(nights):
    facts = replace(NOTHING, since=NOW - timedelta(days=nights))
    due = decide_due(NOW, NIGHTLY, facts)
    assert due.trigger == "schedule"
    assert due.because == "scheduled for 2026-06-10 03:30 Europe/Berlin"
    assert decide_due(NOW, NIGHTLY, answer(facts, due)) is None
    tomorrow = NOW + timedelta(days=1)
    assert decide_due(tomorrow, NIGHTLY, answer(facts, due)).moment == "2026-06-11T01:30:00+00:00"


@pytest.mark.parametrize(
    "settings, facts, trigger",
    [
        (RetrainSettings(), LANDED, "landing"),
        (RetrainSettings(landings=False), LANDED, None),
        (RetrainSettings(new_labels=100), replace(LANDED, new_labels=99), None),
        (RetrainSettings(new_labels=100), replace(LANDED, new_labels=100), "labels"),
        (RetrainSettings(new_labels=100), LANDED, "landing"),  # one cannot be read
        (RetrainSettings(new_labels=1), replace(NOTHING, new_labels=0), None),
        (RetrainSettings(), replace(NOTHING, interrupted=Interrupted("r1")), "landing"),
        (RetrainSettings(), replace(NOTHING, alarms=[Alarm("drift", "w1", "it moved")]), "drift"),
        (RetrainSettings(), replace(NOTHING, alarms=[Alarm("metrics", "d", "fell")]), "metrics"),
        (RetrainSettings(), replace(LANDED, paused=True), None),
    ],
)
def test_each_cause_makes_one_run_due(settings, facts, trigger):
    due = decide_due(NOW, settings, facts)
    assert (due and due.trigger) == trigger
    if due is not None:
        assert due.because
        assert decide_due(NOW, settings, answer(facts, due)) is None


def test_more_data_is_another_cause():
    first = decide_due(NOW, RetrainSettings(), LANDED)
    more = replace(answer(LANDED, first), landings=[*LANDED.landings, Landing("c", "3")])
    assert decide_due(NOW, RetrainSettings(), more).because == "landed: a, b, c"
    corrected = replace(answer(LANDED, first), landings=[Landing("a", "other bytes")])
    assert decide_due(NOW, RetrainSettings(), corrected).cause != first.cause


def test_what_no_run_answered_stays_due():
    due = decide_due(NOW, RetrainSettings(), LANDED)
    unanswered = replace(answer(NOTHING, due), open=due)
    assert decide_due(NOW, RetrainSettings(), unanswered) == due


def test_whatever_comes_within_the_cool_down_waits_for_its_end():
    settings = RetrainSettings(cool_down_minutes=30)
    facts = replace(LANDED, last_end=NOW - timedelta(minutes=29))
    assert decide_due(NOW, settings, facts) is None
    assert decide_due(NOW + timedelta(minutes=1), settings, facts).trigger == "landing"


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 100), st.sampled_from(["land", "away"])), max_size=15),
    st.sampled_from(["0 * * * *", "*/20 * * * *", "30 3 * * *"]),
)
def test_over_days_no_cause_has_two_runs_and_no_landing_none(events, cron):
    """Hours in which data lands or the watch is away; whoever runs trains on all that landed."""
    retrain = RetrainSettings(schedule=cron)
    away = {hour for hour, kind in events if kind == "away"}
    landing = {hour for hour, kind in events if kind == "land"}
    facts, begun, waiting = replace(NOTHING, since=NOW), [], []
    for hour in range(102):
        now = NOW + timedelta(hours=hour)
        if hour in landing:
            waiting.append(Landing(f"span-{hour}", "1"))
        while hour not in away and (
            due := decide_due(now, retrain, replace(facts, landings=tuple(waiting)))
        ):
            begun.append(due.cause)
            facts, waiting = answer(facts, due), []
        assert len(begun) == len(set(begun)) <= 2 * (hour + 1)
    assert not waiting
