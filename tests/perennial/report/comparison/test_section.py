"""What the report says of the judgement.

Verdicts with their numbers, how sure they are, and what was not compared.
"""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from perennial.report.comparison.plots import slice_label
from perennial.report.facts import RunFacts
from perennial.report.page import render_report
from schemas import records as r
from schemas.project import GateSettings
from tests.perennial.report.facts import CLASSES, TRAINED, promoted
from tests.perennial.report.judgement_facts import (
    BETTER,
    FAIRNESS,
    FLOOR,
    LOST,
    SERVING,
    SUSPECT,
    UNFAIR,
    UNKNOWN_LOSS,
    calibration,
    difference,
    group_test,
    judged,
    judged_evaluation,
    quantiles,
)
from tests.perennial.report.pages import Page
from tests.perennial.report.training_facts import several_tasks, taxi


def text(facts: RunFacts) -> str:
    return Page(render_report(facts)).text


def told(**measured: Any) -> str:
    """The page of a run of which little is known but what was measured so."""
    nothing = {
        "calibration": [],
        "serving": None,
        "fairness": None,
        "confusion": [],
        "mistakes": [],
        "trainings": [],
    }
    return text(
        judged(
            evaluation=judged_evaluation(**(nothing | measured)), probing=None, stabilisation=None
        )
    )


@pytest.fixture(scope="module")
def page() -> Page:
    selection = TRAINED["selection"].model_copy(update={"attempt": 2, "seed": 23})
    return Page(render_report(judged(selection=selection)))


def test_verdict_decision_and_comparison_come_before_how_it_came_about(page: Page) -> None:
    headings = [
        "Champion version 3 stays",
        "The decision",
        "The candidate beside",
        "What the answers rest on",
    ]
    headings += ["What landed", "What was checked", "What was trained"]
    places = [
        page.text.rindex(heading) if heading == "What was trained" else page.text.index(heading)
        for heading in headings
    ]
    assert places == sorted(places)
    assert page.tags.count("svg") > 15


def test_a_headline_tells_the_one_reason_in_short(page: Page) -> None:
    lost = "on site=Harbour clinic the candidate loses 7.1 points of accuracy, and 5.0 is tolerated"
    assert f"Champion version 3 stays: {lost}." in page.words
    below = FLOOR.model_copy(update={"passed": False, "value": 0.65})
    assert "stays: candidate's accuracy is 65.0%, below the floor of 70.0%." in text(
        judged(below, BETTER)
    )
    unsure = BETTER.model_copy(update={"passed": False, "value": 0.004, "low": -0.01})
    assert "the candidate is not shown to be better (accuracy +0.4 points)" in text(
        judged(FLOOR, unsure)
    )
    assert "stays: candidate's log loss could not be measured." in text(judged(FLOOR, UNKNOWN_LOSS))
    both = text(judged(below, unsure, UNKNOWN_LOSS, UNFAIR))
    assert "did not pass 3 of the gate's 3 criteria, and 1 of these could not be compared." in both


def test_every_criterion_with_its_numbers_and_verdict_those_that_did_not_pass_first() -> None:
    shown = text(judged(FLOOR, BETTER, SUSPECT, UNKNOWN_LOSS, LOST))
    for row in [
        "slice site=Harbour clinic ✕ failed −7.1 points [−10.3, −3.9] at 95% at least −5.0 "
        "site=Harbour clinic loses",
        "candidate's log loss ? not compared – at most 0.500 candidate's log loss could not be "
        "measured",
        "hidden covariates ! warns – – the answers rest on the suspect feature scanner",
        "candidate's accuracy ✓ passed 92.6% at least 70.0%",
        "against champion version 3 ✓ passed +2.1 points [+0.7, +3.5] at 95% above 0",
    ]:
        assert row in shown, row
    places = [
        shown.index(sign) for sign in ("✕ failed", "? not compared", "! warns", "✓ passed 92")
    ]
    assert places == sorted(places)
    assert "Decision keep, 1 warning" in shown


def test_losses_are_asked_to_be_at_most_and_errors_are_no_percents() -> None:
    gate = GateSettings(
        metric="mean_absolute_error",
        floors={"mean_absolute_error": 3.0},
        mode="not_worse",
        margin=0.2,
    )
    floor = FLOOR.model_copy(
        update={"name": "candidate's mean absolute error", "metric": "mean_absolute_error"}
    )
    floor = floor.model_copy(update={"value": 2.214, "limit": 3.0})
    lasting = BETTER.model_copy(
        update={
            "metric": "mean_absolute_error",
            "value": -0.1,
            "low": -0.15,
            "high": 0.05,
            "limit": -0.2,
            "confidence": 0.9,
        }
    )
    decision = r.Decision(promote=True, criteria=[floor, lasting], reasons=[], not_compared=[])
    shown = text(taxi(gate=gate, decision=decision))
    assert "candidate's mean absolute error ✓ passed 2.214 at most 3" in shown
    assert "✓ passed −0.1 [−0.15, +0.05] at 90% at least −0.2" in shown


def test_an_older_record_without_a_metric_shows_its_numbers() -> None:
    older = [row.model_copy(update={"metric": None}) for row in (FLOOR, BETTER)]
    shown = text(judged(*older))
    assert "candidate's accuracy ✓ passed 0.926 0.7 candidate's accuracy" in shown
    assert "against champion version 3 ✓ passed +2.1 points [+0.7, +3.5] at 95% above 0" in shown


def test_overall_then_views_then_slices_and_their_limits(page: Page) -> None:
    drawn = [
        "overall (2,012)",
        "newest span (302)",
        "serving distribution (2,012)",
        "drifted: exposure (411)",
    ]
    drawn += ["site=North (911)", "site=Mobile unit (21)"]
    places = [page.text.rindex(row) for row in drawn]
    assert places == sorted(places)
    assert (
        "cross: too few examples for an interval" in page.text
        and "Dashed: the loss that the gate tolerates" in page.text
    )
    table = page.text[page.text.index("All metrics by view and slice") :]
    assert (
        table.index("newest span 302")
        < table.index("site=North 911")
        < table.index("site=Mobile unit 21")
    )
    assert "−4.8 points no interval" in table


def test_how_sure_the_intervals_are_is_said_in_plain_words(page: Page) -> None:
    assert (
        "Those of slices and views are widened, so that all 8 of them hold together." in page.text
    )
    assert "The overall one is widened for 4 comparisons." in page.text
    assert "drawing whole groups of examples again and again (640 groups overall)" in page.text
    alone = told(differences=[difference("overall", 2012, 0.02, False, family=1, clusters=None)])
    assert "Intervals hold with 95% confidence." in alone
    assert "widened" not in alone.replace("widened for it", "") and "whole groups" not in alone
    same = [difference(name, 2012, 0.02, False, family=6) for name in ("overall", "site=North")]
    assert "They are widened, so that all 6 comparisons made hold together." in told(
        differences=same
    )


def test_other_instances_stand_in_a_table_of_their_own(page: Page) -> None:
    assert (
        "Other instances beside the champion Instance Metric Difference [interval] instance-1 "
        "accuracy +0.7 points" in page.text
    )
    assert "accuracy (decides) 92.6% 90.5% +2.1 points" in page.text, (
        "another instance's numbers are not the candidate's"
    )


def test_a_gate_that_reads_serving_says_so() -> None:
    gate = GateSettings(metric="accuracy", distribution="serving")
    shown = text(judged(gate=gate))
    assert "accuracy, serving distribution (decides) 89.1% 86.5% +2.6 points" in shown
    assert "accuracy (decides) 92.6%" not in shown
    assert "champion's accuracy, same 2,012 examples as serving sees them 86.5%" in shown
    unmeasured = judged_evaluation(
        slices=[], differences=[difference("overall", 2012, 0.02, False)]
    )
    assert "(decides)" not in text(judged(gate=gate, evaluation=unmeasured, probing=None))


def test_what_serving_sees_and_how_much_that_rests_on(page: Page) -> None:
    for fact in (
        "by label shift",
        "4,812 served requests",
        "as 1,123 unweighted",
        "served (estimated)",
        "tested",
    ):
        assert fact in page.text, fact
    features = SERVING.model_copy(update={"method": "covariate_shift", "served": {}, "tested": {}})
    shown = told(serving=features)
    assert "features are distributed otherwise there" in shown and "served (estimated)" not in shown
    refused = "serving distribution: 41 effective examples are fewer than 100"
    shown = told(not_compared=[refused])
    assert refused in shown and "As serving sees it" not in shown


def test_calibration_of_both_models_with_error_interval_and_temperature(page: Page) -> None:
    assert "Candidate: expected calibration error 0.5% [0.4%, 0.7%]." in page.text
    assert "divided by a temperature of 1.42, which makes it less sure." in page.text
    assert (
        "Champion: expected calibration error 3.6% [2.5%, 5.1%]. On average it is too sure: 79.4% "
        "sure" in page.text
    )
    assert page.text.count("temperature of") == 1
    unsure = calibration("candidate", -0.3, 0.7)
    shown = told(calibration=[unsure])
    assert (
        "which makes it more sure" in shown
        and "not sure enough" in shown
        and "Champion: expected" not in shown
    )
    empty = told(
        calibration=[unsure.model_copy(update={"bins": [], "error": math.nan, "low": math.nan})]
    )
    assert (
        "No bin holds an example" in empty and "expected calibration error not a number." in empty
    )


def test_calibration_of_several_tasks_is_told_apart() -> None:
    found = several_tasks().model_copy(
        update={"calibration": [calibration("candidate", 0.1, task="tipped")]}
    )
    shown = text(taxi(evaluation=found))
    assert (
        "Is it as sure as it is right? tipped" in shown and "fare Candidate: expected" not in shown
    )


def test_groups_flagged_ones_first_in_plain_words(page: Page) -> None:
    said = page.text
    assert "2 comparisons of 6 found a difference that is larger than is tolerated" in said
    assert "site=Harbour clinic: the error rate is 17.2%, 6.4% for all others (p < 0.001)" in said
    assert "site=Harbour clinic scores (means) 378 0.52 0.28 0.31 p < 0.001 ! differs" in said
    table = said[said.index("All comparisons of groups") :]
    assert table.index("site=Harbour clinic error rate") < table.index("site=North scores")
    assert "sex=other: 11 examples are fewer than 50" in said


def test_groups_without_a_difference_or_without_examples() -> None:
    alike = FAIRNESS.model_copy(update={"tests": [group_test("North", "error_rate", 0.06, 0.07)]})
    shown = told(fairness=alike)
    assert (
        "✓ 1 comparison found no difference" in shown
        and "a comparison found a difference" not in shown
    )
    shown = told(fairness=r.Fairness(score="probability", tests=[], scores=[]))
    assert (
        "No group had enough examples to be compared." in shown and "All comparisons" not in shown
    )


def test_thirty_groups_and_a_hundred_slices_stay_readable() -> None:
    groups = [f"clinic {number:02d} of a very long name indeed" for number in range(40)]
    fairness = r.Fairness(
        score="probability of class 1",
        tests=[group_test(name, "error_rate", 0.1, 0.09) for name in groups],
        scores=[
            r.ScoreDistribution(
                feature="site", group=name, examples=50 + n, quantiles=quantiles(0.0, 1.0)
            )
            for n, name in enumerate(groups)
        ],
    )
    slices = [difference(f"ward={n}", 100, 0.05 - n / 1000, False, family=100) for n in range(100)]
    found = judged_evaluation(
        fairness=fairness, differences=[difference("overall", 2012, 0.0, False), *slices]
    )
    page = Page(render_report(judged(evaluation=found, probing=None)))
    assert "10 groups not drawn" in page.text and "10 more comparisons" in page.text
    assert (
        "71 rows not drawn; they stand in the table" in page.text and "ward=99 (100)" in page.text
    )
    assert re.search(r"ward=0 100 accuracy – – \+5\.0 points", page.text)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_said_and_drawn_nowhere(value: float) -> None:
    bad = {"value": value, "rest": value, "gap": value, "p_value": value}
    scores = [row.model_copy(update={"quantiles": [value] * 21}) for row in FAIRNESS.scores]
    fairness = FAIRNESS.model_copy(
        update={"tests": [t.model_copy(update=bad) for t in FAIRNESS.tests], "scores": scores}
    )
    numbers = {"value": value, "low": value, "high": value, "limit": value, "confidence": None}
    bins = [
        row.model_copy(update={"confidence": value, "accuracy": value})
        for row in calibration("candidate", 0).bins
    ]
    calibrated = calibration("candidate", 0, value).model_copy(
        update={"bins": bins, "error": value}
    )
    serving = SERVING.model_copy(
        update={"effective": value, "served": {"0": value}, "tested": {"0": value}}
    )
    found = judged_evaluation(
        fairness=fairness,
        calibration=[calibrated],
        serving=serving,
        differences=[difference("overall", 9, value, False, low=value, high=value)],
    )
    criteria = [row.model_copy(update=numbers) for row in (FLOOR, BETTER, LOST, UNFAIR)]
    shown = text(judged(*criteria, evaluation=found, probing=None))
    for fact in (
        "No difference was a finite number",
        "No bin holds",
        "No score was a finite",
        "No share was a finite",
    ):
        assert fact in shown, fact


def test_what_users_name_is_text_everywhere() -> None:
    evil = '<script>alert("1")</script>$x$\x00'
    seen = evil.strip("\x00")
    tests = [test.model_copy(update={"feature": evil, "group": evil}) for test in FAIRNESS.tests]
    scores = [row.model_copy(update={"feature": evil}) for row in FAIRNESS.scores]
    fairness = r.Fairness(
        score=evil, tests=tests, scores=[scores[0].model_copy(update={"group": evil}), scores[1]]
    )
    found = judged_evaluation(
        fairness=fairness,
        serving=SERVING.model_copy(update={"served": {evil: 1.0}, "tested": {evil: 1.0}}),
        tasks=[CLASSES.model_copy(update={"name": evil})],
        calibration=[calibration("candidate", 0.1, task=evil)],
        differences=[
            difference(evil, 99, 0.1, True, task=evil),
            difference("overall", 9, 0.1, False, model=evil, task=evil),
        ],
    )
    criterion = LOST.model_copy(update={"name": evil, "explanation": evil})
    page = Page(render_report(judged(criterion, evaluation=found)))
    assert "script" not in page.tags and page.text.count(seen) > 10


def test_a_repetition_is_named_and_a_first_run_is_not_called_one(page: Page) -> None:
    assert (
        "xray · run report · repetition 2" in page.text
        and "2, with other draws (from seed 23)" in page.text
    )
    assert "repetition" not in told().lower()


def test_records_of_earlier_versions_and_first_runs_show_nothing_that_was_not_measured() -> None:
    shown = text(promoted())
    for absent in (
        "As serving sees it",
        "as sure as",
        "treated alike",
        "answers rest on",
        "Other instances",
        "Probes",
    ):
        assert absent not in shown, absent
    assert "accuracy not worse ✓ passed – –" in shown
    own = [row for row in judged_evaluation().slices if row.model == "candidate"]
    first = judged_evaluation(
        champion=None, differences=[], slices=own, calibration=[calibration("candidate", 0.1)]
    )
    shown = text(judged(FLOOR, evaluation=first, champion_before=None))
    assert "There is no champion yet" in shown and "Candidate: expected calibration error" in shown
    assert "Differences by slice" not in shown


@pytest.mark.usefixtures("drawn_anew")
def test_the_same_facts_give_the_same_bytes() -> None:
    assert render_report(judged()) == render_report(judged())


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("site=North", "site=North"),
        ("payment_type=Credit Card, trip_start_day=1", "paymen…=Credit Card, trip_s…=1"),
        ("company=Taxi Affiliation Services, Inc", "company=Taxi…Services, Inc"),
    ],
)
def test_values_of_a_long_cross_stay_readable(name: str, label: str) -> None:
    assert slice_label(name) == label


def test_examples_that_count_by_a_feature_are_told():
    weighted = CLASSES.model_copy(update={"example_weight": "passengers"})
    assert "Examples count by their passengers" in told(tasks=[weighted])
    assert "Examples count by" not in told(tasks=[CLASSES])
