"""Dates and times: text to seconds, seconds to the parts of a date, parts to points on a circle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perennial.features.inputs import INTEGERS, NUMBERS, TEXT, checked, checked_number, on_values

if TYPE_CHECKING:
    import tensorflow as tf

    from perennial.features.inputs import Values

_DAY = 24 * 3600
_ERA = 146_097  # days in 400 years, after which the calendar repeats
_EPOCH = 719_468  # days from 0000-03-01 to 1970-01-01
# Groups: 1 year, 2 month, 3 day, 4 hour, 5 minute, 6 second, 7 sign, 8 hours and 9 minutes of the
# zone.
_ISO = (
    r"(\d{4})-(\d{2})-(\d{2})"
    r"(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?(?:[Zz]|([+-])(\d{2})(?::?(\d{2}))?)?)?"
)
_PERIODS = {
    "hour": (24, 0),
    "weekday": (7, 0),
    "day": (31, 1),
    "month": (12, 1),
}  # period and first number


def epoch_seconds(text: Values, default: int = 0) -> Values:
    """Converts an ISO 8601 date, or date and time, to seconds since 1970-01-01T00:00:00Z.

    `2026-01-31`, `2026-01-31T12:30`, `2026-01-31 12:30:59.25+01:00`, `2026-01-31T12:30:59Z`.
    Without a zone the time is taken for UTC; fractions of a second are dropped.

    Args:
        text: Text, dense of any shape or sparse.
        default: The seconds of text in another form and of dates that do not exist, such as a
            month 13.

    Returns:
        int64 in the same form. What is missing stays missing.

    Raises:
        TypeError: The text is not text.
    """
    import tensorflow as tf

    values = checked("epoch_seconds", "text", text, TEXT)
    return on_values(values, lambda strings: _parse(strings, tf.constant(default, tf.int64)))


def date_parts(seconds: Values, utc_offset_hours: float = 0.0) -> dict[str, Values]:
    """Splits a date into its parts in the proleptic Gregorian calendar.

    Args:
        seconds: Whole seconds since 1970-01-01T00:00:00Z, dense of any shape or sparse; before 1970
            they are negative.
        utc_offset_hours: Hours that local time is ahead of UTC; the parts are those of local time.

    Returns:
        `hour` 0 to 23, `weekday` 0 (Monday) to 6, `day` 1 to 31, `month` 1 to 12 and `year`, each
        int64 in the same form. What is missing stays missing.

    Raises:
        TypeError: The seconds are not whole numbers.
        ValueError: The offset is not a number from -24 on.
    """
    import tensorflow as tf

    values = checked("date_parts", "seconds", seconds, INTEGERS)
    checked_number("date_parts", "utc_offset_hours", utc_offset_hours, -24)
    if isinstance(values, tf.SparseTensor):
        parts = _parts(values.values, utc_offset_hours)
        return {
            name: tf.SparseTensor(values.indices, part, values.dense_shape)
            for name, part in parts.items()
        }
    return _parts(values, utc_offset_hours)


def cyclic(values: Values, period: float) -> tuple[Values, Values]:
    """Places a number that comes round on a circle, so that 23:00 is as near to 0:00 as 1:00 is.

    Args:
        values: Numbers from 0, dense of any shape or sparse.
        period: The number at which they come round, such as 24 for hours.

    Returns:
        Sine and cosine of `2 pi value / period`, each float32 in the same form. NaN stays NaN, what
        is missing stays missing.

    Raises:
        TypeError: The values are not numbers.
        ValueError: The period is not above 0.
    """
    import tensorflow as tf

    numbers = checked("cyclic", "values", values, NUMBERS)
    checked_number("cyclic", "period", period, math.ulp(0.0))

    def angle(value: tf.Tensor) -> tf.Tensor:
        # In float64, as float32 cannot hold epoch seconds.
        turn = (
            tf.math.floormod(tf.cast(value, tf.float64), tf.constant(period, tf.float64)) / period
        )
        return turn * (2 * math.pi)

    sine = on_values(numbers, lambda value: tf.cast(tf.sin(angle(value)), tf.float32))
    cosine = on_values(numbers, lambda value: tf.cast(tf.cos(angle(value)), tf.float32))
    return sine, cosine


def cyclic_date_parts(seconds: Values, utc_offset_hours: float = 0.0) -> dict[str, Values]:
    """Places the parts of a date that come round on circles.

    Args:
        seconds: As for `date_parts`.
        utc_offset_hours: As for `date_parts`.

    Returns:
        `hour_sin`, `hour_cos`, and the same of `weekday`, `day` (of 31) and `month`, each float32
        in the same form.

    Raises:
        TypeError: The seconds are not whole numbers.
        ValueError: The offset is not a number from -24 on.
    """
    values = checked("cyclic_date_parts", "seconds", seconds, INTEGERS)
    checked_number("cyclic_date_parts", "utc_offset_hours", utc_offset_hours, -24)
    parts, points = date_parts(values, utc_offset_hours), {}
    for name, (period, first) in _PERIODS.items():
        # The first month and the first day of a month stand at angle 0.
        points[f"{name}_sin"], points[f"{name}_cos"] = cyclic(
            on_values(parts[name], _less(first)), period
        )
    return points


def _less(first: int) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda part: part - first


def _parse(strings: tf.Tensor, default: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    formed = tf.strings.regex_full_match(strings, _ISO)
    safe = tf.where(formed, strings, tf.constant("1970-01-01"))
    year, month, day, hour, minute, second = (_group(safe, number) for number in range(1, 7))
    zone_hours, zone_minutes = _group(safe, 8), _group(safe, 9)
    zone = zone_hours * 3600 + zone_minutes * 60
    behind = tf.equal(tf.strings.regex_replace(safe, f"^{_ISO}$", r"\7"), "-")
    ahead = tf.where(behind, -zone, zone)
    exists = (month >= 1) & (month <= 12) & (day >= 1) & (day <= _days_in_month(year, month))
    in_day = (
        (hour <= 23) & (minute <= 59) & (second <= 59) & (zone_hours <= 23) & (zone_minutes <= 59)
    )
    seconds = _days_from_civil(year, month, day) * _DAY + hour * 3600 + minute * 60 + second - ahead
    return tf.where(formed & exists & in_day, seconds, default)


def _group(text: tf.Tensor, number: int) -> tf.Tensor:
    """Gives the whole number in a group of the pattern, 0 when the group is not there."""
    import tensorflow as tf

    digits = tf.strings.regex_replace(text, f"^{_ISO}$", rf"\{number}")
    return tf.strings.to_number(tf.where(tf.equal(digits, ""), tf.constant("0"), digits), tf.int64)


def _days_in_month(year: tf.Tensor, month: tf.Tensor) -> tf.Tensor:
    next_year, next_month = year + month // 12, month % 12 + 1
    return _days_from_civil(next_year, next_month, 1) - _days_from_civil(year, month, 1)


def _days_from_civil(year: tf.Tensor, month: tf.Tensor, day: Any) -> tf.Tensor:
    """Counts the days since 1970-01-01; all int64 of one shape.

    Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil. Years
    begin in March there, so that the leap day is their last.
    """
    import tensorflow as tf

    year = year - tf.cast(month <= 2, tf.int64)
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * _ERA + day_of_era - _EPOCH


def _parts(seconds: tf.Tensor, utc_offset_hours: float) -> dict[str, tf.Tensor]:
    """Computes the parts of a date.

    Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days and
    weekday_from_days.
    """
    import tensorflow as tf

    local = tf.cast(seconds, tf.int64) + round(utc_offset_hours * 3600)
    days = local // _DAY
    shifted = days + _EPOCH
    era = shifted // _ERA
    day_of_era = shifted - era * _ERA
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    from_march = (5 * day_of_year + 2) // 153
    month = (from_march + 2) % 12 + 1
    return {
        "hour": (local - days * _DAY) // 3600,
        "weekday": (days + 3) % 7,  # 1970-01-01 was a Thursday
        "day": day_of_year - (153 * from_march + 2) // 5 + 1,
        "month": month,
        "year": year_of_era + era * 400 + tf.cast(month <= 2, tf.int64),
    }
