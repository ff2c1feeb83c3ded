"""Judges expectations on a span that is too large to be held at once.

Those that look at each row by itself are judged block by block, and what the blocks gave is added
up. Any other is judged on the whole of the columns that it names: 8 bytes for each of their values,
and where it is text the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.check_examples.example_table import Table

if TYPE_CHECKING:
    import pandas as pd

# Whether a row breaks it depends on that row alone. Those of uniqueness, order and outliers are not
# among them, nor are those of types, which look at the type of a whole column.
ROW_BY_ROW = frozenset(
    f"expect_{name}"
    for name in (
        "column_pair_values_a_to_be_greater_than_b",
        "column_pair_values_to_be_equal",
        "column_pair_values_to_be_in_set",
        "column_value_lengths_to_be_between",
        "column_value_lengths_to_equal",
        "column_values_to_be_between",
        "column_values_to_be_dateutil_parseable",
        "column_values_to_be_in_set",
        "column_values_to_be_json_parseable",
        "column_values_to_be_null",
        "column_values_to_match_json_schema",
        "column_values_to_match_regex",
        "column_values_to_match_regex_list",
        "column_values_to_match_strftime_format",
        "column_values_to_not_be_in_set",
        "column_values_to_not_be_null",
        "column_values_to_not_match_regex",
        "column_values_to_not_match_regex_list",
        "multicolumn_sum_to_equal",
        "multicolumn_values_to_be_equal",
        "select_column_values_to_be_unique_within_record",
    )
)
_ROW_COUNTS = frozenset(
    f"expect_table_row_count_to_{name}" for name in ("be_between", "equal", "equal_other_table")
)
_COLUMN_NAMES = frozenset(
    f"expect_{name}"
    for name in (
        "column_to_exist",
        "table_column_count_to_be_between",
        "table_column_count_to_equal",
        "table_columns_to_match_ordered_list",
        "table_columns_to_match_set",
    )
)
_SHOWN = 20  # values that a result of Great Expectations lists as examples


def frame_for(item: Mapping[str, Any], table: Table, block: pd.DataFrame) -> pd.DataFrame:
    """Reads as little of a table as an expectation needs that is not judged row by row.

    Args:
        item: The expectation, as the file has it.
        table: The span.
        block: A part of it, which has the names of all columns.
    """
    import pandas as pd

    if item["type"] in _COLUMN_NAMES:
        return block
    if item["type"] in _ROW_COUNTS:
        return pd.DataFrame(index=pd.RangeIndex(len(table)))
    kwargs = item["kwargs"]
    named = [kwargs[key] for key in ("column", "column_A", "column_B") if key in kwargs]
    named += kwargs.get("column_list", [])
    # A condition names columns in a text of its own.
    return table.frame(None if "row_condition" in kwargs or not named else named)


def add_up(parts: Sequence[Mapping[str, Any]], mostly: float) -> dict[str, Any]:
    """Adds up the results of an expectation on blocks of a span, as JSON, to that on the whole.

    Source of the formulas: great_expectations 1.24, `_format_map_output` and `_mostly_success` in
    `expectations/expectation.py`.

    Args:
        parts: Its result on each block, in the format COMPLETE.
        mostly: The share of the rows that must be as expected, of those that have a value where the
            result counts those that have none.
    """
    for part in parts:
        if "unexpected_count" not in part["result"]:  # it could not be judged
            return dict(part)
    results = [part["result"] for part in parts]
    rows, unexpected = (
        sum(result[name] for result in results) for name in ("element_count", "unexpected_count")
    )
    missing = sum(result.get("missing_count", 0) for result in results)
    considered = rows - missing
    values = [value for result in results for value in result.get("partial_unexpected_list") or []][
        :_SHOWN
    ]
    places = [place for result in results for place in result.get("unexpected_index_list") or []]
    counts: Counter[Any] = Counter()
    for result in results:
        counts.update(_hashable(value) for value in result.get("unexpected_list") or [])
    total = {
        **results[0],
        "element_count": rows,
        "unexpected_count": unexpected,
        "unexpected_percent": _percent(unexpected, considered),
        "partial_unexpected_list": values,
        "partial_unexpected_index_list": places[:_SHOWN],
        "partial_unexpected_counts": [
            {"value": value, "count": count} for value, count in counts.most_common(_SHOWN)
        ],
        "unexpected_list": values,
        "unexpected_index_list": places,
    }
    if "missing_count" in total:
        total |= {"missing_count": missing, "missing_percent": _percent(missing, rows)}
        total |= {
            "unexpected_percent_total": _percent(unexpected, rows),
            "unexpected_percent_nonmissing": _percent(unexpected, considered),
        }
    success = not considered or (considered - unexpected) / considered >= mostly
    return {**parts[0], "success": success, "result": total}


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
