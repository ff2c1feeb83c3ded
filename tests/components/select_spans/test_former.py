"""Which earlier champions the present one is held against."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from components.select_spans.former import MOST, choose_former
from perennial.ledger.events import Event
from tests.perennial.records import deployment

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def deployments(*made):
    """Deployments of versions, so many days ago."""
    events = []
    for number, (version, days) in enumerate(made, 1):
        body = deployment(str(version), replaces=number - 1 or None)
        at = (NOW - timedelta(days=days)).isoformat()
        events.append((Event(number, at, "deployment", None, body), body))
    return events


def chosen(made, days=90):
    return [each.version for each in choose_former(made, days, NOW)]


def test_nothing_is_chosen_without_an_earlier_champion():
    assert chosen(deployments()) == chosen(deployments((1, 5))) == []


def test_what_served_within_the_days_is_chosen_also_if_it_was_deployed_before():
    made = deployments((1, 300), (2, 200), (3, 20), (4, 1))
    assert chosen(made) == ["2", "3"]
    assert chosen(made, days=10) == ["3"]
    assert chosen(made, days=0) == []


def test_a_version_that_serves_again_is_not_held_against_itself():
    assert chosen(deployments((1, 30), (2, 20), (1, 10))) == ["2"]


@given(st.integers(1, 40))
def test_of_many_the_oldest_the_newest_and_some_between_are_chosen(count):
    made = deployments(*((number, 80 - number) for number in range(count)))
    found = chosen(made)
    assert len(found) == min(MOST, count - 1) == len(set(found))
    assert found == sorted(found, key=int)
    if count > 1:
        assert (found[0], found[-1]) == ("0", str(count - 2))
