"""Five fields as people write them mean the same moments as the six that Kubeflow Pipelines reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.cluster.cron import convert_cron, describe_cron, parse_cron
from perennial.errors import PerennialError, ProjectError
from tests.kubeflow import robfig

# No zone here changes its clocks; Nepal's minutes differ, Kiritimati is a day ahead.
STEADY = [
    "UTC",
    "Asia/Tokyo",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
    "America/Phoenix",
]


def field(least, greatest):
    """A field of numbers: a star, a number, a range, a step, or several."""
    number = st.integers(least, greatest)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(1, greatest)
    item = st.one_of(number.map(str), span, st.builds(lambda text, by: f"{text}/{by}", span, step))
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


CRONS = st.tuples(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)).map(" ".join)


def is_meant(text, at):
    """Whether a person's five fields name a minute: crontab(5), read field by field."""
    values = (at.minute, at.hour, at.day, at.month, at.isoweekday())
    stars = [part == "*" for part in text.split()]
    minute, hour, day, month, weekday = (
        any(_item_has(item, value) for item in part.split(","))
        for part, value in zip(text.split(), values, strict=True)
    )
    weekday = weekday or (
        at.isoweekday() == 7 and any(_item_has(i, 0) for i in text.split()[4].split(","))
    )
    days = day and weekday if stars[2] or stars[4] else day or weekday
    return minute and hour and month and days


def _item_has(item, value):
    span, _, step = item.partition("/")
    low, dash, high = span.partition("-")
    if span == "*":
        return True
    return (
        int(low) <= value <= int(high if dash else low) and (value - int(low)) % int(step or 1) == 0
    )


def moments(start, count):
    """Minutes that a rule about minutes, hours, days and months is tried at."""
    begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=start)
    return [begin + timedelta(minutes=7 * 61 * number) for number in range(count)]


@given(CRONS, st.integers(0, 500_000))
def test_the_six_fields_mean_what_the_five_do(text, start):
    six = str(parse_cron(text))
    assert len(six.split()) == 6
    for at in moments(start, 60):
        assert robfig.matches(six, at) == is_meant(text, at), (six, at)
        assert not robfig.matches(six, at.replace(second=1))
    assert parse_cron(describe_cron(six)) == parse_cron(text)


@given(CRONS, st.sampled_from(STEADY), st.sampled_from(STEADY), st.integers(0, 500_000))
def test_a_converted_schedule_means_the_same_moments(text, zone, to, start):
    try:
        six = str(convert_cron(parse_cron(text), zone, to))
    except PerennialError:  # it cannot be written there: said, not guessed
        return
    for at in moments(start, 60):
        there = at.astimezone(ZoneInfo(to))
        assert robfig.matches(six, there) == is_meant(text, at.astimezone(ZoneInfo(zone))), (
            six,
            at,
        )


@pytest.mark.parametrize(
    "text, zone, to, six",
    [
        ("0 3 * * *", "UTC", "UTC", "0 0 3 * * *"),
        ("0 3 * * MON-FRI", "Asia/Tokyo", "UTC", "0 0 18 * * 0-4"),
        ("*/20 * * * *", "Europe/Berlin", "UTC", "0 0,20,40 * * * *"),
        ("0 12 1 * *", "Asia/Tokyo", "UTC", "0 0 3 1 * *"),
    ],
)
def test_what_can_be_written_elsewhere_is(text, zone, to, six):
    assert str(convert_cron(parse_cron(text), zone, to)) == six


@pytest.mark.parametrize(
    "text, zone",
    [
        ("0 3 * * *", "Europe/Berlin"),  # summer time
        ("0 3 1 * *", "Asia/Tokyo"),  # the last day of a month that has 28 to 31
        ("0 3,12 * * 1", "Asia/Tokyo"),  # two days
        ("0,45 3 * * *", "Asia/Kolkata"),  # 21:30 and 22:15
    ],
)
def test_what_cannot_is_refused(text, zone):
    with pytest.raises(PerennialError, match="must have the same hours in UTC"):
        convert_cron(parse_cron(text), zone, "UTC")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0 3 * *",
        "0 0 3 * * *",
        "60 3 * * *",
        "0 24 * * *",
        "0 3 0 * *",
        "0 3 * 13 *",
        "0 3 * * 8",
        "0 3 * * MO",
        "5-1 3 * * *",
        "*/0 3 * * *",
        "5/15 3 * * *",
        "a 3 * * *",
        "0 3 */2 * 1",
        "@daily",
    ],
)
def test_what_is_no_cron_is_refused_with_an_example(text):
    with pytest.raises(PerennialError, match=r"Write it such as \"30 3 \* \* 1-5\""):
        parse_cron(text)


def test_a_zone_must_exist():
    with pytest.raises(ProjectError, match="Europe/Berlin"):
        convert_cron(parse_cron("0 3 * * *"), "Berlin", "UTC")
