"""Tells a mistake in a rule of expectations.json from a fault of the data that it judges."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.check_examples.dates import BOUNDED, BOUNDS, seconds_since_1970
from perennial.errors import ProjectError
from perennial.readers.columns import Column
from perennial.step_inputs import EXPECTATIONS_FILE

if TYPE_CHECKING:
    import pandas as pd

_TRIED = 5  # rows, to see whether a rule can be judged on any
_LONGEST_CAUSE = 160
_COLUMN_KEYS = ("column", "column_A", "column_B")
_SUMMARY = re.compile(r"\.(length|min|max|mean)$")


def rule_place(number: int) -> str:
    """Gives the place of an expectation in its file."""
    return f"{EXPECTATIONS_FILE}: expectations[{number}]"


def check_bounds(expectations: Sequence[Mapping[str, Any]], columns: Mapping[str, Column]) -> None:
    """Checks that the bounds of expectations are of the kind of their columns.

    Args:
        expectations: As the file has them.
        columns: The features of the schema.

    Raises:
        ProjectError: A column of numbers is compared with text or a date, one of text with a
            number.
    """
    for number, item in enumerate(expectations):
        column = columns.get(str(item["kwargs"].get("column")))
        if item["type"] not in BOUNDED or column is None or column.many:
            continue
        for name in BOUNDS:
            _check_bound(rule_place(number), item, column, name)


def _check_bound(where: str, item: Mapping[str, Any], column: Column, name: str) -> None:
    bound, subject = item["kwargs"].get(name), item["kwargs"]["column"]
    seconds = seconds_since_1970(bound)
    if column.kind == "bytes" and isinstance(bound, int | float):
        raise ProjectError(
            f"{where}.{name}",
            f'must be a date, such as "2026-01-31", as `{subject}` holds text',
            bound,
            f"Write a date, or land `{subject}` as numbers.",
        )
    if column.kind != "bytes" and seconds is not None:
        raise ProjectError(
            f"{where}.{name}",
            f"must be a number, as `{subject}` holds numbers",
            f'the date "{bound}"',
            f"Write the number, which is {seconds:.0f} where `{subject}` counts seconds since "
            "1970, or land dates as text.",
        )


def check_columns_exist(
    number: int, item: Mapping[str, Any], frame: Collection[str], known: Collection[str]
) -> list[str]:
    """Lists the columns that a rule names and a span lacks, though other spans may have them.

    Args:
        number: Number of the rule in its file.
        item: The rule.
        frame: Columns of the span that have values.
        known: The features of the schema, and the columns that landed; empty: not known.

    Raises:
        ProjectError: A column is in neither.
    """
    lacking = [name for name in _named(item) if name not in frame]
    unknown = [
        name for name in lacking if name not in known and _SUMMARY.sub("", name) not in known
    ]
    if unknown and known:
        near = difflib.get_close_matches(unknown[0], [*known, *frame], 1)
        raise ProjectError(
            rule_place(number),
            "must name a column of schema.pbtxt or of the span",
            f"`{unknown[0]}`",
            f"Did you mean `{near[0]}`?" if near else "Correct its name.",
        )
    condition = str(item["kwargs"].get("row_condition", ""))
    words = set(re.findall(r"\w+", condition))
    return lacking + [name for name in sorted(known) if name in words and name not in frame]


def check_can_be_judged(
    number: int,
    item: Mapping[str, Any],
    frame: pd.DataFrame,
    judge: Callable[[pd.DataFrame], str | None],
) -> None:
    """Tries a rule that failed with an error on single rows: one must be judged without.

    Args:
        number: Number of the rule in its file.
        item: The rule.
        frame: The rows.
        judge: Judges the rule on some rows; gives the error that kept it from that, if there is
            one.

    Raises:
        ProjectError: It cannot be judged on any of them.
    """
    errors = [judge(row) for row in _rows_with_values(item, frame)]
    causes = [error for error in errors if error is not None]
    if causes and len(causes) == len(errors):
        raise broken_rule(number, item, frame, causes[0])


def broken_rule(
    number: int, item: Mapping[str, Any], frame: pd.DataFrame, cause: str
) -> ProjectError:
    """Makes the error of a rule that cannot be judged on what its columns hold."""
    kinds = [
        f"`{name}`: {'text' if frame[name].dtype == object else 'numbers'}"
        for name in _named(item)
        if name in frame
    ]
    held = f" on what its columns hold ({', '.join(kinds)})" if kinds else ""
    arguments = ", ".join(f"{name} {value!r}" for name, value in item["kwargs"].items())
    shown = cause if len(cause) <= _LONGEST_CAUSE else f"{cause[:_LONGEST_CAUSE]}…"
    return ProjectError(
        rule_place(number),
        f"must be a rule that can be judged{held}",
        f"{item['type']} with {arguments} ({shown.rstrip('.')})",
        "Correct the rule; the data was not judged by it.",
    )


def _named(item: Mapping[str, Any]) -> list[str]:
    kwargs = item["kwargs"]
    if item["type"] == "expect_column_to_exist":
        return []
    named = [kwargs[key] for key in _COLUMN_KEYS if isinstance(kwargs.get(key), str)]
    columns = kwargs.get("column_list")
    return named + [name for name in columns or [] if isinstance(name, str)]


def _rows_with_values(item: Mapping[str, Any], frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yields some rows in which no column that a rule names is missing, each as a frame."""
    names = [name for name in _named(item) if name in frame]
    whole = frame.dropna(subset=names) if names else frame
    step = max(1, len(whole) // _TRIED)
    for start in range(0, min(len(whole), step * _TRIED), step):
        yield whole.iloc[start : start + 1]
