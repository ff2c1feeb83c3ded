"""The verdict on a window, decided from the checks alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from components.validate_data.step import check_splits, conclude
from schemas.records import Check, Span, SpanValidation

KINDS = st.sampled_from(
    ["readable", "columns", "rows", "schema", "expectation", "drift", "label_drift", "skew"]
)
VERDICTS = st.sampled_from(["passed", "failed", "set_aside", "not_compared"])
CHECKS = st.builds(
    lambda kind, verdict, severity: Check(
        kind=kind,
        subject="fare",
        verdict=verdict,
        message=f"{kind} {verdict}",
        severity="quarantine" if kind == "readable" and severity == "warn" else severity,
    ),
    KINDS,
    VERDICTS,
    st.sampled_from(["warn", "quarantine", "stop"]),
)
SPANS = st.lists(
    st.tuples(st.lists(CHECKS, max_size=4), st.booleans(), st.booleans(), st.integers(0, 9)),
    min_size=1,
    max_size=5,
).map(lambda found: [judged(str(n), *one) for n, one in enumerate(found)])


def judged(name, checks, new=True, released=False, rows=100):
    span = Span(name=name, version=1, uri=name, fingerprint=name)
    fields = {"rows": {"train": rows}, "labels": {}, "checks": checks if new else []}
    return SpanValidation(span=span, new=new, released=released and new, **fields)


def failed(*kinds, severity="quarantine"):
    return [
        Check(
            kind=kind, subject="fare", verdict="failed", message=f"{kind} broken", severity=severity
        )
        for kind in kinds
    ]


@given(SPANS)
def test_verdict_follows_from_the_spans(spans):
    verdict = conclude(spans)
    refused, new = [s for s in spans if s.quarantined], [s for s in spans if s.new]
    stopped = any(c.severity == "stop" for s in refused for c in s.failures)
    left = sum(s.rows["train"] for s in spans if not s.quarantined)
    assert verdict.accepted == (not stopped and not (new and len(refused) == len(new)) and left > 0)
    assert verdict.spans == spans


@given(SPANS)
def test_each_quarantined_span_has_its_sentence_and_a_refusal_a_reason(spans):
    verdict = conclude(spans)
    sentences = [reason for reason in verdict.reasons if " was refused: " in reason]
    assert len(sentences) == sum(span.quarantined for span in spans)
    assert verdict.reasons[: len(sentences)] == sentences
    assert sum("perennial spans" in reason for reason in verdict.reasons) == bool(sentences)
    assert verdict.accepted or verdict.reasons


@given(SPANS, CHECKS)
def test_another_failure_never_accepts(spans, check):
    worse = [s.model_copy(update={"checks": [*s.checks, check]}) if s.new else s for s in spans]
    assert conclude(spans).accepted or not conclude(worse).accepted


def test_one_bad_span_waits_and_the_run_goes_on():
    verdict = conclude(
        [judged("a", [], new=False), judged("b", failed("schema", "expectation")), judged("c", [])]
    )
    assert verdict.accepted
    assert verdict.reasons == [
        "span b was refused: fare: expectation broken (and 1 more)",
        "what was refused waits in quarantine: `perennial spans show|judge|release|reject`",
    ]


def test_the_most_telling_comes_first_and_what_stops_before_it():
    spans = [judged("a", failed("drift")), judged("b", failed("columns")), judged("c", [])]
    assert [reason[:6] for reason in conclude(spans).reasons[:2]] == ["span b", "span a"]
    stopped = conclude([*spans, judged("d", failed("skew", severity="stop"))])
    assert not stopped.accepted and stopped.reasons[0].startswith("span d")
    assert stopped.reasons[-1] == "the run stops, as the severity of skew asks"


def test_warnings_and_what_was_not_compared_refuse_nothing():
    checks = [
        *failed("drift", severity="warn"),
        failed("schema")[0].model_copy(update={"verdict": "not_compared"}),
    ]
    assert conclude([judged("a", checks)]).accepted


def test_person_releases_what_can_be_read():
    assert conclude([judged("a", failed("rows", severity="stop"), released=True)]).accepted
    assert not conclude(
        [judged("a", failed("readable", severity="stop"), released=True), judged("b", [])]
    ).accepted


def test_all_that_is_new_is_bad_or_nothing_is_left():
    assert not conclude([judged("a", [], new=False), judged("b", failed("rows"))]).accepted
    assert conclude([judged("a", [], new=False)]).accepted
    assert not conclude([judged("a", [], rows=0)]).accepted


def window(*rows):
    """A window that was accepted, with the rows of each span by split."""
    spans = [
        judged(str(number), []).model_copy(update={"rows": counts})
        for number, counts in enumerate(rows)
    ]
    return conclude(spans)


def test_a_window_with_an_empty_split_is_refused_with_its_counts():
    refused = check_splits(window({"train": 7, "test": 2}), by_time=False)
    assert not refused.accepted
    assert "train 7, eval 0, test 2" in refused.reasons[-1]
    assert check_splits(window({"train": 7, "eval": 1, "test": 2}), by_time=False).accepted
    refused = check_splits(window({"train": 7, "eval": 4, "test": 1}), by_time=False)
    assert not refused.accepted and "at least 2 test examples" in refused.reasons[-1]


def test_small_splits_are_warned_of_with_what_follows():
    few = check_splits(window({"train": 40, "eval": 9}, {"test": 3}), by_time=False)
    assert few.accepted and few.reasons == []
    assert [(check.kind, check.subject) for check in few.window_warnings] == [
        ("splits", "the eval split"),
        ("splits", "the test split"),
    ]
    assert few.window_warnings[1].message.startswith(
        "3 examples in the window: a metric may not be"
    )
    many = {"train": 40, "eval": 10, "test": 10}
    assert check_splits(window(many), by_time=False).window_warnings == []
    by_time = check_splits(window(many, {"train": 3}), by_time=True).window_warnings
    assert [check.subject for check in by_time] == ["the test split"]


def test_by_time_the_newest_span_is_the_test_split_and_no_other():
    full = {"train": 7, "eval": 1, "test": 2}
    assert check_splits(window(full, {"train": 3}), by_time=True).accepted
    refused = check_splits(window({"train": 7, "test": 2}, full), by_time=True)
    assert not refused.accepted and "eval 0, test 10" in refused.reasons[-1]
