"""When there is a search, how long it goes on, and what it found: decisions over records alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.tune_model.choices import (
    commonest_message,
    describe_reuse,
    describe_search,
    distinct,
    drifted_features,
    ranked,
    wants_more,
    why_search,
)
from schemas.project import TuneSettings
from schemas.records import Check, Hyperparameters, Span, SpanValidation, Trial, Tuned, Validation

BEST = Hyperparameters(learning_rate=0.01, batch_size=16, source="tuner")
TUNED = Tuned(best=[BEST], space="same", at="2026-03-01T12:00:00+00:00", run="run-3")
TRIALS = st.lists(st.none() | st.floats(0, 100), max_size=8).map(
    lambda losses: [_trial(number, loss) for number, loss in enumerate(losses, 1)]
)


def _trial(number, loss, seconds=1.0, message=None):
    return Trial(
        number=number, values={"units": number}, loss=loss, seconds=seconds, message=message
    )


def _validation(new=True, kind="drift", verdict="failed", severity="warn", released=False):
    check = Check(
        kind=kind, subject="image", verdict=verdict, message="it moved", severity=severity
    )
    span = Span(name="2026-01-02", version=1, uri="x", fingerprint="f")
    judged = SpanValidation(
        span=span, new=new, rows={}, labels={}, checks=[check], released=released
    )
    return Validation(spans=[judged], accepted=True, reasons=[])


CALM = _validation(verdict="passed")


def test_an_earlier_search_of_the_same_space_is_used_again():
    assert why_search(TUNED, "same", CALM, "") is None


def test_without_an_earlier_search_the_reason_is_passed_on():
    assert why_search(None, "same", CALM, "a person asked for it") == "a person asked for it"
    assert why_search(None, "same", CALM, "") == "there was no search before"


def test_another_space_is_searched():
    assert (
        why_search(TUNED, "other", CALM, "")
        == "the model, its tasks or what is searched changed since run-3"
    )


@pytest.mark.parametrize("kind", ["drift", "label_drift"])
def test_drift_of_a_new_span_asks_for_a_search(kind):
    assert (
        why_search(TUNED, "same", _validation(kind=kind), "") == "image (span 2026-01-02) drifted"
    )


@pytest.mark.parametrize(
    "validation",
    [
        _validation(new=False),
        _validation(verdict="passed"),
        _validation(verdict="not_compared"),
        _validation(kind="skew"),
        _validation(severity="quarantine"),
    ],
    ids=["old span", "passed", "not compared", "skew", "in quarantine"],
)
def test_what_is_no_drift_of_the_data_that_is_trained_on(validation):
    assert drifted_features(validation) == [] and why_search(TUNED, "same", validation, "") is None


def test_drift_that_a_person_released_counts():
    assert drifted_features(_validation(severity="quarantine", released=True)) == [
        "image (span 2026-01-02)"
    ]


@given(TRIALS, st.none() | st.integers(1, 9), st.none() | st.floats(0.001, 1))
def test_the_budget_is_what_comes_first(trials, most, minutes):
    tune = TuneSettings(trials=most, minutes=minutes)
    spent = len(trials) / 60
    over = (most is not None and len(trials) >= most) or (minutes is not None and spent >= minutes)
    assert wants_more(trials, tune) == (not trials or not over)


def test_a_budget_for_less_than_one_trial_still_runs_the_first():
    tune = TuneSettings(minutes=1e-9)
    assert wants_more([], tune) and not wants_more([_trial(1, None)], tune)


@given(TRIALS)
def test_the_lowest_loss_comes_first_and_failed_trials_are_not_ranked(trials):
    losses = [trial.loss for trial in ranked(trials)]
    assert losses == sorted(trial.loss for trial in trials if trial.loss is not None)


def test_of_equal_losses_the_earlier_trial_is_best():
    assert [
        trial.number for trial in ranked([_trial(1, 0.5), _trial(2, None), _trial(3, 0.5)])
    ] == [1, 3]


def test_each_configuration_is_named_once():
    other = BEST.model_copy(update={"batch_size": 8})
    assert distinct([BEST, other, BEST]) == [BEST, other]


@pytest.mark.parametrize(
    "losses, says",
    [
        (
            [0.3, 0.2, None],
            "of 3 trials (1 failed) number 2 is best, with an eval loss of 0.2; the settings' "
            "own had 0.3",
        ),
        (
            [None, 0.2],
            "of 2 trials (1 failed) number 2 is best, with an eval loss of 0.2; the settings' "
            "own failed",
        ),
        (
            [0.1, 0.2],
            "none of 2 trials was better than the settings' own, with an eval loss of 0.1",
        ),
        ([0.1], "the only trial had the settings' own, with an eval loss of 0.1"),
    ],
)
def test_a_search_in_words(losses, says):
    trials = [_trial(number, loss) for number, loss in enumerate(losses, 1)]
    assert describe_search(trials, "a person asked for it") == f"a person asked for it; {says}"


@pytest.mark.parametrize(
    "now, age",
    [
        (datetime(2026, 3, 13, 13, tzinfo=UTC), "12 days"),
        (datetime(2026, 3, 2, 1, tzinfo=UTC), "13 hours"),
    ],
)
def test_reuse_tells_its_age_and_its_run(now, age):
    assert (
        describe_reuse(TUNED, now)
        == f"the search of run-3 was {age} ago, and nothing drifted since"
    )


def test_the_commonest_message():
    trials = [
        _trial(1, 0.1),
        *(_trial(n, None, message=m) for n, m in ((2, "a"), (3, "b"), (4, "b"))),
    ]
    assert commonest_message(trials) == "b"
