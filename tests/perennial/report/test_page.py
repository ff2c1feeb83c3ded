"""The run report: what it promises to say, for every way a run can end."""

from __future__ import annotations

import math

import pytest

from perennial.report.facts import Links, RunFacts
from perennial.report.page import render_report
from schemas import records as r
from tests.perennial.report.facts import (
    BASE,
    CHAMPION,
    CHECKS,
    DAYS,
    FAILED,
    NOTHING_NEW,
    ROWS,
    TRAINED,
    UNKNOWN,
    evaluation,
    kept,
    make_span,
    promoted,
    rejected,
    selection,
)
from tests.perennial.report.pages import Page

SECTIONS = [
    "What was checked",
    "What was trained",
    "The candidate beside the champion",
    "The decision",
    "Serving and deployment",
]
FAILED_EARLY = RunFacts(
    **(BASE | {"outcome": "failed", "reasons": ["project.yaml: data.spans must name its spans."]}),
    failed_step="select_spans",
)
FAILED_IN_TRAINING = RunFacts(
    **(BASE | {"outcome": "failed", "reasons": ["The loss of instance-2 is nan."]}),
    failed_step="train_model",
    selection=selection(["2026-01-03"], CHAMPION),
)
FAILED_SOMEWHERE = RunFacts(**(BASE | {"outcome": "failed", "reasons": ["the pipeline failed"]}))
ENDINGS = {
    "promoted": promoted(),
    "kept": kept(CHAMPION),
    "no champion": kept(None),
    "champion not evaluated": kept(CHAMPION, compared=False),
    "rejected": rejected(),
    "nothing new": NOTHING_NEW,
    "failed early": FAILED_EARLY,
    "failed in training": FAILED_IN_TRAINING,
    "failed somewhere": FAILED_SOMEWHERE,
}


@pytest.fixture(scope="module")
def pages() -> dict[str, Page]:
    return {name: Page(render_report(facts)) for name, facts in ENDINGS.items()}


@pytest.mark.parametrize(
    ("ending", "verdict"),
    [
        ("promoted", "Version 4 replaced version 3 as champion."),
        ("kept", "Champion version 3 stays: accuracy did not rise."),
        ("no champion", "There is still no champion: accuracy did not rise."),
        (
            "rejected",
            "The data that landed on 2026-01-03 was refused; champion version 2 keeps serving.",
        ),
        ("nothing new", "No new data has landed; champion version 3 keeps serving."),
        ("failed early", "The run failed in select_spans; champion version 3 keeps serving."),
        ("failed in training", "The run failed in train_model; champion version 3 keeps serving."),
        ("failed somewhere", "The run failed; champion version 3 keeps serving."),
    ],
)
def test_verdict_in_one_sentence(pages: dict[str, Page], ending: str, verdict: str) -> None:
    assert verdict in pages[ending].words
    assert f"digits: {verdict}" in pages[ending].words  # the title


@pytest.mark.parametrize(
    ("ending", "reached"),
    [
        ("promoted", SECTIONS),
        ("kept", SECTIONS[:4]),
        ("rejected", SECTIONS[:1]),
        ("nothing new", []),
        ("failed early", []),
        ("failed in training", []),
    ],
)
def test_only_what_was_reached_appears(
    pages: dict[str, Page], ending: str, reached: list[str]
) -> None:
    text = pages[ending].text
    assert [section for section in SECTIONS if section in text] == reached
    assert ("What landed" in text) == (ending != "failed early")
    assert ("This page therefore says nothing about" in text) == (ending != "promoted")
    assert all(
        word in text
        for word in (
            "span One landing",
            "window The newest",
            "candidate A",
            "champion The",
            "gate The",
        )
    )


def test_promoted_page_tells_the_whole_story(pages: dict[str, Page]) -> None:
    text = pages["promoted"].text
    for fact in [
        "Promoted",
        "run-20260103-060012",
        "3 January 2026, 06:00:12 UTC",
        "4 min 28 s",
        "4f1c2a9d8e7b",
        "version 3 → version 4",
        "1 new span (2026-01-03) landed",
        "450 rows in all",
        "3c41f09be7d2",
        "new spans (150 examples)",
        "rest of the window (300 examples)",
        "drift of label: no serving log yet to compare with",
        "7 passed checks",
        "not a number",
        "not finite",
        "60,650",
        "0.002",
        "22 of 28",
        "97.2%",
        "95.2%",
        "+2.0 points [−0.3, +4.2]",
        "label=8 (33)",
        "8 taken for 1 (6×)",
        "digit-1204",
        "accuracy not worse",
        "Serving log: there is none yet.",
        "byte for byte what was evaluated",
        "32 requests",
        "2.4e−07",
        "Version 4 serves in place of version 3",
    ]:
        assert fact in text, fact
    assert pages["promoted"].tags.count("svg") == 8
    assert {
        ("href", "data_docs/2026-01-03/index.html"),
        ("href", "statistics/2026-01-03.html"),
        ("href", "log.txt"),
    } <= set(pages["promoted"].attributes)


def test_missing_comparison_is_said(pages: dict[str, Page]) -> None:
    assert "There is no champion yet" in pages["no champion"].text
    assert "Champion version 3 could not be evaluated" in pages["champion not evaluated"].text
    for ending in ("no champion", "champion not evaluated"):
        assert "there is nothing to compare with" in pages[ending].text
        assert "Differences by slice" not in pages[ending].text


def test_refused_data_shows_failures_before_the_rest(pages: dict[str, Page]) -> None:
    text = pages["rejected"].text
    assert (
        text.index("The new data was refused.")
        < text.index("image.max")
        < text.index("7 passed checks")
    )
    assert "7 passed, 1 failed, 1 not compared" in text


def test_a_run_that_went_on_says_what_it_left_out_and_what_it_warns_of() -> None:
    drift = r.Check(
        kind="drift",
        subject="fare",
        verdict="failed",
        severity="warn",
        message="0.21",
        distance=0.21,
        threshold=0.04,
    )
    spans = [
        r.SpanValidation(span=DAYS[1], new=True, rows=ROWS[1], labels={}, checks=[*CHECKS, FAILED]),
        r.SpanValidation(
            span=DAYS[2], new=True, rows=ROWS[2], labels={}, checks=[*CHECKS, drift], set_aside=2
        ),
    ]
    judged = r.Validation(spans=spans, accepted=True, reasons=["span 2026-01-02 was refused"])
    both = selection([day.name for day in DAYS[1:]], CHAMPION)
    page = Page(render_report(promoted(validation=judged, selection=both)))
    assert "The new data was accepted, but for 1 span." in page.text
    assert (
        page.text.index("Failed Span")
        < page.text.index("Warnings Span")
        < page.text.index("By span")
    )
    assert "2026-01-02 quarantined 1 0" in page.text and "2026-01-03 accepted 0 1" in page.text
    assert "perennial spans show" in page.text
    assert ("href", "set_aside/2026-01-03.jsonl") in page.attributes
    assert "14 passed, 1 failed, 1 warning, 0 not compared" in page.text


def test_failed_serving_check_is_the_verdict() -> None:
    check = r.ServingCheck(
        passed=False,
        requests=32,
        largest_difference=0.31,
        seconds_to_ready=7,
        message="Answers differ by 0.31.",
    )
    page = Page(
        render_report(
            promoted(outcome="failed", serving_check=check, deployed=False, champion_after="3")
        )
    )
    assert "The candidate failed the serving check; champion version 3 keeps serving." in page.words
    assert "Answers differ by 0.31." in page.text and "Nothing was deployed" in page.text


def test_other_bytes_than_evaluated_are_called_out() -> None:
    other = r.ModelVersion(
        name="digits", version="4", digest="8" * 64, source="", mlflow_run="7be01c"
    )
    assert (
        "not the digest of the model that was evaluated"
        in Page(render_report(promoted(version=other))).text
    )


def test_what_users_write_is_text() -> None:
    evil = '<script>alert("1")</script>$x$\x00'
    span = make_span(evil)
    judged = r.SpanValidation(
        span=span,
        new=True,
        rows={evil: 3},
        labels={evil: 2, "漢": 1},
        checks=[
            r.Check(kind="schema", subject=evil, verdict=v, message=evil)
            for v in ("failed", "passed", "not_compared")
        ],
    )
    base = evaluation(CHAMPION)
    matrix = r.ConfusionMatrix(model="candidate", labels=[evil, "b"], counts=[[1, 2], [0, 3]])
    difference = r.Difference(
        metric="accuracy",
        task=evil,
        slice=evil,
        examples=3,
        value=0.1,
        low=-0.1,
        high=0.2,
        confidence=0.9,
    )
    changed = base.model_copy(
        update={
            "confusion": [matrix],
            "differences": [difference],
            "not_compared": [evil],
            "candidate": evil,
        }
    )
    changed = changed.model_copy(update={"tasks": [r.EvaluatedTask(name=evil, kind="binary")]})
    selected = TRAINED["selection"].model_copy(update={"window": [span], "new_spans": [evil]})
    facts = promoted(
        project=evil,
        reasons=[evil],
        validation=r.Validation(spans=[judged], accepted=True, reasons=[evil]),
        evaluation=changed,
        selection=selected,
    )
    page = Page(render_report(facts))
    assert "script" not in page.tags and evil.strip("\x00") in page.text


@pytest.mark.usefixtures("drawn_anew")
def test_same_facts_same_bytes() -> None:
    assert render_report(promoted()) == render_report(promoted())


def test_page_needs_nothing_from_elsewhere(pages: dict[str, Page]) -> None:
    for page in pages.values():
        assert not {"script", "link", "img", "iframe"} & set(page.tags)
        targets = {value or "" for name, value in page.attributes if name in ("href", "src")}
        assert not [target for target in targets if "//" in target or target.startswith("/")]
        anchors = {target[1:] for target in targets if target.startswith("#")}
        assert anchors <= set(page.ids), anchors - set(page.ids)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none(value: float) -> None:
    base = evaluation(CHAMPION)
    bad_epochs = [r.Epoch(train_loss=value, eval_loss=value, eval_metric=value)] * 3
    changed = base.model_copy(
        update={
            "trainings": [
                base.trainings[0].model_copy(update={"epochs": bad_epochs, "best_epoch": 0})
            ],
            "slices": [
                row.model_copy(update={"values": dict.fromkeys(row.values, value)})
                for row in base.slices
            ],
            "differences": [
                row.model_copy(update={"value": value, "low": value, "high": value})
                for row in base.differences
            ],
            "mistakes": [row.model_copy(update={"probability": value}) for row in base.mistakes],
        }
    )
    draw = r.WeightDraw(
        seed=17,
        losses=[value] * 3,
        gradient_norm=value,
        gradient_variance=value,
        dead_units=value,
        finite=False,
    )
    check = r.ServingCheck(
        passed=True, requests=1, largest_difference=value, seconds_to_ready=value, message=""
    )
    page = Page(
        render_report(
            promoted(
                evaluation=changed,
                stabilisation=r.Stabilisation(draws=[draw], chosen=0),
                serving_check=check,
            )
        )
    )
    assert "so there is no curve" in page.text and "so there is nothing to draw" in page.text


@pytest.mark.parametrize("count", [1, 60])
def test_many_spans_fold_and_nothing_not_compared_hides(count: int) -> None:
    spans = [make_span(str(number)) for number in range(count)]
    judged = [
        r.SpanValidation(
            span=span,
            new=True,
            rows={"train": 9},
            labels={"0": 5, "1": 4},
            checks=[*CHECKS, UNKNOWN],
        )
        for span in spans
    ]
    selected = TRAINED["selection"].model_copy(
        update={"window": spans, "new_spans": [span.name for span in spans]}
    )
    html = render_report(
        promoted(
            selection=selected, validation=r.Validation(spans=judged, accepted=True, reasons=[])
        )
    )
    page = Page(html)
    assert f"{count} new span" in page.text and ("46 more spans" in page.text) == (count == 60)
    seen = html.index("no serving log yet")
    assert html.count("<details", 0, seen) == html.count("</details", 0, seen), (
        "what was not compared is folded away"
    )


def test_hundred_mistakes_fold_the_most_confident_first() -> None:
    rows = [
        r.Mistake(
            key=f"digit-{i:04d}", span="2026-01-02", label=3, predicted=8, probability=0.4 + i / 200
        )
        for i in range(100)
    ]
    text = Page(
        render_report(
            promoted(evaluation=evaluation(CHAMPION).model_copy(update={"mistakes": rows}))
        )
    ).text
    assert "90 more mistakes" in text and text.index("digit-0099") < text.index(
        "90 more mistakes"
    ) < text.index("digit-0001")


@pytest.mark.parametrize(
    "href", ["/absolute/report.html", "https://example.org", "javascript:alert(1)", "//host/x"]
)
def test_links_stay_relative(href: str) -> None:
    with pytest.raises(ValueError, match="must be relative"):
        Links(log=href)
