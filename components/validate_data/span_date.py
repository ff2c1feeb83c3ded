"""Checks the date that a span is named by. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from schemas.project import Severity
from schemas.records import Check

# A name that begins like a date: 2026-01-31, 2026-01-31T06:00:00, 20260131.
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ].*)?|((?:19|20)\d\d)(\d\d)(\d\d)")
_EARLIEST_ZONE = timedelta(hours=14)  # where a day begins first


def check_date(name: str, now: datetime, severity: Severity) -> list[Check]:
    """Makes the check of a span that is named by a date; of others there is none.

    A span of tomorrow passes while there is a place where tomorrow has begun.

    Args:
        name: The span's name.
        now: The time, with its zone.
        severity: What a failure does.
    """
    day = date_of(name)
    if day is None:
        return []
    latest = (now.astimezone(UTC) + _EARLIEST_ZONE).date()
    future = day > latest
    message = (
        f"expected a date that is not in the future; received {day}, and today is {latest}"
        if future
        else f"{day} is not in the future"
    )
    verdict = "failed" if future else "passed"
    return [
        Check(kind="future", subject="date", verdict=verdict, message=message, severity=severity)
    ]


def date_of(name: str) -> date | None:
    """Reads the date that a span is named by; None where it is named otherwise."""
    match = _DATE.fullmatch(name)
    if match is None:
        return None
    year, month, day = (int(part) for part in match.groups() if part is not None)
    try:
        return date(year, month, day)
    except ValueError:  # such as month 13
        return None
