"""The gate: what wins, what loses, and that nothing that was not compared ever passes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.decide_promotion.step import decide_promotion
from perennial.tasks import LOWER_IS_BETTER, METRICS
from schemas.project import GateSettings
from schemas.records import (
    Champion,
    CovariateProbe,
    Decision,
    Difference,
    EvaluatedTask,
    Evaluation,
    Fairness,
    FormerChampion,
    GroupTest,
    NewestSpan,
    Probing,
    SliceMetrics,
    SuspectFeature,
    TrivialPredictor,
)

CHAMPION = Champion(version="3", digest="d", deployment=7)
VALUES = st.floats(-1, 1)
GAINS = st.lists(VALUES, min_size=3, max_size=3).map(sorted)
KINDS = {metric: kind for kind in ("binary", "regression") for metric in METRICS[kind]}
METRIC = st.sampled_from(sorted(KINDS))
LOWER = st.sampled_from(sorted(LOWER_IS_BETTER))
HIGHER = st.sampled_from(sorted(KINDS.keys() - LOWER_IS_BETTER))
GATES = st.one_of(
    st.builds(GateSettings, metric=METRIC, mode=st.just("better")),
    st.builds(GateSettings, metric=METRIC, mode=st.just("not_worse"), margin=st.floats(0, 0.5)),
)
NOT_FINITE = st.sampled_from([math.nan, math.inf, -math.inf])


def difference(gain, metric="accuracy", where="overall", task="tipped"):
    low, middle, high = gain
    return Difference(
        metric=metric,
        task=task,
        slice=where,
        examples=9,
        value=middle,
        low=low,
        high=high,
        confidence=0.95,
    )


def evaluation(
    gain=None, metric="accuracy", value=0.9, champion=CHAMPION, where="overall", not_compared=()
):
    """An evaluation whose candidate has `value` on `metric` and gains (value, low, high) over the champion."""
    kind = KINDS[metric]
    measured = dict.fromkeys(METRICS[kind], 0.5) | {metric: value}
    overall = {"model": "candidate", "task": "tipped", "slice": "overall", "examples": 9}
    trivial = TrivialPredictor(
        answer="always 0", value=0.1, gain=difference((0.1, 0.2, 0.3), metric)
    )
    return Evaluation(
        trivial=trivial,
        candidate="instance-1",
        digest="d",
        champion=champion,
        tasks=[EvaluatedTask(name="tipped", kind=kind)],
        trainings=[],
        examples=9,
        slices=[] if value is None else [SliceMetrics(**overall, values=measured)],
        differences=[] if gain is None else [difference(gain, metric, where)],
        confusion=[],
        mistakes=[],
        not_compared=list(not_compared),
    )


def with_task(found, name="fare", differences=()):
    """The evaluation with a second task, on which the candidate gains so much over the champion."""
    tasks = [*found.tasks, EvaluatedTask(name=name, kind="regression")]
    return found.model_copy(
        update={"tasks": tasks, "differences": [*differences, *found.differences]}
    )


def with_slice(found, gain, where="label=7", examples=200, view=False):
    """The evaluation with a slice on which the candidate gains so much over the champion."""
    low, middle, high = gain
    row = Difference(
        metric=found.differences[0].metric,
        task="tipped",
        slice=where,
        examples=examples,
        value=middle,
        low=low,
        high=high,
        confidence=0.95,
        view=view,
        family=10,
    )
    return found.model_copy(update={"differences": [*found.differences, row]})


def fairness_of(*flags):
    tests = [
        GroupTest(
            feature="sex",
            group=f"g{number}",
            examples=200,
            measure="error_rate",
            value=0.3,
            rest=0.1,
            gap=0.2,
            p_value=0.001,
            flagged=flag,
        )
        for number, flag in enumerate(flags)
    ]
    return Fairness(score="probability of 1", tests=tests, scores=[])


def probing_of(**flags):
    probes = [
        CovariateProbe(
            feature=name,
            probe=probe,
            value=1,
            chance=2,
            spread=0.1,
            p_value=0.001,
            flagged=flag,
            unit="log loss",
        )
        for name, flag in flags.items()
        if flag is not None
        for probe in ("permute", "latent")
    ]
    suspects = [
        SuspectFeature(
            name=name, is_read=True, not_compared="it is constant" if flag is None else None
        )
        for name, flag in flags.items()
    ]
    return Probing(digest="d", metric="accuracy", examples=99, suspects=suspects, covariates=probes)


def promotes(found, **gate):
    return decide_promotion(found, GateSettings(**gate)).promote


@given(GAINS, GATES)
def test_better_promotes_only_above_zero_and_not_worse_only_above_the_margin(gain, gate):
    promoted = decide_promotion(evaluation(gain, gate.metric), gate).promote
    assert promoted == (gain[0] > 0 if gate.mode == "better" else gain[0] >= -gate.margin)


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        ((0.01, 0.02, 0.03), "so it is at least as good as the champion"),
        (
            (-0.015, 0.0, 0.1),
            "so it may be worse than the champion by up to 0.0150 (allowed: 0.0200)",
        ),
        (
            (-0.024, 0.0, 0.1),
            "so it may be worse than the champion by up to 0.0240 (allowed: 0.0200)",
        ),
    ],
)
def test_how_much_worse_it_may_be_and_what_is_allowed_is_said(gain, verdict):
    decision = decide_promotion(evaluation(gain), GateSettings(mode="not_worse", margin=0.02))
    assert decision.criteria[-1].explanation.endswith(verdict)


@given(GATES, METRIC, st.floats(0, 1))
def test_criteria_name_the_metric_that_they_measure(gate, metric, floor):
    found = with_slice(evaluation((0.01, 0.02, 0.03), gate.metric), (0.0, 0.1, 0.2))
    with_floor = gate.model_copy(update={"floors": {metric: floor}, "slice_loss": 0.1})
    criteria = decide_promotion(found, with_floor).criteria
    assert [c.metric for c in criteria if c.kind == "floor"] == list(
        dict.fromkeys([gate.metric, metric])
    )
    assert {c.metric for c in criteria if c.kind != "floor"} == {gate.metric}


@given(GAINS, GATES, st.floats(0, 1))
def test_raising_the_interval_never_turns_promote_into_keep(gain, gate, rise):
    raised = [value + rise for value in gain]
    if decide_promotion(evaluation(gain, gate.metric), gate).promote:
        assert decide_promotion(evaluation(raised, gate.metric), gate).promote


@pytest.mark.parametrize(
    "gain, better, not_worse",
    [
        ((0.01, 0.02, 0.03), True, True),
        ((-0.03, -0.02, -0.01), False, False),
        ((0.0, 0.0, 0.0), False, True),
        ((-0.001, 0.01, 0.02), False, False),
    ],
    ids=["win", "loss", "tie", "not shown"],
)
def test_win_loss_and_tie(gain, better, not_worse):
    assert promotes(evaluation(gain), mode="better") is better
    assert promotes(evaluation(gain), mode="not_worse") is not_worse


@pytest.mark.parametrize("low, promoted", [(-0.0499, True), (-0.05, True), (-0.0501, False)])
def test_margin(low, promoted):
    assert promotes(evaluation((low, 0.0, 0.1)), mode="not_worse", margin=0.05) is promoted


@given(GAINS, GATES, NOT_FINITE, st.integers(0, 2))
def test_a_difference_that_is_no_number_keeps_the_champion(gain, gate, broken, place):
    gain = [*gain[:place], broken, *gain[place + 1 :]]
    decision = decide_promotion(evaluation(gain, gate.metric), gate)
    assert not decision.promote and any("not compared" in reason for reason in decision.reasons)


@given(GATES, NOT_FINITE)
def test_a_metric_that_is_no_number_keeps_the_champion_or_none(gate, broken):
    for champion in (CHAMPION, None):
        decision = decide_promotion(
            evaluation((0.1, 0.2, 0.3), gate.metric, broken, champion), gate
        )
        assert not decision.promote and any(
            "could not be measured" in reason for reason in decision.reasons
        )


@given(GATES)
def test_a_missing_metric_keeps_the_champion_or_none(gate):
    for champion in (CHAMPION, None):
        assert not decide_promotion(
            evaluation((0.1, 0.2, 0.3), gate.metric, None, champion), gate
        ).promote


def test_a_champion_that_cannot_be_compared_names_the_way_out():
    way_out = "`perennial promote PROJECT VERSION` makes this candidate the champion"
    silent = evaluation(None, not_compared=["champion version 3 could not be evaluated"])
    (reason,) = decide_promotion(silent, GateSettings()).reasons[-1:]
    assert reason.startswith("not compared: champion version 3 could not be evaluated. ")
    assert way_out in reason
    undefined = evaluation([math.nan] * 3, not_compared=["there is too little"])
    assert not any(
        way_out in reason for reason in decide_promotion(undefined, GateSettings()).reasons
    )


@pytest.mark.parametrize(
    ("metric", "value", "floor", "words"),
    [
        ("auc", 0.83, 0.5, "AUC is 0.8300, at least 0.5000"),
        ("auc", 0.43, 0.5, "AUC is 0.4300, below the floor of 0.5000"),
        ("log_loss", 0.2, 0.4, "log loss is 0.2000, at most 0.4000"),
        ("log_loss", 0.6, 0.4, "log loss is 0.6000, above the limit of 0.4000"),
    ],
)
def test_a_floor_is_told_by_what_was_asked(metric, value, floor, words):
    first = evaluation(None, metric, value, champion=None)
    decision = decide_promotion(first, GateSettings(metric=metric, floors={metric: floor}))
    assert f"candidate's {words}" in decision.reasons


@given(GAINS, GATES)
def test_a_champion_that_was_not_compared_keeps_its_place(gain, gate):
    silent = evaluation(
        None, gate.metric, not_compared=["champion version 3 could not be evaluated"]
    )
    other = next(metric for metric in METRICS[KINDS[gate.metric]] if metric != gate.metric)
    of_another_metric = silent.model_copy(update={"differences": [difference(gain, other)]})
    of_another_task = with_task(silent, differences=[difference(gain, gate.metric, task="fare")])
    missing = [
        silent,
        of_another_metric,
        of_another_task,
        evaluation(gain, gate.metric, where="label=3"),
    ]
    for found in missing:
        decision = decide_promotion(found, gate)
        assert not decision.promote and "not compared" in decision.reasons[0]
        assert set(found.not_compared) <= set(decision.not_compared)


@given(st.floats(0, 1), st.floats(0, 1), HIGHER)
def test_floor_of_a_metric_where_more_is_better(value, floor, metric):
    for champion, gain in ((None, None), (CHAMPION, (0.1, 0.2, 0.3))):
        assert promotes(
            evaluation(gain, metric, value, champion), metric=metric, floors={metric: floor}
        ) is (value >= floor)


@given(st.floats(0, 5), st.floats(0, 5), LOWER)
def test_floor_of_a_metric_where_less_is_better(value, floor, metric):
    for champion, gain in ((None, None), (CHAMPION, (0.1, 0.2, 0.3))):
        assert promotes(
            evaluation(gain, metric, value, champion), metric=metric, floors={metric: floor}
        ) is (value <= floor)


@given(GAINS, GATES, GAINS)
def test_another_task_is_told_and_has_no_say(gain, gate, other):
    alone = evaluation(gain, gate.metric)
    both = with_task(alone, differences=[difference(other, gate.metric, task="fare")])
    decision = decide_promotion(both, gate)
    assert decision.promote == decide_promotion(alone, gate).promote
    assert "task `fare` is measured, but the gate reads `tipped` only" in decision.not_compared


@given(GAINS, st.floats(0, 1), GATES)
def test_a_floor_never_promotes_what_would_be_kept_without_it(gain, floor, gate):
    with_floor = gate.model_copy(update={"floors": {gate.metric: floor}})
    found = evaluation(gain, gate.metric)
    assert decide_promotion(found, gate).promote or not decide_promotion(found, with_floor).promote


def test_the_first_candidate_serves_when_it_reaches_the_floor():
    decision = decide_promotion(
        evaluation(champion=None, not_compared=["there is no champion yet"]), GateSettings()
    )
    assert decision.promote and "there was no champion" in decision.reasons[0]
    assert decision.not_compared == ["there is no champion yet", "no floor is set (gate.floors)"]


@given(GAINS, GATES, st.booleans())
def test_a_decision_gives_its_reasons(gain, gate, with_champion):
    decision = decide_promotion(
        evaluation(gain, gate.metric, champion=CHAMPION if with_champion else None), gate
    )
    assert decision.reasons and all(decision.reasons)
    assert decision.promote == all(criterion.passed for criterion in decision.criteria)
    assert decision.promote or any(not criterion.passed for criterion in decision.criteria)


def test_the_decision_survives_the_file(tmp_path):
    decision = decide_promotion(evaluation((0.01, 0.02, 0.03)), GateSettings())
    decision.write(tmp_path / "decision")
    assert Decision.read(tmp_path / "decision") == decision


def test_a_small_gain_is_not_shown_as_zero():
    decision = decide_promotion(
        evaluation((0.00001, 0.00002, 0.00003), "mean_squared_error"),
        GateSettings(metric="mean_squared_error"),
    )
    assert (
        "gain in mean squared error +2.0e-05, 95% interval +1.0e-05 to +3.0e-05"
        in decision.reasons[1]
    )


WON = (0.01, 0.02, 0.03)


def with_trivial(found, gain, **changes):
    """The evaluation of a candidate that gains so much over the best constant answer."""
    row = difference(gain, found.trivial.gain.metric).model_copy(update=changes)
    return found.model_copy(
        update={"trivial": found.trivial.model_copy(update={"value": 0.99, "gain": row})}
    )


@given(GAINS, GATES)
def test_a_first_champion_is_shown_to_be_better_than_the_best_constant_answer(gain, gate):
    found = with_trivial(evaluation(None, gate.metric, champion=None), gain)
    decision = decide_promotion(found, gate)
    assert decision.promote is (gain[0] > 0)
    assert decision.promote or "always 0" in decision.reasons[0]
    warned = decide_promotion(found, gate.model_copy(update={"trivial": "warn"}))
    assert warned.promote and bool(warned.warnings) is (gain[0] <= 0)


@given(GAINS, GAINS, GATES)
def test_beside_a_champion_the_best_constant_answer_only_warns(gain, over_constant, gate):
    decision = decide_promotion(with_trivial(evaluation(gain, gate.metric), over_constant), gate)
    assert decision.promote == decide_promotion(evaluation(gain, gate.metric), gate).promote
    assert bool(decision.warnings) is (over_constant[0] <= 0)


def test_a_first_candidate_that_was_not_compared_with_the_constant_does_not_serve():
    first = evaluation(champion=None)
    one_class = with_trivial(first, [math.nan] * 3, reason="one class only (1)")
    for found, why in (
        (one_class, "the test split holds one class only (1)"),
        (first.model_copy(update={"trivial": None}), "run with --retrain"),
    ):
        decision = decide_promotion(found, GateSettings())
        assert not decision.promote and why in decision.reasons[0]
        assert not decision.worth_repeating


@given(GAINS, GAINS, GATES)
def test_a_champion_that_is_worse_than_an_earlier_one_is_a_warning_and_no_more(
    gain, over_former, gate
):
    plain = evaluation(gain, gate.metric)
    rows = [
        FormerChampion(version="1", gain=difference((0.5, 0.6, 0.7), gate.metric)),
        FormerChampion(version="2", gain=difference(over_former, gate.metric)),
    ]
    decision = decide_promotion(plain.model_copy(update={"former": rows}), gate)
    assert decision.promote == decide_promotion(plain, gate).promote
    warned = [each for each in decision.warnings if each.kind == "former"]
    assert bool(warned) is (over_former[2] < 0)
    for each in warned:
        assert "champion version 3 is worse than version 2" in each.explanation
        assert "`perennial promote PROJECT 2`" in each.explanation
        assert each.explanation not in decision.reasons  # it is told with the run's warnings


def test_a_metric_that_is_not_defined_is_named_with_its_cause():
    cause = "one class only (1)"
    nothing = [math.nan] * 3
    for champion in (CHAMPION, None):
        found = evaluation(nothing, "auc", math.nan, champion)
        measured = found.slices[0].model_copy(update={"undefined": {"auc": cause}})
        row = found.differences[0].model_copy(update={"reason": cause})
        found = found.model_copy(update={"slices": [measured], "differences": [row]})
        decision = decide_promotion(found, GateSettings(metric="auc", floors={"auc": 0.0}))
        assert not decision.promote
        assert f"candidate's AUC is not defined: the test split holds {cause}" in decision.reasons
        assert f"AUC is not defined: the test split holds {cause}" in decision.not_compared
        not_compared = f"not compared: the test split holds {cause}"
        assert (not_compared in decision.reasons) is (champion is CHAMPION)


def test_slices_on_which_a_metric_is_not_defined_are_listed_by_their_cause():
    found = evaluation(WON, "auc")
    for where, cause in (("label=0", "one class only (0)"), ("label=1", "one class only (1)")):
        found = with_slice(found, [math.nan] * 3, where)
        rows = [*found.differences[:-1], found.differences[-1].model_copy(update={"reason": cause})]
        found = found.model_copy(update={"differences": rows})
    for name in ("0", "1"):
        line = f"AUC is not defined on 1 slice: label={name}: each holds one class only ({name})"
        assert line in decide_promotion(found, GateSettings(metric="auc")).not_compared


@given(GAINS, st.floats(0, 0.5))
def test_a_slice_that_is_shown_to_lose_more_than_tolerated_keeps_the_champion(gain, tolerated):
    found = with_slice(evaluation(WON), gain)
    lost = gain[1] < -tolerated and gain[2] < 0
    decision = decide_promotion(found, GateSettings(slice_loss=tolerated))
    assert decision.promote is not lost
    if lost:
        assert any("label=7 loses" in reason for reason in decision.reasons)


@given(GAINS)
def test_slices_do_not_decide_unless_they_are_asked_to_and_that_is_told(gain):
    decision = decide_promotion(with_slice(evaluation(WON), gain), GateSettings())
    assert decision.promote and any(
        "gate.slice_loss is not set" in said for said in decision.not_compared
    )


def test_views_decide_as_slices_do():
    found = with_slice(evaluation(WON), (-0.3, -0.2, -0.1), "newest span", view=True)
    assert not promotes(found, slice_loss=0.05)


def test_a_slice_without_an_interval_does_not_decide_and_is_told():
    found = with_slice(evaluation(WON), (math.nan, -0.5, math.nan), examples=4)
    decision = decide_promotion(found, GateSettings(slice_loss=0.05))
    assert (
        decision.promote
        and "too few examples for an interval on 1 slice: label=7 (4)" in decision.not_compared
    )
    assert [(c.compared, c.passed) for c in decision.criteria if c.kind == "slice"] == [
        (False, False)
    ]
    assert ["none of 1 slices" in warning.explanation for warning in decision.warnings] == [True]


def test_hundreds_of_slices_without_an_interval_are_counted_in_one_line():
    found = evaluation(WON)
    for number in range(12):
        found = with_slice(found, (math.nan, -0.5, math.nan), f"label={number}", examples=4)
    (said,) = (
        line for line in decide_promotion(found, GateSettings()).not_compared if "too few" in line
    )
    assert "on 12 slices: label=0 (4)" in said and said.endswith("label=9 (4) and 2 more")


def test_slices_that_could_lose_more_are_counted():
    found = with_slice(evaluation(WON), (-0.3, -0.01, 0.3))
    criterion = next(
        c
        for c in decide_promotion(found, GateSettings(slice_loss=0.1)).criteria
        if c.kind == "slice"
    )
    assert (
        criterion.passed
        and "for 1 of them such a loss cannot be ruled out" in criterion.explanation
    )


def test_slices_of_another_instance_or_task_have_no_say():
    found = with_slice(evaluation(WON), (-0.9, -0.8, -0.7))
    row = found.differences[-1]
    for change in ({"model": "instance-2"}, {"task": "fare"}):
        others = found.model_copy(
            update={"differences": [found.differences[0], row.model_copy(update=change)]}
        )
        assert promotes(others, slice_loss=0.05)


@given(GAINS, GAINS)
def test_the_serving_distribution_decides_where_it_is_to(overall, served):
    found = with_slice(evaluation(overall), served, "serving distribution", view=True)
    assert promotes(found, distribution="serving") is (served[0] > 0)
    assert promotes(found, distribution="test") is (overall[0] > 0)


def test_without_the_serving_distribution_nothing_is_promoted_on_it():
    decision = decide_promotion(
        evaluation(WON, not_compared=["serving distribution: no serving log"]),
        GateSettings(distribution="serving"),
    )
    assert (
        not decision.promote
        and "no serving log" in decision.reasons[0]
        and not decision.worth_repeating
    )


@pytest.mark.parametrize("flags, flagged", [((False, False), False), ((False, True), True)])
def test_a_flagged_group_blocks_or_warns(flags, flagged):
    found = evaluation(WON).model_copy(update={"fairness": fairness_of(*flags)})
    blocked, warned = (
        decide_promotion(found, GateSettings(fairness=what)) for what in ("block", "warn")
    )
    assert blocked.promote is not flagged and warned.promote
    assert bool(warned.warnings) is flagged
    if flagged:
        assert any(
            "error rate of sex=g1 0.3000 beside 0.1000" in reason for reason in blocked.reasons
        )
        assert warned.warnings[0].explanation.startswith("groups differ")
        assert not any("groups differ" in reason for reason in warned.reasons)


def newest(change, low, high, model="champion", metric="accuracy", older=0.86):
    """A model that gained so much on the newest span; a loss that gained is smaller."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return NewestSpan(
        model=model,
        task="tipped",
        metric=metric,
        span="2026-01-09",
        examples=200,
        older_examples=800,
        newest=older + sign * change,
        older=older,
        change=change,
        low=low,
        high=high,
        confidence=0.95,
    )


FALLS = {
    "a fall": (newest(-0.3, -0.37, -0.23), True),
    "a fall that is tolerated": (newest(-0.04, -0.05, -0.03), False),
    "a fall that chance explains": (newest(-0.1, -0.21, 0.01), False),
    "a rise": (newest(0.1, 0.05, 0.15), False),
    "a loss that rose by a half": (newest(-0.5, -0.6, -0.4, metric="log_loss", older=1.0), True),
    "a loss that rose a little": (newest(-0.2, -0.3, -0.1, metric="log_loss", older=9.0), False),
}


@pytest.mark.parametrize(("row", "fell"), FALLS.values(), ids=FALLS)
def test_a_fall_on_the_newest_span_warns_or_by_a_setting_blocks(row, fell):
    found = evaluation(WON).model_copy(update={"newest": [row]})
    blocked, warned = (
        decide_promotion(found, GateSettings(newest_span=what)) for what in ("block", "warn")
    )
    assert blocked.promote is not fell and warned.promote
    assert [warning.kind for warning in warned.warnings] == ["newest_span"] * fell
    assert not blocked.worth_repeating  # other draws change nothing of it


def test_a_fall_names_the_span_the_numbers_and_what_the_candidate_does_there():
    rows = [newest(-0.3, -0.37, -0.23), newest(-0.2, -0.3, -0.1, model="candidate")]
    found = evaluation(WON).model_copy(update={"newest": rows})
    (warning,) = decide_promotion(found, GateSettings()).warnings
    assert warning.explanation == (
        "champion version 3's accuracy falls from 0.8600 to 0.5600 on the newest span, 2026-01-09 "
        "(200 examples); the candidate's is 0.6600 there"
    )


def test_without_a_champion_the_candidate_is_judged_on_the_newest_span():
    found = evaluation(champion=None).model_copy(
        update={"newest": [newest(-0.3, -0.37, -0.23, model="candidate")]}
    )
    assert not promotes(found, newest_span="block") and promotes(found)


def test_groups_that_could_not_be_compared_do_not_pass():
    found = evaluation(WON).model_copy(update={"fairness": fairness_of()})
    assert not promotes(found, fairness="block")
    assert decide_promotion(found, GateSettings(fairness="warn")).warnings


@pytest.mark.parametrize("flag", [True, False, None], ids=["flagged", "innocent", "not probed"])
@pytest.mark.parametrize("champion", [CHAMPION, None])
def test_a_suspect_feature_blocks_or_warns_and_not_probing_it_is_no_pass(flag, champion):
    found, probing = evaluation(WON, champion=champion), probing_of(scanner=flag)
    blocked, warned = (
        decide_promotion(found, GateSettings(covariates=what), probing)
        for what in ("block", "warn")
    )
    assert blocked.promote is (flag is False) and warned.promote
    assert bool(warned.warnings) is (flag is not False)


@given(st.sampled_from(["accuracy", "log_loss", "auc"]), st.floats(0, 1), st.floats(0, 1))
def test_every_floor_counts(metric, value, floor):
    found = evaluation(WON, metric, value)
    passed = value <= floor if metric in LOWER_IS_BETTER else value >= floor
    first = found.model_copy(update={"differences": [difference(WON, "accuracy")]})
    assert promotes(first, metric="accuracy", floors={metric: floor}) is passed


@given(GAINS, GATES)
def test_only_what_was_compared_is_worth_repeating(gain, gate):
    decision = decide_promotion(evaluation(gain, gate.metric), gate)
    assert decision.worth_repeating is not decision.promote
    assert not decide_promotion(evaluation(None, gate.metric), gate).worth_repeating


@given(GAINS)
def test_a_difference_tells_its_numbers(gain):
    criterion = decide_promotion(evaluation(gain), GateSettings()).criteria[-1]
    assert (criterion.low, criterion.value, criterion.high) == tuple(gain)
    assert criterion.limit == 0 and criterion.confidence == 0.95
