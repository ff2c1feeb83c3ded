"""Nobody changes, removes or inserts an event unseen, and an earlier head tells what was cut off the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from perennial.errors import LedgerError
from perennial.ledger.chain import chain_row, chain_rows, digest_row, find_fault
from perennial.ledger.events import NO_EVENTS, Ledger
from perennial.ledger.table import NewRow
from perennial.ledger.verification import parse_head, verify_ledger
from tests.perennial.records import judged, run_ended, run_started, span

COUNT = 8


@pytest.fixture
def ledger(ledger_url):
    ledger = Ledger(ledger_url)
    for number in range(COUNT // 2):
        ledger.append(run_started(f"r{number}"), run_ended(f"r{number}"))
    yield ledger
    ledger.close()


def tamper(url: str, *statements: str) -> None:
    """Changes the table as somebody does who owns the database."""
    engine = create_engine(url)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("ALTER TABLE events DISABLE TRIGGER ALL"))
        else:
            for change in ("update", "delete"):
                connection.execute(text(f"DROP TRIGGER events_no_{change}"))
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_an_untouched_ledger_is_whole_and_its_head_stands_for_it(ledger):
    heads = [verify_ledger(ledger)]
    ledger.append(judged(True, span()))
    heads.append(verify_ledger(ledger, noted=heads[0]))
    assert [head.number for head in heads] == [COUNT, COUNT + 1] and heads[1] == ledger.head()
    assert parse_head(f" {heads[1]} ") == heads[1]


def test_a_ledger_without_events_is_whole(ledger_url):
    assert verify_ledger(Ledger(ledger_url)) == NO_EVENTS


TAMPERED = {
    "a body": ("UPDATE events SET body = replace(body, 'a reason', 'another') WHERE number = 4", 4),
    "a time": ("UPDATE events SET at = '2020-01-01T00:00:00.000+00:00' WHERE number = 3", 3),
    "a run": ("UPDATE events SET run = 'r9' WHERE number = 1", 1),
    "a key": ("UPDATE events SET key = NULL WHERE number = 7", 7),
    "a fence": ("UPDATE events SET fence = 1 WHERE number = 2", 2),
    "the last": (f"UPDATE events SET kind = 'x' WHERE number = {COUNT}", COUNT),
}


@pytest.mark.parametrize(("statement", "number"), TAMPERED.values(), ids=TAMPERED)
def test_a_changed_event_is_named(ledger, ledger_url, statement, number):
    tamper(ledger_url, statement)
    with pytest.raises(LedgerError, match=rf"event {number} was changed \(.*backup") as refused:
        verify_ledger(ledger)
    if number > 1:
        assert f"Events before {number} are as they were appended" in str(refused.value)


@pytest.mark.parametrize(
    ("condition", "named"),
    [("= 5", "event 5 was"), ("= 1", "event 1 was"), ("BETWEEN 3 AND 6", "events 3 to 6 were")],
)
def test_removed_events_are_named(ledger, ledger_url, condition, named):
    tamper(ledger_url, f"DELETE FROM events WHERE number {condition}")
    with pytest.raises(LedgerError, match=f"{named} removed"):
        verify_ledger(ledger)


def test_what_was_cut_off_the_end_is_told_by_an_earlier_head(ledger, ledger_url):
    head = ledger.head()
    tamper(ledger_url, f"DELETE FROM events WHERE number > {COUNT - 2}")
    verify_ledger(ledger)  # what is left is a whole chain
    with pytest.raises(LedgerError, match=f"event {COUNT} must .*no such event"):
        verify_ledger(ledger, noted=head)
    ledger.append(run_started("r8"), run_started("r9"))
    with pytest.raises(LedgerError, match=f"event {COUNT} must have the digest {head.digest}"):
        verify_ledger(ledger, noted=head)


# Properties of the walk itself.

ROWS = st.lists(
    st.builds(
        NewRow,
        at=st.just("2026-01-01T00:00:00.000+00:00"),
        kind=st.sampled_from(["run_started", "run_ended"]),
        run=st.none() | st.text(max_size=3),
        key=st.none() | st.text(max_size=3),
        body=st.text(max_size=5),
        fence=st.none() | st.integers(1, 9),
    ),
    min_size=3,
    max_size=8,
)


@given(rows=ROWS, data=st.data())
def test_whatever_is_done_to_one_event_it_is_the_one_that_is_named(rows, data):
    chained = chain_rows(rows, None)
    assert find_fault(chained) is None
    place = data.draw(st.integers(0, len(chained) - 1))
    row = chained[place]
    changed = row._replace(body=row.body + "x")
    fault = find_fault([*chained[:place], changed, *chained[place + 1 :]])
    assert fault == ("changed", (row.number, row.number), changed)
    if place < len(chained) - 1:  # nothing follows the last one
        written_anew = changed._replace(digest=digest_row(changed))
        fault = find_fault([*chained[:place], written_anew, *chained[place + 1 :]])
        assert fault == ("changed", (row.number, row.number), written_anew)
        fault = find_fault([*chained[:place], *chained[place + 1 :]])
        assert fault == ("removed", (row.number, row.number), None)


@given(rows=ROWS, fitting=st.booleans(), data=st.data())
def test_an_event_between_two_others_is_named(rows, fitting, data):
    """Numbers may have gaps in a ledger of format 1 on a server."""
    chained, before = [], None
    for position, row in enumerate(rows):
        before = chain_row(2 * position + 1, row, before)
        chained.append(before)
    assert find_fault(chained) is None
    place = data.draw(st.integers(0, len(chained) - 2))
    inserted = chain_row(chained[place].number + 1, rows[0], chained[place])
    if not fitting:
        inserted = inserted._replace(previous="no digest")
    fault = find_fault([*chained[: place + 1], inserted, *chained[place + 1 :]])
    assert fault == ("inserted", (inserted.number, inserted.number), inserted)
