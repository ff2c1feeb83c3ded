"""Moments of a schedule, and what becomes of local times that clocks jump over or show twice."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.cluster.cron import parse_cron
from perennial.production.moments import newest_moment, next_moment
from tests.kubeflow import robfig
from tests.perennial.cluster.test_cron import CRONS, STEADY

# Lord Howe's clocks change by half an hour, Havana's and Beirut's at midnight.
CHANGING = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Beirut",
]


def walk(cron, zone, first, last):
    """Every moment after the first time, until the last one."""
    moments, at = [], first
    while (moment := next_moment(parse_cron(cron), ZoneInfo(zone), at)) and moment <= last:
        moments.append(moment)
        at = moment
    return moments


@pytest.mark.parametrize(
    "day, expected",
    [
        ((2026, 3, 28), "01:30"),
        ((2026, 3, 29), "01:30"),  # there is no 02:30; without the jump it would be now
        ((2026, 3, 30), "00:30"),
        ((2026, 10, 24), "00:30"),
        ((2026, 10, 25), "00:30"),  # the first of two
        ((2026, 10, 26), "01:30"),
    ],
)
def test_a_local_time_comes_once_a_day_whatever_the_clocks_do(day, expected):
    begin = datetime(*day, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
    end = begin + timedelta(hours=23)
    moments = [f"{at:%H:%M}" for at in walk("30 2 * * *", "Europe/Berlin", begin, end)]
    assert moments == [expected]


@pytest.mark.parametrize("month, day, hours", [(3, 29, 23), (6, 1, 24), (10, 25, 25)])
def test_a_schedule_of_every_hour_counts_the_hours_that_pass(month, day, hours):
    zone = ZoneInfo("Europe/Berlin")
    begin = datetime(2026, month, day, tzinfo=zone)
    end = (begin + timedelta(days=1)).astimezone(UTC)  # in local time: the next midnight
    moments = walk("15 * * * *", "Europe/Berlin", begin.astimezone(UTC), end)
    assert len(moments) == hours
    assert {b - a for a, b in itertools.pairwise(moments)} == {timedelta(hours=1)}


@settings(max_examples=10)
@given(st.sampled_from(CHANGING), st.integers(0, 23), st.integers(0, 59))
def test_once_a_day_in_every_zone_and_at_every_time(zone, hour, minute):
    begin = datetime(2026, 1, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    end = datetime(2026, 12, 31, 23, 59, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    moments = walk(f"{minute} {hour} * * *", zone, begin - timedelta(minutes=1), end)
    assert len(moments) == 365
    steps = [(b - a).total_seconds() / 3600 for a, b in itertools.pairwise(moments)]
    assert min(steps) >= 23 and max(steps) <= 25


@settings(max_examples=12)
@given(CRONS, st.sampled_from(STEADY), st.integers(0, 500_000))
def test_where_clocks_do_not_change_it_is_every_minute_that_the_fields_name(text, zone, start):
    begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=start)
    minutes = [begin + timedelta(minutes=number) for number in range(1, 181)]
    six = str(parse_cron(text))
    meant = [at for at in minutes if robfig.matches(six, at.astimezone(ZoneInfo(zone)))]
    assert walk(text, zone, begin, minutes[-1]) == meant
    newest = newest_moment(parse_cron(text), ZoneInfo(zone), begin, minutes[-1])
    assert newest == (meant[-1] if meant else None)


def test_a_day_that_never_comes_has_no_moment():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert next_moment(parse_cron("0 0 30 2 *"), ZoneInfo("UTC"), now) is None
    leap = next_moment(parse_cron("0 0 29 2 *"), ZoneInfo("UTC"), now)
    assert leap == datetime(2028, 2, 29, tzinfo=UTC)
