"""Checks a span for rows that other spans of the window have, too. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.project import Duplicates, Severity
from schemas.records import Check

_SPANS_SHOWN = 3


@dataclass(frozen=True)
class Repetition:
    """Rows that a span has in common with other spans of the window.

    Attributes:
        span_rows: How many rows the span has.
        rows: How many of them have a key of another span, by its name.
        same: How many of `rows` have the same values, too, by the name of the other span.
        copy_of: The name of a span with the same bytes, also of one that is not in the window.
        rows_of: The name of a span with the same rows that is not in the window.
    """

    span_rows: int
    rows: Mapping[str, int]
    same: Mapping[str, int]
    copy_of: str | None = None
    rows_of: str | None = None


def check_duplicates(
    key: str, repetition: Repetition, policy: Duplicates, limit: float, severity: Severity
) -> Check:
    """Makes the check of a span's rows against those of other spans.

    It fails where the span holds nothing new, and where too many rows have a key that is known and
    other values: either they correct the older ones, or the key does not identify an example, and
    only a person knows.

    Args:
        key: The setting `data.key`.
        repetition: What the span has in common with others.
        policy: What becomes of such rows.
        limit: The greatest share of rows with a known key and other values, where the older row
            stays.
        severity: What a failure does.
    """
    rows, total = repetition.span_rows, sum(repetition.rows.values())
    same = sum(repetition.same.values())
    where = _list(repetition.rows)
    verdict: Literal["passed", "failed", "set_aside"] = "failed"
    if repetition.copy_of is not None:
        message = f"expected rows of its own; received the bytes of span {repetition.copy_of}"
    elif repetition.rows_of is not None:
        message = (
            f"expected rows of its own; received the same rows as span {repetition.rows_of}, "
            "which is not in the window any more"
        )
    elif not total:
        verdict, message = "passed", "no row has the key of a row in another span"
    elif same == rows:
        names = " and ".join(repetition.same)
        message = f"expected rows of its own; received the same rows as span {names}"
    elif policy == "keep":
        verdict = "passed"
        message = f"{_of(total, rows)} have the key of a row in another span ({where}); all count"
    elif policy == "set_aside" and total == rows:
        message = (
            f"expected rows of its own; received {rows} rows whose keys other spans have "
            f"({where}), {same} of them with the same values. {_choices(key)}"
        )
    elif policy == "set_aside" and (total - same) / rows > limit:
        message = (
            f"expected at most {limit:.3g} of the rows to have the key of another span and other "
            f"values; received {_of(total - same, rows)} ({where}). {_choices(key)}"
        )
    else:
        counted = "older" if policy == "set_aside" else "newer"
        verdict = "set_aside"
        message = (
            f"{_of(total, rows)} have the key of a row in another span ({where}), {same} with the "
            f"same values; the {counted} span's row counts"
        )
    return Check(
        kind="duplicates", subject=key, verdict=verdict, message=message, severity=severity
    )


def not_compared(key: str, reason: str, severity: Severity) -> Check:
    """Makes the check of a span whose keys cannot be compared."""
    return Check(
        kind="duplicates", subject=key, verdict="not_compared", message=reason, severity=severity
    )


def _choices(key: str) -> str:
    return (
        "Set data.duplicates to `replace` if newer rows correct older ones, or to `keep` if "
        f"`{key}` may recur in other spans"
    )


def _of(part: int, rows: int) -> str:
    return f"{part} of {rows} rows"


def _list(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: -item[1])
    named = ", ".join(f"{name}: {count}" for name, count in most[:_SPANS_SHOWN])
    more = len(most) - _SPANS_SHOWN
    return f"{named} and {more} more" if more > 0 else named
