"""Reads the rows of a file to be scored, batch by batch: Parquet, CSV with a header, or JSON Lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = (".parquet", ".csv", ".jsonl", ".json", ".ndjson")
Row = dict[str, Any]


def read_columns(data: Path, needed: Sequence[str]) -> list[str]:
    """The columns of a file.

    Raises:
        DataError: It is missing, empty, broken, of an unknown format, or lacks a needed column.
    """
    if data.suffix not in FORMATS:
        raise DataError(
            str(data), f"must end in one of {', '.join(FORMATS)}", data.suffix or "no ending", "Convert it."
        )
    try:
        columns = _columns(data)
    except FileNotFoundError:
        raise DataError(str(data), "must exist", "no such file", "Check the path.") from None
    except (OSError, ValueError) as error:  # Arrow's errors are ValueErrors
        raise DataError(str(data), "must be readable", str(error).splitlines()[0], "Write it again.") from error
    missing = [name for name in needed if name not in columns]
    if missing:
        found = f"no {', '.join(missing)} among {', '.join(columns) or 'no columns'}"
        raise DataError(
            str(data), f"must have the features that the model needs ({', '.join(needed)})", found, "Add it."
        )
    return columns


def read_batches(data: Path, size: int) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file in their order, at most `size` at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(data) as file:
        yield from file.iter_batches(batch_size=size)


def read_rows(data: Path, columns: Sequence[str], size: int) -> Iterator[list[Row]]:
    """The rows of a text file in their order, at most `size` at a time; lines that are blank are none.

    Raises:
        DataError: A line is no row; the message shows it.
    """
    with data.open(encoding="utf-8", newline="\n") as lines:
        filled = (line.rstrip("\r\n") for line in lines if line.strip())
        parse: Callable[[str], Row] = json_row
        if data.suffix == ".csv":
            next(filled, None)
            parse = CsvRow(list(columns))
        while rows := [parse(line) for line in islice(filled, size)]:
            yield rows


def plain_fields(data: Path, columns: Sequence[str]) -> list[Any]:
    """Arrow fields of the columns that are passed on: all but lists; text formats give text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if data.suffix == ".parquet":
        return [field for field in pq.read_schema(data) if not pa.types.is_nested(field.type)]
    return [pa.field(name, pa.string()) for name in columns]


class CsvRow:
    """Parses a line of CSV. A list is a JSON array in its cell, a number is a number; an empty cell is missing."""

    def __init__(self, columns: list[str]) -> None:
        self._columns = columns

    def __call__(self, line: str) -> Row:
        """The row of a line.

        Raises:
            DataError: It has more or fewer cells than the header.
        """
        cells = next(csv.reader([line]))
        if len(cells) != len(self._columns):
            expected = f"must have {len(self._columns)} cells, as the header has"
            raise DataError(f"the row {line[:60]!r}", expected, f"{len(cells)} cells", "Quote cells that hold commas.")
        return {name: _cell(cell) for name, cell in zip(self._columns, cells, strict=True)}


def json_row(line: str) -> Row:
    """The row of a line of JSON Lines.

    Raises:
        DataError: It is not a JSON object.
    """
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"the line {line[:60]!r}", "must be JSON", error, "Write one object a line.") from None
    if not isinstance(row, dict):
        raise DataError(
            f"the line {line[:60]!r}", "must be a JSON object", type(row).__name__, "Write one object a line."
        )
    return row


def _cell(cell: str) -> Any:
    if not cell:
        return None
    try:
        return json.loads(cell)
    except json.JSONDecodeError:
        return cell


def _columns(data: Path) -> list[str]:
    import pyarrow.parquet as pq

    if data.suffix == ".parquet":
        return list(pq.read_schema(data).names)
    with data.open(encoding="utf-8", newline="") as lines:
        first = next((line for line in lines if line.strip()), "")
    if data.suffix == ".csv":
        return next(csv.reader([first]), [])
    return list(json_row(first)) if first else []
