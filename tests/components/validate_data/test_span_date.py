"""The date of a span: which names are dates, and from when on a date is in the future."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from components.validate_data.span_date import check_date, date_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)  # and 2026-03-02 in the easternmost zone


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("2026-01-31", date(2026, 1, 31)),
        ("2026-01-31T06:00:00", date(2026, 1, 31)),
        ("20260131", date(2026, 1, 31)),
        ("2026-13-01", None),
        ("12345678", None),
        ("31", None),
        ("2026-01", None),
        ("week-2026-01-31", None),
    ],
)
def test_names_that_are_dates(name, day):
    assert date_of(name) == day


@pytest.mark.parametrize(
    ("name", "verdicts"),
    [
        ("2026-03-01", ["passed"]),
        ("2026-03-02", ["passed"]),
        ("2026-03-03", ["failed"]),
        ("2031-01-01", ["failed"]),
        ("7", []),
    ],
)
def test_only_what_is_in_the_future_everywhere_fails(name, verdicts):
    assert [check.verdict for check in check_date(name, NOON, "stop")] == verdicts
