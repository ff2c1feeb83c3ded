"""Properties of the choice of a window, for every history of landings and verdicts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.select_spans.step import make_instances
from perennial.errors import DataError
from perennial.ledger.events import SpanVerdict
from perennial.spans.names import LandedSpan
from perennial.spans.window import choose_window, number_versions, rows_outside, state_of
from schemas.project import ProjectSettings
from schemas.records import Span, SpanJudged

LEAST = {"name": "digits", "label": "label", "data": {"spans": "data/{SPAN}.csv", "key": "id"}}
NAMES = [f"2026-01-0{day}" for day in range(1, 8)]
# Few fingerprints, so that spans share bytes: the same file under two names is two spans.
FINGERPRINTS = st.sampled_from("abcd")
LANDED = st.dictionaries(st.sampled_from(NAMES), FINGERPRINTS)
USABLE = ("accepted", "released", "new")
# Verdicts in the order of the ledger, as runs and people give them about each version of a span.
HISTORY = st.sampled_from(
    [
        ["accepted"],
        ["quarantined"],
        ["quarantined", "released"],
        ["quarantined", "released", "accepted"],
        ["quarantined", "rejected"],
        ["accepted", "rejected"],
        ["quarantined", "released", "rejected", "accepted"],
    ]
)
VERDICTS = st.lists(
    st.tuples(st.sampled_from(NAMES), FINGERPRINTS, HISTORY),
    max_size=12,
    unique_by=lambda v: (v[0], v[1]),
)
# Versions that locations name: name -> version -> bytes.
VERSIONED = st.dictionaries(
    st.sampled_from(NAMES),
    st.dictionaries(st.integers(1, 4), st.text("abcdefgh", min_size=6, max_size=6), min_size=1),
)


def _landed(spans):
    return [LandedSpan(name, None, f"data/{name}", spans[name]) for name in sorted(spans)]


def _say(judged, span, verdict):
    body = SpanJudged(span=span, rows=1, reasons=[])
    number = 1 + sum(map(len, judged.values()))
    judged.setdefault(span.name, []).append(SpanVerdict(number, "2026-01-01", None, verdict, body))


def _judged(verdicts):
    """The history as the ledger tells it.

    Versions as `number_versions` gave them when each landed.
    """
    judged: dict[str, list[SpanVerdict]] = {}
    for name, fingerprint, history in verdicts:
        (span,) = number_versions(_landed({name: fingerprint}), judged)
        for verdict in history:
            _say(judged, span, verdict)
    return judged


def _expected(history):
    return "rejected" if "rejected" in history else history[-1]


def _choose(landed, verdicts, size):
    judged = _judged(verdicts)
    return choose_window(number_versions(_landed(landed), judged), judged, size)


@given(LANDED, VERDICTS, st.integers(1, 8))
def test_window_holds_the_newest_spans_that_may_be_trained_on(landed, verdicts, size):
    states = {(name, fingerprint): _expected(history) for name, fingerprint, history in verdicts}
    usable = [name for name in sorted(landed) if states.get((name, landed[name]), "new") in USABLE]
    assert [span.name for span in _choose(landed, verdicts, size).spans] == usable[-size:]


@given(LANDED, VERDICTS, st.integers(1, 8))
def test_new_is_what_no_run_has_trained_on_and_released_what_a_person_let_in(
    landed, verdicts, size
):
    states = {(name, fingerprint): _expected(history) for name, fingerprint, history in verdicts}
    window = _choose(landed, verdicts, size)
    state = {span.name: states.get((span.name, span.fingerprint), "new") for span in window.spans}
    assert window.new == [name for name in state if state[name] != "accepted"]
    assert window.released == [name for name in state if state[name] == "released"]


@given(LANDED, VERDICTS, st.integers(1, 8))
def test_after_a_run_accepted_it_nothing_is_new(landed, verdicts, size):
    judged = _judged(verdicts)
    spans = number_versions(_landed(landed), judged)
    before = choose_window(spans, judged, size)
    for span in before.spans:
        _say(judged, span, "accepted")
    assert choose_window(spans, judged, size) == (before.spans, [], [])


@given(VERDICTS)
def test_versions_count_the_other_bytes_that_a_span_had(verdicts):
    for name, history in _judged(verdicts).items():
        versions = list(dict.fromkeys(said.judged.span.version for said in history))
        assert versions == list(range(1, len(versions) + 1)), name


@given(LANDED, VERDICTS)
def test_the_same_bytes_keep_their_version(landed, verdicts):
    judged = _judged(verdicts)
    spans = [said.judged.span for history in judged.values() for said in history]
    known = {(span.name, span.fingerprint): span.version for span in spans}
    for span in number_versions(_landed(landed), judged):
        newest = max(
            (number for (name, _), number in known.items() if name == span.name), default=0
        )
        assert span.version == known.get((span.name, span.fingerprint), newest + 1)


@given(VERSIONED, st.data(), st.integers(1, 8))
def test_each_span_comes_in_its_newest_version_that_may_be_trained_on(versions, data, size):
    landed = [
        LandedSpan(name, version, f"data/{name}-{version}", f"{name}{version}{bytes_}")
        for name in sorted(versions)
        for version, bytes_ in sorted(versions[name].items())
    ]
    judged: dict[str, list[SpanVerdict]] = {}
    spans = number_versions(landed, judged)
    for span in spans:
        for verdict in data.draw(st.one_of(st.just([]), HISTORY)):
            _say(judged, span, verdict)
    assert number_versions(landed, judged) == spans
    usable = {
        span.name: span for span in spans if state_of(span, judged) in USABLE
    }  # the last one is the newest
    assert choose_window(spans, judged, size).spans == list(usable.values())[-size:]


def test_a_newer_version_that_is_quarantined_leaves_the_older_one_in_its_place():
    landed = [
        LandedSpan("2026-01-01", version, f"v{version}", fingerprint)
        for version, fingerprint in ((1, "a"), (2, "b"))
    ]
    judged: dict[str, list[SpanVerdict]] = {}
    first, second = number_versions(landed, judged)
    _say(judged, first, "accepted")
    assert choose_window([first, second], judged, 3) == ([second], ["2026-01-01"], [])
    _say(judged, second, "quarantined")
    assert choose_window([first, second], judged, 3) == ([first], [], [])
    _say(judged, second, "released")
    assert choose_window([first, second], judged, 3) == ([second], ["2026-01-01"], ["2026-01-01"])
    _say(judged, second, "rejected")
    assert choose_window([first, second], judged, 3) == ([first], [], [])


def test_a_judged_version_that_changes_where_it_lies_is_refused():
    judged: dict[str, list[SpanVerdict]] = {}
    (span,) = number_versions([LandedSpan("7", 3, "data/7-v3.csv", "a")], judged)
    assert span.version == 3
    _say(judged, span, "quarantined")
    with pytest.raises(DataError, match=r"data/7-v3\.csv must not change.*next version \(4\)"):
        number_versions([LandedSpan("7", 3, "data/7-v3.csv", "b")], judged)
    assert [
        s.version for s in number_versions([LandedSpan("7", 4, "data/7-v4.csv", "b")], judged)
    ] == [4]


def test_the_same_file_under_two_dates_is_two_spans_that_are_each_judged_once():
    both = {"2026-01-01": "a", "2026-01-02": "a"}
    accepted = [("2026-01-01", "a", ["accepted"]), ("2026-01-02", "a", ["accepted"])]
    assert _choose(both, accepted, 5).new == []
    window = _choose(
        both, [("2026-01-01", "a", ["quarantined"]), ("2026-01-02", "a", ["accepted"])], 5
    )
    assert ([span.name for span in window.spans], window.new) == (["2026-01-02"], [])


def test_the_span_that_came_second_with_the_same_bytes_names_the_first():
    landed = _landed({"2026-01-01": "a", "2026-01-02": "a", "2026-01-03": "b"})
    copies = {span.name: span.same_as for span in number_versions(landed, {})}
    assert copies == {"2026-01-01": None, "2026-01-02": "2026-01-01", "2026-01-03": None}
    # One that waits is never the first, and an older date that lands later is the copy.
    waits = [("2026-01-02", "a", ["quarantined"])]
    assert {s.name: s.same_as for s in number_versions(landed, _judged(waits))} == copies
    first = [("2026-01-02", "a", ["accepted"])]
    for verdicts in (first, [*first, ("2026-01-01", "a", ["quarantined"])]):
        copies = {span.name: span.same_as for span in number_versions(landed, _judged(verdicts))}
        assert copies == {"2026-01-01": "2026-01-02", "2026-01-02": None, "2026-01-03": None}


def test_rows_that_were_trained_on_are_known_when_their_span_is_not_in_the_window():
    """Those of verdicts that are older than the digest are not; the first span is the original."""
    judged = _judged(
        [
            ("2026-01-01", "a", ["accepted"]),
            ("2026-01-02", "b", ["quarantined"]),
            ("2026-01-03", "c", ["quarantined", "released", "accepted"]),
            ("2026-01-04", "d", ["accepted"]),
            ("2026-01-05", "a", ["accepted"]),
            ("2026-01-06", "b", ["accepted"]),
        ]
    )
    for verdicts in judged.values():
        for number, event in enumerate(verdicts):
            body = event.judged.model_dump(exclude={"rows_digest"})
            if body["span"]["fingerprint"] != "d":
                body["rows_digest"] = f"rows of {body['span']['fingerprint']}"
            verdicts[number] = replace(event, judged=SpanJudged.model_validate(body))
    window = number_versions(_landed({"2026-01-06": "b"}), judged)
    assert rows_outside(judged, window) == {"rows of a": "2026-01-01", "rows of c": "2026-01-03"}
    # Another version of a span that is in the window is not in it.
    window = number_versions(_landed({"2026-01-06": "c"}), judged)
    assert rows_outside(judged, window)["rows of b"] == "2026-01-06"


@given(
    st.integers(1, 20), st.integers(1, 1000), st.integers(0, 3), st.integers(1, 4), st.booleans()
)
def test_instances_have_names_of_their_own_and_share_the_best_hyperparameters(
    count, seed, patched, best, champion
):
    sections = {
        "train": {"instances": count, "seed": seed},
        "patch": {"instances": patched},
        "tune": {"best": best},
    }
    instances = make_instances(ProjectSettings.model_validate(LEAST | sections), champion, seed)
    cold = [i for i in instances if i.start == "cold"]
    assert len({i.name for i in instances}) == len(instances) == count + patched * champion
    assert len({i.seed for i in cold}) == count and cold[0].seed == seed
    assert {i.rank for i in cold} == set(range(min(best, count)))


def test_a_span_records_where_it_landed():
    (span,) = number_versions(_landed({"2026-01-01": "a"}), {})
    assert span == Span(name="2026-01-01", version=1, uri="data/2026-01-01", fingerprint="a")
