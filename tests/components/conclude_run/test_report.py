"""The run report: what it promises to say, for every way a run can end."""

from __future__ import annotations

import hashlib
import math
from html.parser import HTMLParser
from typing import Any

import pytest

from components.conclude_run.report import Links, RunFacts, SpanLinks, format_duration, render_report
from schemas import records as r
from schemas.project import GateSettings

VOID = {"meta", "br", "img", "link", "hr", "input"}
SECTIONS = [
    "What was checked",
    "What was trained",
    "The candidate beside the champion",
    "The decision",
    "Serving and deployment",
]
# One test split of the digits example: examples by class, and how many of them each model got right.
EXAMPLES = [34, 37, 35, 38, 36, 37, 35, 36, 33, 34]
MORE_RIGHT = [34, 36, 35, 37, 35, 36, 35, 35, 30, 32]
LESS_RIGHT = [34, 34, 35, 36, 34, 36, 34, 36, 27, 32]


class Page(HTMLParser):
    """Parses a page strictly: every element closes in order, every id is unique."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"not closed: {self.open}"
        assert len(self.ids) == len(set(self.ids)), "an id stands twice"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def make_span(name: str, version: int = 1) -> r.Span:
    return r.Span(
        name=name, version=version, uri=f"data/{name}.parquet", fingerprint=hashlib.sha256(name.encode()).hexdigest()
    )


DAYS = [
    r.Span(name=f"2026-01-0{day}", version=1, uri=f"data/2026-01-0{day}.parquet", fingerprint=f"{day}c41f09be7d2" * 5)
    for day in (1, 2, 3)
]
ROWS = [
    {"train": 91, "eval": 29, "test": 30},
    {"train": 88, "eval": 31, "test": 31},
    {"train": 92, "eval": 30, "test": 28},
]
LABELS = [
    [15, 16, 14, 15, 17, 14, 15, 16, 13, 15],
    [14, 15, 16, 15, 14, 16, 15, 15, 15, 15],
    [16, 14, 15, 17, 13, 15, 14, 16, 15, 15],
]
NAMES = ["row count", "id", "date", "label", "image.length", "image.min"]
CHECKS = [r.Check(kind="readable", subject="file", verdict="passed", message="150 rows, 4 columns")]
CHECKS += [r.Check(kind="expectation", subject=name, verdict="passed", message="holds for all rows") for name in NAMES]
UNKNOWN = r.Check(kind="drift", subject="label", verdict="not_compared", message="no serving log yet to compare with")
FAILED = r.Check(
    kind="expectation",
    subject="image.max",
    verdict="failed",
    message="expected values between 8 and 16; received 150 of 150 values outside, such as 255",
)


def validation(*more: r.Check, accepted: bool = True) -> r.Validation:
    judged = [
        r.SpanValidation(
            span=span,
            new=day == 2,
            rows=ROWS[day],
            labels={str(i): n for i, n in enumerate(LABELS[day])},
            checks=[*CHECKS, UNKNOWN, *more] if day == 2 else [],
        )
        for day, span in enumerate(DAYS)
    ]
    return r.Validation(spans=judged, accepted=accepted, reasons=[check.message for check in more])


def selection(new: list[str], champion: r.Champion | None) -> r.Selection:
    return r.Selection(
        run="run-20260103-060012",
        resumes=None,
        window=DAYS,
        new_spans=new,
        champion=champion,
        instances=[],
        data_digest="d" * 64,
        checks_digest="c" * 64,
        project_digest="p" * 64,
        schema_digest="s" * 64,
        git_commit=None,
    )


def falling(start: float, floor: float, rate: float, steps: int) -> list[float]:
    return [floor + (start - floor) * math.exp(-rate * step) for step in range(steps)]


STABILISATION = r.Stabilisation(
    chosen=1,
    draws=[
        r.WeightDraw(
            seed=17,
            losses=falling(2.41, 0.9, 0.06, 30),
            gradient_norm=1.94,
            gradient_variance=0.41,
            dead_units=0.031,
            finite=True,
        ),
        r.WeightDraw(
            seed=18,
            losses=falling(2.33, 0.74, 0.08, 30),
            gradient_norm=1.71,
            gradient_variance=0.22,
            dead_units=0.008,
            finite=True,
        ),
        r.WeightDraw(
            seed=19,
            losses=[*falling(2.52, 1.4, 0.05, 12), math.nan],
            gradient_norm=math.inf,
            gradient_variance=math.nan,
            dead_units=0.27,
            finite=False,
        ),
    ],
)


def training(number: int, floor: float) -> r.Training:
    train, evaluated = falling(1.9, floor / 2, 0.25, 28), falling(1.6, floor, 0.28, 28)
    epochs = [
        r.Epoch(train_loss=a, eval_loss=b + max(0, i - 21) * 0.004, eval_accuracy=1 - 0.31 * b)
        for i, (a, b) in enumerate(zip(train, evaluated, strict=True))
    ]
    return r.Training(
        instance=r.Instance(name=f"instance-{number}", seed=16 + number),
        strategy="one_device",
        replicas=1,
        parameters=60_650,
        train_examples=271,
        eval_examples=90,
        epochs=epochs,
        best_epoch=21,
        digest=f"{number}" * 64,
        hyperparameters=r.Hyperparameters(learning_rate=0.002, batch_size=32),
    )


def confusion(model: str, right: list[int]) -> r.ConfusionMatrix:
    counts = [[0] * 10 for _ in EXAMPLES]
    for label, (all_of_it, good) in enumerate(zip(EXAMPLES, right, strict=True)):
        counts[label][label] = good
        counts[label][{8: 1, 1: 8, 9: 3}.get(label, (label + 4) % 10)] += all_of_it - good
    return r.ConfusionMatrix(model=model, labels=[str(i) for i in range(10)], counts=counts)


def evaluation(champion: r.Champion | None, compared: bool = True, better: bool = True) -> r.Evaluation:
    models = {"candidate": MORE_RIGHT if better else LESS_RIGHT}
    if champion and compared:
        models["champion"] = LESS_RIGHT if better else MORE_RIGHT
    slices, differences = [], []
    for model, right in models.items():
        for name, n, good in [
            ("overall", sum(EXAMPLES), sum(right)),
            *((f"label={i}", n, right[i]) for i, n in enumerate(EXAMPLES)),
        ]:
            slices.append(
                r.SliceMetrics(
                    model=model, slice=name, examples=n, accuracy=good / n, log_loss=0.05 + 2.1 * (1 - good / n)
                )
            )
    both = {name: [row for row in slices if row.slice == name] for name in dict.fromkeys(row.slice for row in slices)}
    for name, (candidate, *other) in both.items() if len(models) == 2 else []:
        for metric, gain in (
            ("accuracy", candidate.accuracy - other[0].accuracy),
            ("log_loss", other[0].log_loss - candidate.log_loss),
        ):
            half = 0.28 / math.sqrt(candidate.examples) + abs(gain) * 0.4
            differences.append(
                r.Difference(
                    metric=metric,
                    slice=name,
                    examples=candidate.examples,
                    value=gain,
                    low=gain - half,
                    high=gain + half,
                    confidence=0.9,
                )
            )
    return r.Evaluation(
        candidate="instance-2",
        digest="2" * 64,
        champion=champion,
        trainings=[training(1, 0.19), training(2, 0.16)],
        examples=sum(EXAMPLES),
        slices=slices,
        differences=differences,
        confusion=[confusion(model, right) for model, right in models.items()],
        mistakes=[
            r.Mistake(
                key=f"digit-{1204 + 7 * i:04d}",
                span=DAYS[i % 3].name,
                label=8,
                predicted=1,
                probability=0.97 - 0.04 * i,
            )
            for i in range(10)
        ],
        not_compared=[] if len(models) == 2 else ["The champion's answers: there is nothing to compare with."],
    )


CHAMPION = r.Champion(version="3", digest="9" * 64, deployment=3)
NOT_WORSE = r.Criterion(
    name="accuracy not worse", passed=True, explanation="+2.0 points, interval [-0.3, 4.3]; at least -5 was asked"
)
FLOOR = r.Criterion(name="floor", passed=True, explanation="97.2% is not below 70%")
NOT_BETTER = r.Criterion(
    name="accuracy better", passed=False, explanation="-2.0 points, interval [-4.2, +0.3] not above 0"
)
BASE: dict[str, Any] = {
    "project": "digits",
    "run": "run-20260103-060012",
    "reasons": [],
    "started_at": "2026-01-03T06:00:12+00:00",
    "ended_at": "2026-01-03T06:04:40+00:00",
    "git_commit": "4f1c2a9d8e7b6a5f4f1c2a9d8e7b6a5f4f1c2a9d",
    "gate": GateSettings(metric="accuracy", mode="not_worse", margin=0.05, confidence=0.9, floor=0.7),
    "champion_before": "3",
    "champion_after": "3",
    "links": Links(
        log="log.txt",
        spans={
            "2026-01-03": SpanLinks(
                data_docs="data_docs/2026-01-03/index.html",
                statistics="statistics/2026-01-03.html",
                set_aside="set_aside/2026-01-03.jsonl",
            )
        },
    ),
}
TRAINED: dict[str, Any] = {
    "selection": selection(["2026-01-03"], CHAMPION),
    "validation": validation(),
    "stabilisation": STABILISATION,
    "evaluation": evaluation(CHAMPION),
}


def promoted(**changes: Any) -> RunFacts:
    decision = r.Decision(
        promote=True, criteria=[NOT_WORSE, FLOOR], reasons=[], not_compared=["Serving log: there is none yet."]
    )
    version = r.ModelVersion(name="digits", version="4", digest="2" * 64, source="models", mlflow_run="7be01c")
    check = r.ServingCheck(
        passed=True, requests=32, largest_difference=2.4e-7, seconds_to_ready=6.8, message="All answers agree."
    )
    facts = (
        BASE
        | TRAINED
        | {"decision": decision, "version": version, "serving_check": check, "deployed": True, "champion_after": "4"}
    )
    reasons = [
        "Accuracy rose by 2.0 points; the interval stays above the tolerated loss of 5 points.",
        "Accuracy is above the floor.",
    ]
    return RunFacts(**(facts | {"outcome": "promoted", "reasons": reasons} | changes))


def kept(champion: r.Champion | None, compared: bool = True, **changes: Any) -> RunFacts:
    decision = r.Decision(promote=False, criteria=[NOT_BETTER, FLOOR], reasons=[], not_compared=[])
    facts = BASE | TRAINED | {"outcome": "kept_champion", "decision": decision, "reasons": ["Accuracy did not rise."]}
    number = champion.version if champion else None
    facts |= {
        "evaluation": evaluation(champion, compared, better=False),
        "gate": GateSettings(metric="accuracy"),
        "champion_before": number,
        "champion_after": number,
    }
    return RunFacts(**(facts | changes))


def rejected(**changes: Any) -> RunFacts:
    facts = BASE | {
        "outcome": "data_rejected",
        "reasons": [FAILED.message],
        "champion_before": "2",
        "champion_after": "2",
    }
    facts |= {"selection": selection(["2026-01-03"], CHAMPION), "validation": validation(FAILED, accepted=False)}
    return RunFacts(**(facts | changes))


NOTHING_NEW = RunFacts(**(BASE | {"outcome": "nothing_new", "selection": selection([], CHAMPION)}))
FAILED_EARLY = RunFacts(**(BASE | {"outcome": "failed", "reasons": ["project.yaml: data.spans must name its spans."]}))
FAILED_IN_TRAINING = RunFacts(
    **(BASE | TRAINED | {"outcome": "failed", "reasons": ["The loss of instance-2 is nan."], "evaluation": None})
)
ENDINGS = {
    "promoted": promoted(),
    "kept": kept(CHAMPION),
    "no champion": kept(None),
    "champion not evaluated": kept(CHAMPION, compared=False),
    "rejected": rejected(),
    "nothing new": NOTHING_NEW,
    "failed early": FAILED_EARLY,
    "failed in training": FAILED_IN_TRAINING,
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
        ("rejected", "The data that landed on 2026-01-03 was refused; champion version 2 keeps serving."),
        ("nothing new", "No new data has landed; champion version 3 keeps serving."),
        ("failed early", "The run failed: its data selection did not finish; champion version 3 keeps serving."),
        (
            "failed in training",
            "The run failed: its training and comparison did not finish; champion version 3 keeps serving.",
        ),
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
        ("failed in training", SECTIONS[:2]),
    ],
)
def test_only_what_was_reached_appears(pages: dict[str, Page], ending: str, reached: list[str]) -> None:
    text = pages[ending].text
    assert [section for section in SECTIONS if section in text] == reached
    assert ("What landed" in text) == (ending != "failed early")
    assert ("What was not reached" in text) == (ending != "promoted")
    assert all(
        word in text for word in ("span One landing", "window The newest", "candidate A", "champion The", "gate The")
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
    assert text.index("The new data was refused.") < text.index("image.max") < text.index("7 passed checks")
    assert "7 passed, 1 failed, 1 not compared" in text


def test_a_run_that_went_on_says_what_it_left_out_and_what_it_warns_of() -> None:
    drift = r.Check(
        kind="drift", subject="fare", verdict="failed", severity="warn", message="0.21", distance=0.21, threshold=0.04
    )
    spans = [
        r.SpanValidation(span=DAYS[1], new=True, rows=ROWS[1], labels={}, checks=[*CHECKS, FAILED]),
        r.SpanValidation(span=DAYS[2], new=True, rows=ROWS[2], labels={}, checks=[*CHECKS, drift], set_aside=2),
    ]
    judged = r.Validation(spans=spans, accepted=True, reasons=["span 2026-01-02 was refused"])
    both = selection([day.name for day in DAYS[1:]], CHAMPION)
    page = Page(render_report(promoted(validation=judged, selection=both)))
    assert "The new data was accepted, but for 1 span." in page.text
    assert page.text.index("Failed Span") < page.text.index("Warnings Span") < page.text.index("By span")
    assert "2026-01-02 quarantined 1 0" in page.text and "2026-01-03 accepted 0 1" in page.text
    assert "perennial spans show" in page.text
    assert ("href", "set_aside/2026-01-03.jsonl") in page.attributes
    assert "14 passed, 1 failed, 1 warning, 0 not compared" in page.text


def test_failed_serving_check_is_the_verdict() -> None:
    check = r.ServingCheck(
        passed=False, requests=32, largest_difference=0.31, seconds_to_ready=7, message="Answers differ by 0.31."
    )
    page = Page(render_report(promoted(outcome="failed", serving_check=check, deployed=False, champion_after="3")))
    assert "The candidate failed the serving check; champion version 3 keeps serving." in page.words
    assert "Answers differ by 0.31." in page.text and "Nothing was deployed" in page.text


def test_other_bytes_than_evaluated_are_called_out() -> None:
    other = r.ModelVersion(name="digits", version="4", digest="8" * 64, source="", mlflow_run="7be01c")
    assert "not the digest of the model that was evaluated" in Page(render_report(promoted(version=other))).text


def test_what_users_write_is_text() -> None:
    evil = '<script>alert("1")</script>$x$\x00'
    span = make_span(evil)
    judged = r.SpanValidation(
        span=span,
        new=True,
        rows={evil: 3},
        labels={evil: 2, "漢": 1},
        checks=[
            r.Check(kind="schema", subject=evil, verdict=v, message=evil) for v in ("failed", "passed", "not_compared")
        ],
    )
    base = evaluation(CHAMPION)
    matrix = r.ConfusionMatrix(model="candidate", labels=[evil, "b"], counts=[[1, 2], [0, 3]])
    difference = r.Difference(metric=evil, slice=evil, examples=3, value=0.1, low=-0.1, high=0.2, confidence=0.9)
    changed = base.model_copy(
        update={"confusion": [matrix], "differences": [difference], "not_compared": [evil], "candidate": evil}
    )
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
    bad_epochs = [r.Epoch(train_loss=value, eval_loss=value, eval_accuracy=value)] * 3
    changed = base.model_copy(
        update={
            "trainings": [base.trainings[0].model_copy(update={"epochs": bad_epochs, "best_epoch": 0})],
            "slices": [row.model_copy(update={"accuracy": value, "log_loss": value}) for row in base.slices],
            "differences": [
                row.model_copy(update={"value": value, "low": value, "high": value}) for row in base.differences
            ],
            "mistakes": [row.model_copy(update={"probability": value}) for row in base.mistakes],
        }
    )
    draw = r.WeightDraw(
        seed=17, losses=[value] * 3, gradient_norm=value, gradient_variance=value, dead_units=value, finite=False
    )
    check = r.ServingCheck(passed=True, requests=1, largest_difference=value, seconds_to_ready=value, message="")
    page = Page(
        render_report(
            promoted(evaluation=changed, stabilisation=r.Stabilisation(draws=[draw], chosen=0), serving_check=check)
        )
    )
    assert "so there is no curve" in page.text and "so there is nothing to draw" in page.text


@pytest.mark.parametrize("count", [1, 60])
def test_many_spans_fold_and_nothing_not_compared_hides(count: int) -> None:
    spans = [make_span(str(number)) for number in range(count)]
    judged = [
        r.SpanValidation(span=span, new=True, rows={"train": 9}, labels={"0": 5, "1": 4}, checks=[*CHECKS, UNKNOWN])
        for span in spans
    ]
    selected = TRAINED["selection"].model_copy(update={"window": spans, "new_spans": [span.name for span in spans]})
    html = render_report(promoted(selection=selected, validation=r.Validation(spans=judged, accepted=True, reasons=[])))
    page = Page(html)
    assert f"{count} new span" in page.text and ("46 more spans" in page.text) == (count == 60)
    seen = html.index("no serving log yet")
    assert html.count("<details", 0, seen) == html.count("</details", 0, seen), "what was not compared is folded away"


def test_hundred_mistakes_fold_the_most_confident_first() -> None:
    rows = [
        r.Mistake(key=f"digit-{i:04d}", span="2026-01-02", label=3, predicted=8, probability=0.4 + i / 200)
        for i in range(100)
    ]
    text = Page(render_report(promoted(evaluation=evaluation(CHAMPION).model_copy(update={"mistakes": rows})))).text
    assert "90 more mistakes" in text and text.index("digit-0099") < text.index("90 more mistakes") < text.index(
        "digit-0001"
    )


@pytest.mark.parametrize("href", ["/absolute/report.html", "https://example.org", "javascript:alert(1)", "//host/x"])
def test_links_stay_relative(href: str) -> None:
    with pytest.raises(ValueError, match="must be relative"):
        Links(log=href)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("2026-01-03T06:00:20+00:00", "20 s"),
        ("2026-01-03T07:30:00+00:00", "1.5 h"),
        ("2026-01-03T06:00:20", None),
        ("soon", None),
    ],
)
def test_duration(end: str, expected: str | None) -> None:
    assert format_duration("2026-01-03T06:00:00+00:00", end) == expected
