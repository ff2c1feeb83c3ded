"""Cron: five fields as people write them, six as Kubeflow Pipelines reads them, and time zones."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from perennial.errors import PerennialError, ProjectError

_DAY = 24 * 60
_DAYS_AHEAD = 2 * 366  # for which two time zones are compared


@dataclass(frozen=True)
class _Field:
    """One of the five: its name, its least and greatest number, and words for numbers."""

    name: str
    least: int
    greatest: int
    words: tuple[str, ...] = ()


_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _WEEKDAYS),  # 0 and 7 are Sunday
)


@dataclass(frozen=True)
class Cron:
    """Times at which something happens: numbers that each field allows; None where it allows all.

    As in every cron, a day that either of `days` and `weekdays` names counts where both do.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int] | None
    months: frozenset[int] | None
    weekdays: frozenset[int] | None

    def __str__(self) -> str:
        """Writes the six fields that Kubeflow Pipelines reads; the first one is of seconds."""
        every_minute, every_hour = len(self.minutes) == 60, len(self.hours) == 24
        return " ".join(
            [
                "0",
                "*" if every_minute else _write(self.minutes),
                "*" if every_hour else _write(self.hours),
                *(
                    "*" if numbers is None else _write(numbers)
                    for numbers in (self.days, self.months, self.weekdays)
                ),
            ]
        )


def parse_cron(text: str) -> Cron:
    """Parses five fields: minute, hour, day of the month, month, day of the week.

    A field is `*`, a number, a range `1-5`, either of both with a step `*/15`, or several of these
    with commas; months and weekdays may be English words of three letters.

    Raises:
        PerennialError: It is none.
    """
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise _cron_error(
            f"{text!r}",
            "must have five fields (minute, hour, day of the month, month, day of the week)",
            f"{len(parts)}",
        )
    if "*" not in (parts[2], parts[4]) and "*" in parts[2][:1] + parts[4][:1]:
        # Some crons take days that both name, some those that one names.
        raise _cron_error(
            "the days",
            "must be of the month or of the week where one of them has a step behind `*`",
            f"{parts[2]} and {parts[4]}",
        )
    minutes, hours, days, months, weekdays = (
        _read_field(part, field) for part, field in zip(parts, _FIELDS, strict=True)
    )
    return Cron(
        minutes=minutes if minutes is not None else frozenset(range(60)),
        hours=hours if hours is not None else frozenset(range(24)),
        days=days,
        months=months,
        weekdays=weekdays if weekdays is None else frozenset(day % 7 for day in weekdays),
    )


def describe_cron(text: str) -> str:
    """Writes six fields as people do, with five; another schedule stays as it is."""
    seconds, *rest = text.split() or [""]
    return " ".join(rest) if seconds == "0" and len(rest) == len(_FIELDS) else text


def convert_cron(cron: Cron, zone: str, to: str) -> Cron:
    """Gives the same moments in another time zone.

    Raises:
        PerennialError: There is no such cron: the zones change their clocks at different times, or
            the days that are meant cannot be written in the other one.
        ProjectError: One of the zones does not exist.
    """
    if zone == to:
        return cron
    shifts = _shifts(read_zone(zone), read_zone(to))
    moved = {_shift(cron, minutes) for minutes in shifts}
    if len(moved) == 1 and (only := moved.pop()) is not None:
        return only
    reason = (
        f"{zone} and {to} are not always the same time apart"
        if len(shifts) > 1
        else "the days that it names begin at another hour there"
    )
    raise PerennialError(
        f"the schedule in {zone}",
        f"must have the same hours in {to}, the time zone of all schedules of the installation",
        reason,
        f"Write it in {to}; or have whoever runs Kubeflow Pipelines set its CRON_SCHEDULE_TIMEZONE "
        "to the other one, and kubeflow.time_zone with it.",
    )


def read_zone(name: str) -> ZoneInfo:
    """Gives the time zone of a name such as `Europe/Berlin`.

    Raises:
        ProjectError: There is none.
    """
    if name in _zones():
        return ZoneInfo(name)
    raise ProjectError(
        "the time zone",
        "must be a name of the time zone database, such as UTC or Europe/Berlin",
        name,
        "Correct kubeflow.time_zone, retrain.time_zone, or --time-zone.",
    )


@cache
def _zones() -> frozenset[str]:
    """Lists the names of the time zone database, which takes a while to read."""
    return frozenset(available_timezones())


def _read_field(text: str, field: _Field) -> frozenset[int] | None:
    """Gives the numbers of a field, or None where it begins with `*` and allows all of them."""
    if text == "*":
        return None
    numbers = {number for item in text.split(",") for number in _read_item(item, field)}
    return frozenset(numbers)


def _read_item(item: str, field: _Field) -> Iterable[int]:
    span, slash, step = item.partition("/")
    first, dash, last = span.partition("-")
    if span == "*":
        low, high = field.least, field.greatest - (field.words == _WEEKDAYS)
    else:
        low = _read_number(first, field)
        high = _read_number(last, field) if dash else low
    valid = low <= high and (not slash or (step.isdecimal() and int(step) > 0))
    if not valid or (slash and not dash and span != "*"):
        raise _cron_error(f"the {field.name}", "must be such as *, 5, 1-5, */15 or 1,3", item)
    return range(low, high + 1, int(step) if slash else 1)


def _read_number(text: str, field: _Field) -> int:
    if text.upper() in field.words:
        return field.words.index(text.upper()) + field.least
    if text.isdecimal() and field.least <= int(text) <= field.greatest:
        return int(text)
    raise _cron_error(
        f"the {field.name}", f"must be from {field.least} to {field.greatest}", text or "nothing"
    )


def _write(numbers: frozenset[int]) -> str:
    """Writes numbers with their ranges: `1-5,7`."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return ",".join(
        f"{each[0]}-{each[-1]}" if len(each) > 2 else ",".join(map(str, each)) for each in ranges
    )


def _shifts(zone: ZoneInfo, to: ZoneInfo) -> set[int]:
    """Gives by how many minutes the clock of `to` is ahead of the other's, now and later on."""
    now = datetime.now(UTC)
    moments = [now + timedelta(days=days) for days in range(_DAYS_AHEAD)]
    walls = [(at.astimezone(to), at.astimezone(zone)) for at in moments]
    ahead = [there.replace(tzinfo=None) - here.replace(tzinfo=None) for there, here in walls]
    return {round(each.total_seconds() / 60) for each in ahead}


def _shift(cron: Cron, minutes: int) -> Cron | None:
    """Gives a cron that is later by some minutes; None where there is none.

    The moments of a day move on, some of them to the day before or after.
    """
    times = {hour * 60 + minute for hour, minute in itertools.product(cron.hours, cron.minutes)}
    moved = {(time + minutes) % _DAY for time in times}
    days = {(time + minutes) // _DAY for time in times}
    hours, of_hour = frozenset(at // 60 for at in moved), frozenset(at % 60 for at in moved)
    if len(moved) != len(hours) * len(of_hour):  # hours that have other minutes than the rest
        return None
    result = replace(cron, hours=hours, minutes=of_hour)
    every_day = cron.days is None and cron.months is None
    if (every_day and cron.weekdays is None) or days == {0}:
        return result
    if not every_day or len(days) > 1 or cron.weekdays is None:
        return None
    (day,) = days
    return replace(result, weekdays=frozenset((each + day) % 7 for each in cron.weekdays))


def _cron_error(where: str, expected: str, received: str) -> PerennialError:
    remedy = 'Write it such as "30 3 * * 1-5", half past three on working days.'
    return PerennialError(f"the schedule: {where}", expected, received, remedy)
