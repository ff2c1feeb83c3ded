"""Moments of a schedule: a cron in a time zone, also where its clocks are changed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from perennial.cluster.cron import Cron

_DAY = timedelta(days=1)
_SHIFT = timedelta(hours=4)  # more than any change of a clock
_YEARS_AHEAD = 9  # from one 29th of February to the next, across a year such as 2100


def newest_moment(cron: Cron, zone: ZoneInfo, after: datetime, until: datetime) -> datetime | None:
    """Gives the newest moment of a schedule after one time and not after another; None: none.

    Args:
        cron: The schedule.
        zone: The time zone that it is meant in.
        after: A time with its zone, such as the moment that was answered last.
        until: A time with its zone, such as now.
    """
    newest: datetime | None = None
    day = _day_of(until, zone) + _DAY
    while day >= _day_of(after, zone) - _DAY:
        for hour in sorted(cron.hours, reverse=True) if _names(cron, day) else ():
            begin = _moment(day, hour, 0, zone)
            if begin - _SHIFT > until:
                continue
            if begin + _SHIFT <= (newest or after):
                return newest
            moments = [at for at in _moments(cron, zone, day, hour) if after < at <= until]
            newest = max([*moments, *([newest] if newest else [])], default=None)
        day -= _DAY
    return newest


def next_moment(cron: Cron, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Gives the first moment of a schedule after a time; None: there is none, as on 30 February."""
    first: datetime | None = None
    day = _day_of(after, zone) - _DAY
    for _ in range(_YEARS_AHEAD * 366):
        for hour in sorted(cron.hours) if _names(cron, day) else ():
            begin = _moment(day, hour, 0, zone)
            if begin + _SHIFT <= after:
                continue
            if first is not None and begin - _SHIFT > first:
                return first
            moments = [at for at in _moments(cron, zone, day, hour) if at > after]
            first = min([*moments, *([first] if first else [])], default=None)
        day += _DAY
    return first


def _moments(cron: Cron, zone: ZoneInfo, day: date, hour: int) -> Iterator[datetime]:
    """Yields the moments of a local hour.

    A schedule that names hours means local times, each once: one that the clocks jump over comes
    when it would have come without the jump, one that they show twice comes the first time. A
    schedule of every hour means the hours that pass. Source: cron(8) of Debian.
    """
    every_hour = len(cron.hours) == 24
    for minute in cron.minutes:
        moment = _moment(day, hour, minute, zone)
        if not every_hour:
            yield moment
            continue
        local = moment.astimezone(zone)
        if (local.hour, local.minute) == (hour, minute):  # else it does not exist
            yield moment
            yield _moment(day, hour, minute, zone, fold=1)


def _moment(day: date, hour: int, minute: int, zone: ZoneInfo, fold: int = 0) -> datetime:
    local = datetime.combine(day, time(hour, minute), tzinfo=zone).replace(fold=fold)
    return local.astimezone(UTC)


def _names(cron: Cron, day: date) -> bool:
    """Tells whether a schedule names a day."""
    if cron.months is not None and day.month not in cron.months:
        return False
    by_month = cron.days is not None and day.day in cron.days
    by_week = cron.weekdays is not None and day.isoweekday() % 7 in cron.weekdays
    return (cron.days is None and cron.weekdays is None) or by_month or by_week


def _day_of(moment: datetime, zone: ZoneInfo) -> date:
    return moment.astimezone(zone).date()
