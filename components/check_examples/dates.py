"""Rules whose bounds are dates: texts and bounds are compared as seconds since 1970."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

BOUNDED = frozenset(f"expect_column_{name}_to_be_between" for name in ("values", "max", "min"))
BOUNDS = ("min_value", "max_value")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ].+)?")
_EPOCH = datetime(1970, 1, 1)
_SHOWN = 20  # values that a result of Great Expectations lists as examples


def seconds_since_1970(value: object) -> float | None:
    """Reads a date or a time in ISO form; gives None for anything else.

    A time with a zone is converted to UTC; one without is taken as it is written.
    """
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - _EPOCH).total_seconds()


def has_dates(item: Mapping[str, Any]) -> bool:
    """Tells whether an expectation's bounds are dates."""
    bounds = [item["kwargs"].get(name) for name in BOUNDS]
    return item["type"] in BOUNDED and any(
        seconds_since_1970(bound) is not None for bound in bounds
    )


def in_seconds(item: Mapping[str, Any]) -> dict[str, Any]:
    """Gives an expectation with its bounds as seconds."""
    kwargs = dict(item["kwargs"])
    for name in BOUNDS:
        if name in kwargs:
            kwargs[name] = seconds_since_1970(kwargs[name])
    return {**item, "kwargs": kwargs}


def frame_in_seconds(item: Mapping[str, Any], frame: pd.DataFrame) -> pd.DataFrame:
    """Gives a frame whose column that the expectation bounds holds seconds.

    A text that is no date lies beyond every bound.
    """
    column = item["kwargs"].get("column")
    if column not in frame or frame[column].dtype != object:
        return frame
    beyond = math.inf if item["kwargs"].get("min_value") is None else -math.inf

    def convert(value: object) -> float:
        if value is None or value != value:  # pandas writes some missing values as NaN
            return math.nan
        seconds = seconds_since_1970(value)
        return beyond if seconds is None else seconds

    return frame.assign(**{column: frame[column].map(convert).astype("float64")})


def show_dates(
    item: Mapping[str, Any], result: Mapping[str, Any], frame: pd.DataFrame
) -> dict[str, Any]:
    """Gives a result as JSON with the column's own values instead of seconds.

    Args:
        item: The expectation, as the file has it.
        result: Its result on the frame in seconds.
        frame: The frame as it was.
    """
    details = dict(result.get("result") or {})
    column = item["kwargs"].get("column")
    if "unexpected_index_list" in details:
        rows = details["unexpected_index_list"] or []
        values = [frame[column].loc[row] for row in rows]
        counts = Counter(values).most_common(_SHOWN)
        details |= {
            "unexpected_list": values,
            "partial_unexpected_list": values[:_SHOWN],
            "partial_unexpected_counts": [
                {"value": value, "count": count} for value, count in counts
            ],
        }
    observed = details.get("observed_value")
    if isinstance(observed, int | float):
        details["observed_value"] = _show(observed, frame[column])
    return {**result, "result": details}


def _show(seconds: float, column: pd.Series[Any]) -> str:
    if math.isfinite(seconds):
        return (_EPOCH + timedelta(seconds=seconds)).isoformat()
    value = next(value for value in column.dropna() if seconds_since_1970(value) is None)
    return f"{value!r}, which is no date"
