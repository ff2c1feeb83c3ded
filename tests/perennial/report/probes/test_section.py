"""What the report says of a candidate's answers: suspects, importances, costs, attributions."""

from __future__ import annotations

import math
from typing import Any

import pytest

from perennial.report.facts import RunFacts
from perennial.report.page import render_report
from perennial.report.probes.plots import element_map
from schemas import records as r
from tests.perennial.report.facts import BASE
from tests.perennial.report.judgement_facts import COVARIATES, PROBING, importance, lungs, probe
from tests.perennial.report.pages import Page
from tests.perennial.report.training_facts import stages


def told(**changes: Any) -> str:
    """The page of a run that failed after its probes."""
    return Page(render_report(stages(probing=PROBING.model_copy(update=changes)))).text


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_report(stages(probing=PROBING)))


def test_a_learned_suspect_is_the_first_thing_said(page: Page) -> None:
    said = page.text[page.text.index("What the answers rest on") :]
    assert said.index("! 1 suspect feature found in the candidate: scanner") < said.index(
        "scanner shuffled"
    )
    for row in [
        "scanner shuffled ! answers get worse with it shuffled 0.211 0.2531 ± 0.0042 log loss "
        "(nats) p < 0.001",
        "scanner latent ! the latent vector tells it, beyond what the label explains 0.83 0.41 "
        "± 0.021",
        "bed_number shuffled answers do not change beyond chance with it shuffled 0.211 0.2104 "
        "± 0.0011",
    ]:
        assert row in said, row
    assert said.index("scanner shuffled !") < said.index("bed_number shuffled answers")
    assert (
        "chance: mean ± 2 standard deviations" in said
        and "Probes 1 of 2 suspects found" in page.text
    )


def test_innocent_suspects_are_cleared() -> None:
    said = told(covariates=[row for row in COVARIATES if not row.flagged])
    assert (
        "✓ No suspect feature was found" in said
        and "Probes 0 of 1 suspect found" in said
        and "!" not in said
    )


def suspect(name: str, is_read: bool = True, why: str | None = None) -> r.SuspectFeature:
    return r.SuspectFeature(name=name, is_read=is_read, not_compared=why)


def test_a_suspect_of_which_nothing_is_known_is_not_called_innocent() -> None:
    unknown = [suspect("bed_number"), suspect("site", False, "the model does not read it")]
    said = told(suspects=unknown, covariates=[row for row in COVARIATES if not row.flagged])
    assert "Whether these were learned is not known: site : the model does not read it" in said
    assert "Probes 0 of 2 suspects found, 1 not compared" in said
    assert "The answers do not rest on bed_number more than by chance." in said
    assert "✓" not in said[said.index("Suspect features") :]


def test_a_suspect_that_the_model_does_not_read_is_told_as_such() -> None:
    said = told(suspects=[suspect("site", is_read=False)], covariates=[])
    assert "The model does not read site; its latent vector tells no more of that" in said


def test_a_feature_that_gives_the_label_away_is_named() -> None:
    leaks = [
        r.LeakingFeature(name="account_no", examples=300, parts=2),
        r.LeakingFeature(name="total", examples=300),
    ]
    said = told(leaks=leaks)
    assert "! account_no alone gives the label away: 2 parts of its values each hold" in said
    assert "! total alone gives the label away: the label follows from it alone in 300" in said
    assert "Probes 1 of 2 suspects found, 2 give the label away" in said
    assert "Probes 2 give the label away" in told(leaks=leaks, covariates=[])


def test_a_latent_vector_that_tells_more_than_chance_is_not_called_innocent() -> None:
    read = probe("dose", "latent", 0.9, 0.2, 0.05, p_value=1.0)
    said = told(covariates=[read])
    assert (
        "dose latent the latent vector tells it, but that alone does not decide 0.9 0.2 ± 0.05"
        in said
    )
    assert "bed_number latent not told beyond chance" in told()


def test_importances_and_what_they_cost(page: Page) -> None:
    said = page.text[page.text.index("Contribution beside cost") :]
    for row in [
        "image +21.3 [+18.8, +23.8] 40 0.5325",
        "oxygen +3.4 [+2.7, +4.1] 2.5 1.36",
        "scanner +2.6 [+1.9, +3.3] not set –",
        "age +1.2 [+0.7, +1.7] 0 –",
        "temperature, crp, oxygen 16 +6.7 [+5.9, +7.6]",
    ]:
        assert row in said, row
    assert said.index("image +21.3") < said.index("oxygen +3.4") < said.index("temperature +0.9")
    assert "shuffled among 500 test examples" in page.text


def test_without_costs_there_is_no_table_of_them() -> None:
    said = told(importances=[importance("age", 0.1, None)], drops=[])
    assert "Features that it needs" in said
    assert "Contribution" not in said and "leaving" not in said


def test_attributions_are_drawn_as_what_they_are(page: Page) -> None:
    said = page.text[page.text.index("What moves its answers") :]
    assert (
        "image_xf: the stronger the colour" in said
        and "words_xf: how much each of its 4 elements" in said
    )
    assert "Example xray-1204 of span 2026-01-01: label 0, predicted 1." in said
    assert "3 others" in said and "but for 0.012" in said and "raises" in said


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        ([16, 16], "by row and column"),
        ([16, 16, 1], "by row and column"),
        ([256], "256 elements"),
        ([64, 4, 1], "by row"),
    ],
)
def test_only_a_shape_with_rows_and_columns_is_an_image(shape: list[int], drawn: str) -> None:
    svg = element_map(r.Attribution(feature="f", mean=0.1, elements=lungs(), shape=shape), 0)
    assert svg is not None and drawn in svg


def test_a_large_image_is_drawn_small_and_a_number_not_at_all() -> None:
    large = r.Attribution(feature="f", mean=0.1, elements=lungs(224, 224), shape=[224, 224, 1])
    svg = element_map(large, 0)
    assert svg is not None and len(svg) < 150_000
    assert "Each square is the mean of 7 × 7 places" in told(attributions=[large], explained=[])
    assert element_map(r.Attribution(feature="f", mean=0.1), 0) is None
    other = r.Attribution(feature="f", mean=0.1, elements=[0.1, math.nan, 0.2], shape=[2, 2])
    assert element_map(other, 0) is not None, (
        "elements that do not fill the shape are drawn in a row"
    )


def test_nothing_asked_nothing_said() -> None:
    empty = r.Probing(digest="2" * 64, metric="accuracy", examples=0)
    said = Page(render_report(stages(probing=empty))).text
    assert "What the answers rest on" not in said and "Probes" not in said
    unlooked = empty.model_copy(update={"not_probed": ["`scanner` is not in the data"]})
    said = Page(render_report(stages(probing=unlooked))).text
    assert "What the answers rest on Not looked at scanner is not in the data" in said


def test_a_run_that_failed_in_its_probes_says_so() -> None:
    facts = RunFacts(
        **(BASE | {"outcome": "failed", "reasons": ["a reason"]}), failed_step="probe_model"
    )
    said = Page(render_report(facts)).text
    assert (
        "The run failed in probe_model" in said
        and "Training see the log Probes not finished Decision not reached" in said
    )
    assert "what the candidate's answers rest on (not finished: the run ended here)" in said


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_said_and_drawn_nowhere(value: float) -> None:
    example = PROBING.explained[0].model_copy(
        update={"output": value, "gap": value, "attributions": {"a": value}}
    )
    said = told(
        covariates=[probe("scanner", "permute", value, value, value, p_value=value)],
        importances=[
            r.FeatureImportance(feature="a", loss=value, low=value, high=value, cost=value)
        ],
        drops=[r.DroppedFeatures(features=["a"], saved=value, loss=value, low=value, high=value)],
        attributions=[
            r.Attribution(feature="a", mean=value, elements=[value] * 4, shape=[2, 2]),
            r.Attribution(feature="b", mean=value),
        ],
        explained=[example],
    )
    for fact in (
        "No probe gave",
        "No importance was",
        "No loss was a finite",
        "No attribution was a finite number",
    ):
        assert fact in said, fact


def test_what_users_name_is_text() -> None:
    evil = '<script>alert("1")</script>$x$\x00'
    changed = PROBING.model_copy(
        update={
            "covariates": [
                row.model_copy(update={"feature": evil, "unit": evil}) for row in COVARIATES
            ],
            "importances": [importance(evil, 0.1, 1.0)],
            "drops": [r.DroppedFeatures(features=[evil], saved=1, loss=0.1, low=0.0, high=0.2)],
            "attributions": [r.Attribution(feature=evil, mean=0.1, elements=[0.1, 0.2], shape=[2])]
            * 2,
            "explained": [
                PROBING.explained[0].model_copy(update={"key": evil, "attributions": {evil: 0.1}})
            ],
            "suspects": [suspect(evil, why=evil), suspect(evil + "2", is_read=False)],
            "leaks": [r.LeakingFeature(name=evil, examples=300, parts=2)],
            "not_probed": [evil],
        }
    )
    page = Page(render_report(stages(probing=changed)))
    assert "script" not in page.tags and page.text.count(evil.strip("\x00")) > 8
