"""Cron as Kubeflow Pipelines reads it: github.com/robfig/cron 1.2, with five fields or six.

With five, the first is of seconds all the same and the day of the week is left out.
"""

from __future__ import annotations

from datetime import datetime

from tests.kubeflow.contract import Refusal

_BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_WORDS = (
    {},
    {},
    {},
    {},
    dict(zip(_MONTHS, range(1, 13), strict=True)),
    dict(zip(_DAYS, range(7), strict=True)),
)


def parse(text: str) -> list[tuple[set[int], bool]]:
    """The numbers of each of six fields, and whether it is a star."""
    parts = text.split()
    if len(parts) == 5:
        parts.append("*")
    if len(parts) != 6:
        raise Refusal(400, f"Schedule cron is not a supported format: {text}")
    return [
        _field(part, *bounds, words)
        for part, bounds, words in zip(parts, _BOUNDS, _WORDS, strict=True)
    ]


def matches(text: str, at: datetime) -> bool:
    """Whether something happens at a moment, whose clock is the installation's."""
    seconds, minutes, hours, days, months, weekdays = parse(text)
    of_day, of_week = at.day in days[0], at.isoweekday() % 7 in weekdays[0]
    day = of_day and of_week if days[1] or weekdays[1] else of_day or of_week
    return day and (
        at.second in seconds[0]
        and at.minute in minutes[0]
        and at.hour in hours[0]
        and at.month in months[0]
    )


def _field(text: str, least: int, greatest: int, words: dict[str, int]) -> tuple[set[int], bool]:
    numbers: set[int] = set()
    star = False
    for item in text.split(","):
        span, slash, step = item.partition("/")
        first, dash, last = span.partition("-")
        try:
            if first in ("*", "?"):
                low, high, star = least, greatest, True
            else:
                low = words.get(first.lower(), -1) if first.lower() in words else int(first)
                high = (
                    (words[last.lower()] if last.lower() in words else int(last)) if dash else low
                )
                if slash and not dash:
                    high = greatest
            if not (least <= low <= high <= greatest and int(step or 1) > 0):
                raise ValueError(item)
        except ValueError:
            raise Refusal(400, f"Schedule cron is not a supported format: {text}") from None
        numbers |= set(range(low, high + 1, int(step or 1)))
    return numbers, star
