"""What the report says of training.

Only of stages that happened, in words and numbers that fit the tasks.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from perennial.report.facts import Links, RunFacts
from perennial.report.page import render_report
from schemas import records as r
from tests.perennial.report.facts import (
    BASE,
    CHAMPION,
    OWN,
    STABILISATION,
    falling,
    promoted,
    selection,
)
from tests.perennial.report.pages import Page
from tests.perennial.report.training_facts import (
    FOUND,
    PRETRAINING,
    REUSED,
    SEARCHED,
    designs,
    everything,
    run_fn_training,
    several_tasks,
    stages,
    taxi,
    trial,
    value_training,
)

LINKS = Links(tensorboard="tensorboard/", tuning="tuning.json", designs="designs.json")


def text(facts: RunFacts) -> str:
    return Page(render_report(facts)).text


@pytest.fixture(scope="module")
def page() -> Page:
    """A run with every stage."""
    return Page(render_report(everything(links=LINKS)))


@pytest.fixture(scope="module")
def taxi_text() -> str:
    return text(taxi())


def section(whole: str, start: str, end: str) -> str:
    """What stands between two headings."""
    assert start in whole and end in whole, (start, end)
    return whole[whole.index(start) : whole.index(end, whole.index(start))]


def test_every_stage_in_the_order_it_happened(page: Page) -> None:
    headings = [
        "Pretraining without labels",
        "Weights, before",
        "Hyperparameters:",
        "Design spaces 60",
        "Instances 2",
    ]
    places = [page.text.index(heading) for heading in headings]
    assert places == sorted(places)
    assert {("href", "tensorboard/"), ("href", "tuning.json"), ("href", "designs.json")} <= set(
        page.attributes
    )
    assert "perennial tensorboard PROJECT --run run-20260103-060012" in page.text
    assert page.tags.count("svg") == 11


def test_stages_that_did_not_happen_do_not_look_as_if_they_had() -> None:
    told = text(promoted(selection=selection(["2026-01-03"], CHAMPION)))
    for absent in (
        "Pretraining",
        "Tuning",
        "Hyperparameters",
        "trials",
        "Design spaces",
        "TensorBoard",
        "Kolmogorov",
    ):
        assert absent not in told, absent
    assert "Weight draws seed 18 of 3 draws" in told


@pytest.mark.parametrize("left_out", ["pretraining", "tuning", "designs", "stabilisation"])
def test_a_stage_without_a_record_is_not_mentioned(left_out: str) -> None:
    headings = {
        "pretraining": "Pretraining without",
        "stabilisation": "Weights, before",
        "tuning": "Hyperparameters:",
        "designs": "Design spaces 60",
    }
    found = {
        "pretraining": PRETRAINING,
        "stabilisation": STABILISATION,
        "tuning": SEARCHED,
        "designs": designs(),
    }
    told = text(stages(**(found | {left_out: None})))
    assert [name for name, heading in headings.items() if heading not in told] == [left_out]


def test_pretraining_says_on_what_and_what_goes_on(page: Page) -> None:
    told = section(page.text, "Pretraining without labels", "Weights, before")
    for fact in (
        "1,347 examples, 897 of which have no label",
        "by how many quarter turns",
        "58,240 weights go on",
        "14 weight arrays of each draw",
        "labelled examples of the eval and test splits were left out",
        "held out",
    ):
        assert fact in told, fact


def run_fn_text(*trainings: r.Training, **changes: Any) -> str:
    """The report of a module with `run_fn` without a champion."""
    evaluated = several_tasks(compared=False).model_copy(
        update={"trainings": list(trainings), "candidate": trainings[0].instance.name}
    )
    begun = selection(["2026-01-03"], None).model_copy(update={"stages": []})
    facts = taxi(
        compared=False,
        champion_before=None,
        stabilisation=None,
        evaluation=evaluated,
        selection=begun,
    )
    return text(facts.model_copy(update=changes))


def test_a_module_with_run_fn_owns_its_weights_and_its_loop() -> None:
    told = run_fn_text(run_fn_training(1))
    assert "Weight draws" not in told and "There is no champion yet" in told
    assert "instance-1 (candidate) what run_fn makes 0.330 86.0%" in told
    assert "run_fn trained; each model was measured once" in told
    for absent in (
        "Gradient norm",
        "Best epoch",
        "Learning rate",
        "epoch, whose weights",
        "stop early",
    ):
        assert absent not in told, absent


def test_what_a_tuner_fn_found_is_all_that_is_said_of_hyperparameters() -> None:
    found = r.Hyperparameters(
        learning_rate=0.003, batch_size=32, model={"layers": 3}, source="tuner"
    )
    why = "searched by the module's tuner_fn because there was no search before"
    told = run_fn_text(
        run_fn_training(1), tuning=r.Tuning(outcome="searched", why=why, best=[found], space="5")
    )
    assert "Searched by the module's tuner_fn because there was no search before." in told
    assert (
        "layers 3 the module's own" in told
        and "learning rate" not in told
        and "trials were made" not in told
    )


PATCHED = r.Instance(name="patched-1", seed=17, start="patched")


@pytest.mark.parametrize(
    "note",
    [
        "there is no champion to patch yet; started from the stabilised weights",
        "champion version 3 could not be patched: it has no `d/kernel`; started from the "
        "stabilised weights",
    ],
)
def test_what_could_not_be_patched_does_not_look_as_if_it_had(note: str) -> None:
    instance = value_training(1, 21.0, instance=PATCHED, weights_from="draw", notes=[note])
    evaluated = several_tasks(compared=False).model_copy(update={"trainings": [instance]})
    told = text(taxi(compared=False, champion_before=None, evaluation=evaluated))
    assert (
        "patched-1 (candidate) the chosen draw: not patched" in told
        and "the champion, patched" not in told
    )


def test_run_fn_is_given_the_champion_or_not() -> None:
    assert "the champion, as base_model" in run_fn_text(
        run_fn_training(1, instance=PATCHED, weights_from="champion")
    )
    note = "champion version 3 holds no model of run_fn; run_fn trained anew"
    anew = run_fn_training(1, instance=PATCHED, weights_from="draw", notes=[note])
    assert "what run_fn makes: not patched" in run_fn_text(anew)


def test_an_older_record_does_not_say_what_a_patched_instance_started_from() -> None:
    evaluated = several_tasks(compared=False).model_copy(
        update={"trainings": [value_training(1, 21.0, instance=PATCHED)]}
    )
    told = text(taxi(compared=False, champion_before=None, evaluation=evaluated))
    assert "patched-1 (candidate) the champion, if it could be patched" in told


def draw(seed: int, floor: float, **changes: Any) -> r.WeightDraw:
    values: dict[str, Any] = {
        "gradient_norm": 1.0,
        "gradient_variance": 0.04,
        "dead_units": 0.01,
        "finite": True,
    }
    return r.WeightDraw(seed=seed, losses=falling(2.3, floor, 0.2, 30), **(values | changes))


@pytest.mark.parametrize(
    ("draws", "chosen", "why"),
    [
        ([draw(1, 0.5)], 0, "there was no other"),
        ([draw(1, 0.5), draw(2, 0.2, finite=False)], 0, "no other was healthy"),
        ([draw(1, 0.5), draw(2, 0.2, dead_units=0.9)], 0, "no other was healthy"),
        (
            [draw(1, 0.5), draw(2, 0.2)],
            1,
            "of the 2 healthy ones its loss over the last steps is the lowest",
        ),
        ([draw(1, 0.5), draw(2, 0.499)], 0, "is about equal to the lowest"),
        (
            [draw(1, 0.5, dead_units=0.8), draw(2, 0.2, dead_units=0.7)],
            1,
            "none of which was healthy",
        ),
    ],
)
def test_why_a_draw_goes_on(draws: list[r.WeightDraw], chosen: int, why: str) -> None:
    assert why in text(stages(stabilisation=r.Stabilisation(draws=draws, chosen=chosen)))


def test_health_of_every_draw_is_told(page: Page) -> None:
    told = section(page.text, "Weights, before", "Hyperparameters:")
    assert "18 2.330 0.896 1.71 ± 0.469 0.8% finite chosen" in told
    assert "19 2.520 not a number infinite ± not a number 27.0% not finite" in told
    unprobed = STABILISATION.draws[1].model_copy(update={"dead_units": None})
    assert "–: the model has none" in text(
        stages(stabilisation=r.Stabilisation(draws=[unprobed], chosen=0))
    )


def test_a_search_shows_what_it_chose_and_what_it_tried_best_first(page: Page) -> None:
    told = section(page.text, "Hyperparameters: searched by this run", "Design spaces 60")
    assert (
        "Searched because label (span 2026-01-03) drifted: of 12 trials (2 failed) number 11 is "
        "best" in told
    )
    assert "learning rate 0.0044 0.003" in told and "units 128 build_model's own" in told
    order = [
        told.index(row)
        for row in ("11 learning_rate", "6 learning_rate", "9 learning_rate", "5 learning_rate")
    ]
    assert order == sorted(order)
    assert "2 of them came to nothing" in told and "18 of 24 weights" in told
    assert "Trial 8 with" in told and "model.py:31: build_model must build" in told


def test_a_reused_search_says_whose_it_was_and_shows_no_trials() -> None:
    told = section(
        text(stages(tuning=REUSED)), "Hyperparameters: of an earlier search", "What was not reached"
    )
    assert (
        "run-20260101-060012 found 2 days before are used again. That run ended on 1 January 2026"
        in told
    )
    assert "What it tried" not in told and "learning rate 0.0044 0.003" in told


def test_several_of_the_best_stand_beside_each_other() -> None:
    second = FOUND.model_copy(
        update={"learning_rate": 0.0024, "model": {"units": 96, "dropout": 0.3}}
    )
    told = text(stages(tuning=SEARCHED.model_copy(update={"best": [FOUND, second]})))
    assert "Hyperparameter Best No. 2 In the settings learning rate 0.0044 0.0024 0.003" in told


def test_a_search_in_which_nothing_was_finite_still_renders() -> None:
    failed = [trial(1, None, message="no"), trial(2, math.nan, losses=[math.nan])]
    told = text(stages(tuning=SEARCHED.model_copy(update={"trials": failed, "best": [OWN]})))
    assert "No trial reached a finite loss" in told and "Trial 2" in told


def test_design_spaces_are_told_apart_in_words(page: Page) -> None:
    told = section(page.text, "Design spaces 60", "Instances 2")
    assert "residual has lower errors than plain : D = 0.7, p < 0.001 after correction" in told
    assert (
        "plain and wide : no difference that is more than chance (D = 0.2, p = 0.83 after "
        "correction)" in told
    )
    assert "2 sampled models failed" in told and "ends below 100%" in told
    assert "wide with depth 4, units 64: training loss must be finite" in told


def test_instances_say_how_they_were_trained(taxi_text: str) -> None:
    told = section(taxi_text, "Instances 3", "Serving and deployment")
    for fact in (
        "patched-1 (candidate) the champion, patched",
        "instance-2 the chosen draw",
        "Eval mean absolute error",
        "units 128, dropout 0.55",
        "multi worker, 2 workers",
        "instance-2 : was interrupted, and went on from its checkpoint in epoch 5",
        "instance-2 : workers died and were started again, 1×",
        "patched-1 : 22 of 24 weights came from champion version 3",
    ):
        assert fact in told, fact
    assert "%" not in told


def test_tasks_are_measured_each_in_its_own_way(taxi_text: str) -> None:
    told = section(taxi_text, "The candidate beside the champion", "What landed")
    for fact in (
        "fare (regression; the gate reads this task)",
        "mean absolute error (decides) 2.214 2.431 +0.217 [+0.107, +0.327]",
        "mean squared error 19.83 24.02 no interval",
        "tipped (binary)",
        "accuracy 87.1% 87.4%",
        "AUC 0.921 0.919",
        "largest errors: fare",
        "trip-00007 2026-01-02 87.5 31.2 −56.3",
    ):
        assert fact in told, fact
    assert told.index("trip-00007") < told.index("trip-00014") < told.index("trip-00000")
    assert "taken for" not in told and "probability" not in told


def test_the_gates_metric_leads_and_is_no_percent(taxi_text: str) -> None:
    assert (
        "candidate's mean absolute error 2.214" in taxi_text
        and "+0.217 +0.107 to +0.327" in taxi_text
    )


def test_failed_steps_say_what_was_done_before_and_what_was_not() -> None:
    begun = selection(["2026-01-03"], CHAMPION)
    begun = begun.model_copy(update={"stages": ["pretrain_learner", "stabilise_weights"]})
    facts = BASE | {"outcome": "failed", "reasons": ["a reason"], "selection": begun}
    told = text(RunFacts(**facts, failed_step="pretrain_learner"))
    assert "The run failed in pretrain_learner" in told
    assert (
        "Checks see the log Pretraining not finished Weight draws not reached Training not reached"
        in told
    )
    assert "Deployment not reached" in told and "Tuning" not in told and "Probes" not in told


def test_numbers_that_are_none_are_said() -> None:
    bad = r.Pretraining(
        task="masked_words", examples=5, losses=[math.nan], held_out_losses=[math.inf]
    )
    samples = [s.model_copy(update={"error": math.nan}) for s in designs().samples]
    tests = [
        r.SpaceTest(first="plain", second="wide", statistic=math.nan, p_value=math.nan, better=None)
    ]
    told = text(
        stages(
            pretraining=bad,
            designs=designs().model_copy(update={"samples": samples, "tests": tests}),
        )
    )
    assert (
        "No epoch had a finite loss" in told and "No sampled model reached a finite error" in told
    )
    assert "p is not a number" in told


def test_what_users_name_is_text() -> None:
    evil = '<script>alert("1")</script>'
    best = FOUND.model_copy(update={"model": {evil: evil}})
    trials = [trial(1, 0.3, values={evil: evil}, started_from=evil), trial(2, None, message=evil)]
    sample = r.DesignSample(space=evil, values={evil: 1}, error=None, message=evil)
    good = r.DesignSample(space=evil, values={evil: 1}, error=0.5)
    compared = r.DesignComparison(spaces=[evil], samples=[sample, good], tests=[])
    tuning = SEARCHED.model_copy(update={"best": [best], "trials": trials, "why": evil})
    notes = PRETRAINING.model_copy(update={"notes": [evil]})
    page = Page(render_report(stages(tuning=tuning, designs=compared, pretraining=notes)))
    assert "script" not in page.tags and page.text.count(evil) > 8
