"""How many rows may be set aside.

Never more than the limit, never all, and never without a word.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from components.check_examples.rows import check_rows, decide_rows
from perennial.data.shown_examples import count_without

counts = st.integers(0, 10_000)
limits = st.floats(0, 1, exclude_max=True)


@given(counts, counts, counts, limits, st.booleans())
def test_never_more_than_the_limit_and_never_all(ingested, already, failing, limit, settled):
    failing = min(failing, ingested)
    decision = decide_rows(ingested, already, failing, limit, settled)
    if decision.set_aside:
        assert settled and failing
        assert (already + failing) / (ingested + already) <= limit
        assert failing < ingested  # at least one row is left, as the limit is below 1
    elif settled and failing and decision.verdict != "failed":
        assert (already + failing) / (ingested + already) > limit


@given(counts, counts, counts, limits, st.booleans())
def test_rows_fail_only_for_what_ingestion_set_aside(ingested, already, failing, limit, settled):
    failing = min(failing, ingested)
    decision = decide_rows(ingested, already, failing, limit, settled)
    over = ingested + already == 0 or already / (ingested + already) > limit
    assert (decision.verdict == "failed") == over
    assert (decision.verdict == "passed") == (not over and not already and not decision.set_aside)


@given(st.integers(1, 10_000), counts, limits)
def test_fewer_failing_rows_are_never_treated_worse(ingested, already, limit):
    aside = [
        decide_rows(ingested, already, failing, limit).set_aside
        for failing in range(1, min(ingested, 50) + 1)
    ]
    assert aside == sorted(aside, reverse=True)


@given(st.integers(1, 100))
@example(29)  # 0.29 * 100 is a little less than 29
@example(7)  # 0.07 * 100 is a little more than 7
def test_limit_itself_is_allowed(percent):
    if percent < 100:
        assert decide_rows(100, 0, percent, percent / 100).set_aside
    assert not decide_rows(100, 0, percent, (percent - 1) / 100).set_aside


def test_nothing_is_set_aside_where_nothing_may_be():
    assert not decide_rows(1_000_000, 0, 1, 0).set_aside
    assert decide_rows(100, 0, 0, 0).verdict == "passed"


@given(
    counts,
    counts,
    counts,
    limits,
    st.booleans(),
    st.dictionaries(st.text(), st.integers(1, 9), max_size=6),
)
def test_message_counts_what_is_set_aside(ingested, already, failing, limit, settled, causes):
    failing = min(failing, ingested)
    decision = decide_rows(ingested, already, failing, limit, settled)
    check = check_rows(decision, (ingested, already, failing), limit, "stop", causes)
    total, gone = ingested + already, already + (failing if decision.set_aside else 0)
    assert (
        check.verdict == decision.verdict and check.severity == "stop" and check.subject == "table"
    )
    if total:
        assert f"{gone} of {total} rows" in check.message or (
            gone == 0 and f"none of {total}" in check.message
        )
    assert ("broke an expectation and stay" in check.message) == bool(
        failing and not decision.set_aside
    )


def test_failure_names_counts_share_limit_and_the_commonest_causes():
    causes = {"a": 1, "b": 30, "c": 4, "d": 5, "e": 2}
    decision = decide_rows(58, 42, 3, 0.01)
    check = check_rows(decision, (58, 42, 3), 0.01, "quarantine", causes)
    assert check.message == (
        "expected at most 1% of the rows to be set aside; received 42 of 100 rows (42%): b (30), d "
        "(5), c (4) and 2 "
        "more; 3 more (3%) broke an expectation and stay: at most 1% may be set aside"
    )


def test_rows_that_do_not_settle_the_suite_say_so():
    check = check_rows(decide_rows(100, 0, 1, 0.5, settled=False), (100, 0, 1), 0.5, "warn", {})
    assert check.verdict == "passed" and check.message.endswith(
        "stay: once they are gone, other rows break one"
    )


names = st.sampled_from("abc")


@given(st.lists(names), st.lists(names))
def test_counts_without_are_the_counts_of_what_is_left(kept, gone):
    everything = kept + gone
    counts = {name: everything.count(name) for name in sorted(set(everything))}
    assert count_without(counts, Counter(gone)) == {
        name: kept.count(name) for name in sorted(set(kept))
    }
