"""Properties of the choice of a window, for every history of landings and verdicts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from components.select_spans.step import choose_window, make_instances, number_versions
from perennial.spans import LandedSpan
from schemas.records import Span, SpanJudged

NAMES = [f"2026-01-0{day}" for day in range(1, 8)]
# Few fingerprints, so that spans share bytes: the same file under two names is two spans.
FINGERPRINTS = st.sampled_from("abcd")
LANDED = st.dictionaries(st.sampled_from(NAMES), FINGERPRINTS)
# Verdicts in the order of the ledger; each version of a span is judged once.
VERDICTS = st.lists(
    st.tuples(st.sampled_from(NAMES), FINGERPRINTS, st.booleans()), max_size=12, unique_by=lambda v: (v[0], v[1])
)


def _landed(spans, tmp="data"):
    from pathlib import Path

    return [LandedSpan(name, Path(tmp) / name, spans[name]) for name in sorted(spans)]


def _judged(verdicts):
    """The history as the ledger tells it; versions as `number_versions` gave them when each landed."""
    judged: dict[str, list[tuple[bool, SpanJudged]]] = {}
    for name, fingerprint, accepted in verdicts:
        (span,) = number_versions(_landed({name: fingerprint}), judged)
        judged.setdefault(name, []).append((accepted, SpanJudged(span=span, rows=1, reasons=[])))
    return judged


def _choose(landed, verdicts, size):
    judged = _judged(verdicts)
    return choose_window(number_versions(_landed(landed), judged), judged, size)


@given(LANDED, VERDICTS, st.integers(1, 8))
def test_window_holds_the_newest_spans_that_were_not_rejected(landed, verdicts, size):
    rejected = {(name, fingerprint) for name, fingerprint, accepted in verdicts if not accepted}
    window, _ = _choose(landed, verdicts, size)
    usable = [name for name in sorted(landed) if (name, landed[name]) not in rejected]
    assert [span.name for span in window] == usable[-size:]


@given(LANDED, VERDICTS, st.integers(1, 8))
def test_new_is_what_no_run_has_judged(landed, verdicts, size):
    judged = {(name, fingerprint) for name, fingerprint, _ in verdicts}
    window, new = _choose(landed, verdicts, size)
    assert new == [span.name for span in window if (span.name, span.fingerprint) not in judged]


@given(LANDED, VERDICTS, st.integers(1, 8))
def test_after_a_run_judged_it_nothing_is_new(landed, verdicts, size):
    window, new = _choose(landed, verdicts, size)
    told = [*verdicts, *((span.name, span.fingerprint, True) for span in window if span.name in new)]
    again, nothing = _choose(landed, told, size)
    assert nothing == [] and [span.name for span in again] == [span.name for span in window]


@given(VERDICTS)
def test_versions_count_the_other_bytes_that_a_span_had(verdicts):
    for name, history in _judged(verdicts).items():
        versions = [verdict.span.version for _, verdict in history]
        assert versions == list(range(1, len(versions) + 1)), name


@given(LANDED, VERDICTS)
def test_the_same_bytes_keep_their_version(landed, verdicts):
    judged = _judged(verdicts)
    known = {(v.span.name, v.span.fingerprint): v.span.version for history in judged.values() for _, v in history}
    for span in number_versions(_landed(landed), judged):
        newest = max((number for (name, _), number in known.items() if name == span.name), default=0)
        assert span.version == known.get((span.name, span.fingerprint), newest + 1)


def test_the_same_file_under_two_dates_is_two_spans_that_are_each_judged_once():
    both = {"2026-01-01": "a", "2026-01-02": "a"}
    accepted = [("2026-01-01", "a", True), ("2026-01-02", "a", True)]
    assert _choose(both, accepted, 5)[1] == []
    window, new = _choose(both, [("2026-01-01", "a", False), ("2026-01-02", "a", True)], 5)
    assert ([span.name for span in window], new) == (["2026-01-02"], [])


@given(st.integers(1, 20), st.integers(0, 1000))
def test_instances_have_names_and_seeds_of_their_own(count, seed):
    instances = make_instances(count, seed)
    assert len({i.name for i in instances}) == len({i.seed for i in instances}) == count
    assert instances[0].seed == seed


def test_a_span_is_what_landed():
    (span,) = number_versions(_landed({"2026-01-01": "a"}), {})
    assert span == Span(name="2026-01-01", version=1, uri="data/2026-01-01", fingerprint="a")
