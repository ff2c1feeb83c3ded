"""The warnings of a run: which there are, their order, and where they are told."""

from __future__ import annotations

from typing import get_args

from components.conclude_run.run_warnings import (
    ORDER,
    choose_told,
    count_warnings,
    list_warnings,
)
from perennial.report.page import render_report
from schemas import records as r
from tests.perennial.report.facts import DAYS, promoted, validation
from tests.perennial.report.pages import Page


def drift(subject, distance, baseline="the window", severity="warn", kind="drift"):
    message = f"Jensen-Shannon {distance} from {baseline}"
    return r.Check(
        kind=kind,
        subject=subject,
        verdict="failed",
        message=message,
        severity=severity,
        distance=distance,
        threshold=0.01,
    )


FALL = r.Criterion(
    name="newest span",
    kind="newest_span",
    passed=False,
    blocking=False,
    value=-0.3,
    low=-0.37,
    high=-0.23,
    explanation="champion version 3's accuracy falls",
)
GROUP = r.GroupTest(
    feature="sex",
    group="f",
    examples=90,
    measure="error_rate",
    value=0.3,
    rest=0.1,
    gap=0.2,
    p_value=0.001,
    flagged=True,
)
UNFAIR = r.Criterion(
    name="fairness", kind="fairness", passed=False, blocking=False, explanation="groups differ"
)
OUTLIER = r.Outlier(
    model="candidate",
    task="prediction",
    metric="mean_absolute_error",
    key="trip-17",
    span=DAYS[1].name,
    label=14_000.0,
    examples=117,
    value=125.0,
    share=0.96,
    without=5.0,
)


def facts_of(*checks, criteria=(), evaluation=None, not_compared=()):
    facts = promoted(validation=validation(*checks))
    decision = facts.decision.model_copy(
        update={"criteria": [*facts.decision.criteria, *criteria], "not_compared": not_compared}
    )
    measured = facts.evaluation.model_copy(update=evaluation or {})
    return facts.model_copy(update={"decision": decision, "evaluation": measured})


def test_every_kind_is_a_record_with_its_numbers_the_most_telling_first():
    checks = [
        drift("fare", 0.2),
        drift("fare", 0.3, "the span before"),
        drift("miles", 0.9),
        r.Check(
            kind="class_gone", subject="label", verdict="failed", message="no 3", severity="warn"
        ),
        r.Check(kind="rows", subject="trips.csv", verdict="set_aside", message="2 of 300 rows"),
        r.Check(kind="drift", subject="id", verdict="not_compared", message="a key", exempt=True),
    ]
    found = list_warnings(
        facts_of(
            *checks,
            criteria=[FALL, UNFAIR],
            evaluation={
                "outliers": [OUTLIER],
                "fairness": r.Fairness(score="probability of 1", tests=[GROUP], scores=[]),
            },
            not_compared=["task `fare`: champion version 3 does not predict it"],
        )
    )
    assert [(one.kind, one.subject, one.feature, one.span) for one in found] == [
        ("newest_span", "newest span", None, None),
        ("class_gone", "label", "label", DAYS[2].name),
        ("fairness", "sex=f", "sex", None),
        ("outlier", "trip-17", None, DAYS[1].name),
        ("drift", "miles", "miles", DAYS[2].name),
        ("drift", "fare", "fare", DAYS[2].name),  # one, the further of both baselines
        ("rows", "trips.csv", None, DAYS[2].name),
        ("not_compared", "label", None, DAYS[2].name),
        ("not_compared", "the comparison", None, None),
    ]
    assert found[0].numbers == {"value": -0.3, "low": -0.37, "high": -0.23}
    assert found[5].numbers == {"distance": 0.3, "threshold": 0.01}
    assert "96%" in found[3].message and "without it 5" in found[3].message
    assert count_warnings(found) == (7, 2)


def test_every_kind_has_its_place_and_a_criterion_keeps_its_own():
    assert sorted(ORDER) == sorted(get_args(r.WarningKind))
    kinds = ("newest_span", "former", "trivial", "leak", "slice", "fairness", "covariate")
    criteria = [FALL.model_copy(update={"kind": kind, "name": kind}) for kind in kinds]
    found = list_warnings(facts_of(criteria=criteria))
    assert {one.subject: one.kind for one in found if one.subject in kinds} == {k: k for k in kinds}


def test_a_warning_of_the_window_is_of_no_span():
    few = r.Check(
        kind="splits", subject="the test split", verdict="failed", message="3", severity="warn"
    )
    facts = promoted(validation=validation().model_copy(update={"window_warnings": [few]}))
    (found,) = (one for one in list_warnings(facts) if one.kind == "splits")
    assert (found.subject, found.message, found.span) == ("the test split", "3", None)


def test_what_stops_a_run_or_quarantines_a_span_is_no_warning():
    blocking = FALL.model_copy(update={"blocking": True})
    found = list_warnings(facts_of(drift("fare", 0.2, severity="quarantine"), criteria=[blocking]))
    assert {one.kind for one in found} == {"not_compared"}


def test_three_are_told_and_what_could_not_be_compared_is_counted_only():
    kinds = ("newest_span", "drift", "not_compared", "rows", "training", "not_compared")
    warnings = [r.RunWarning(kind=kind, subject="x", message="y") for kind in kinds]
    assert [one.kind for one in choose_told(warnings)] == ["newest_span", "drift", "rows"]
    assert choose_told(warnings[2:3]) == [] and count_warnings(warnings) == (4, 2)


def test_the_page_has_all_of_them():
    checks = [drift(f"feature-{number}", 0.2) for number in range(40)]
    facts = facts_of(*checks, criteria=[FALL])
    told = list_warnings(facts)
    page = Page(render_report(facts.model_copy(update={"warnings": told})))
    assert "Warnings" in page.text and all(warning.subject in page.text for warning in told)
