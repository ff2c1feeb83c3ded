"""Reads the rows of a file to be scored by the rules of ingestion, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.predict_batch.arrays import UnfitError, column_of, to_arrays, to_columns
from perennial.errors import BrokenFileError, DataError, ProjectError
from perennial.readers.blocks import Block
from perennial.readers.convert import Conformer
from perennial.readers.convert_columns import to_typed_columns
from perennial.readers.read import (
    FILE_ENDINGS,
    columns_of,
    format_of,
    read_blocks,
    read_columns,
    read_rows,
    read_schema,
    rows_of,
)
from perennial.readers.rows import Part, Reason, Row
from serving.features import Feature
from serving.inputs import Arrays

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_ONCE = 4096  # of those that are read one by one


@dataclass(frozen=True)
class ReadRows:
    """Rows in the order of the file.

    Attributes:
        arrays: One array [rows, ...] for each feature.
        passed_on: The columns that are written beside the predictions.
        numbers: The line or row number of each row.
        part: The file.
    """

    arrays: Arrays
    passed_on: pa.RecordBatch
    numbers: Sequence[int] | NDArray[np.int64]
    part: Part

    def __len__(self) -> int:
        return len(self.numbers)

    def place(self, row: int) -> str:
        """Tells where a row stands, such as `data/rows.csv: line 17`."""
        return self.part.place(int(self.numbers[row]))


def open_file(data: Path) -> Part:
    """Looks at the name of a file to be scored.

    Raises:
        DataError: There is no such file, or its ending names no format.
    """
    if not data.is_file():
        raise DataError(str(data), "must exist", "no such file", "Check the path.")
    try:
        return Part(str(data), str(data), format_of(str(data), None))
    except ProjectError:
        expected = (
            f"must end in one of {', '.join(FILE_ENDINGS)}, which a compression's ending may follow"
        )
        raise DataError(str(data), expected, data.suffix or "no ending", "Convert it.") from None


def read_fields(part: Part, needed: Sequence[str], max_value_mb: float) -> list[Any]:
    """Reads the columns that are passed on, as Arrow fields: all but lists; text formats give text.

    Of JSON Lines and TFRecords they are those of the first row.

    Raises:
        DataError: The file is empty or broken, or lacks a needed column.
    """
    import pyarrow as pa

    with _reported():
        columns = read_columns(part, max_value_mb)
        if columns is None:
            columns = next(
                (list(row.values) for row in read_rows(part, max_value_mb) if not row.reason), []
            )
        if missing := [name for name in needed if name not in columns]:
            expected = f"must have the features that the model needs ({', '.join(needed)})"
            received = f"no {', '.join(missing)} among {', '.join(columns) or 'no columns'}"
            raise DataError(part.name, expected, received, "Add it.")
        if part.format == "parquet":
            return [field for field in read_schema(part) if not pa.types.is_nested(field.type)]
    return [pa.field(name, pa.string()) for name in columns]


class RowReader:
    """Reads a file block by block: as columns where all values fit, else row by row.

    Args:
        part: The file.
        features: What the model takes.
        passed_on: Fields of the columns that are written beside the predictions.
        max_value_mb: Largest value in megabytes.
    """

    def __init__(
        self, part: Part, features: Sequence[Feature], passed_on: pa.Schema, max_value_mb: float
    ) -> None:
        self._part = part
        self._features = features
        self._passed_on = passed_on
        self._max_value_mb = max_value_mb
        self._known = {feature.name: column_of(feature) for feature in features}
        self._conformer = Conformer(self._known, max_value_mb)

    def read(self) -> Iterator[ReadRows]:
        """Reads all rows.

        Raises:
            DataError: The file is broken, or a row is not one that the model can score.
        """
        with _reported():
            for block in read_blocks(self._part, self._max_value_mb):
                yield from self._read_block(block)

    def _read_block(self, block: Block) -> Iterator[ReadRows]:
        # The columns of JSON Lines would not tell 1 from 1.0 in what is passed on.
        columns = None if self._part.format == "jsonl" else columns_of(block, self._part)
        typed = None if columns is None else self._to_typed(columns.batch)
        if columns is not None and typed is not None:
            yield self._to_read(typed, columns.numbers, self._select(columns.batch))
            return
        rows = rows_of(block, self._part)
        first = 0
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            batch = None if columns is None else columns.batch.slice(first, len(some))
            passed_on = self._as_text(some) if batch is None else self._select(batch)
            yield self._to_read(self._convert(some), [row.number for row in some], passed_on)
            first += len(some)

    def _to_typed(self, batch: pa.RecordBatch) -> dict[str, pa.Array] | None:
        names = [name for name in batch.schema.names if name in self._known]
        return to_typed_columns(batch.select(names), self._known, self._max_value_mb)

    def _convert(self, rows: Sequence[Row]) -> dict[str, pa.Array]:
        import pyarrow as pa

        for row in rows:
            if row.reason is not None:
                raise self._fault(row.number, row.reason)
        values = [
            {name: row.values[name] for name in self._known if name in row.values} for row in rows
        ]
        try:
            arrays = [pa.array([row.get(name) for row in values]) for name in self._known]
            quick = self._to_typed(pa.RecordBatch.from_arrays(arrays, list(self._known)))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            quick = None  # some values are of several types
        if quick is not None:
            return quick
        converted = []
        for row, own in zip(rows, values, strict=True):
            conformed, reasons = self._conformer.conform(own)
            if reasons:
                raise self._fault(row.number, reasons[0])
            converted.append(conformed)
        return to_columns(converted, self._features)

    def _to_read(
        self,
        typed: dict[str, pa.Array],
        numbers: Sequence[int] | NDArray[np.int64],
        passed_on: pa.RecordBatch,
    ) -> ReadRows:
        try:
            arrays = to_arrays(typed, len(numbers), self._features)
        except UnfitError as error:
            raise self._fault(int(numbers[error.row]), error.reason) from None
        return ReadRows(arrays, passed_on, numbers, self._part)

    def _fault(self, number: int, reason: Reason) -> DataError:
        return DataError(
            f"{self._part.place(number)}:", reason.expected, reason.received, "Correct the row."
        )

    def _select(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.select(self._passed_on.names).cast(self._passed_on)

    def _as_text(self, rows: Sequence[Row]) -> pa.RecordBatch:
        import pyarrow as pa

        columns = [[_text(row.values.get(name)) for row in rows] for name in self._passed_on.names]
        arrays = [pa.array(column, pa.string()) for column in columns]
        return pa.RecordBatch.from_arrays(arrays, schema=self._passed_on)


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    # JSON can hold half of a surrogate pair, which UTF-8 cannot.
    return None if value is None else str(value).encode(errors="backslashreplace").decode()


@contextmanager
def _reported() -> Iterator[None]:
    """Tells what a reader finds wrong with the file as the fault of a file that has not landed."""
    try:
        yield
    except BrokenFileError as error:
        raise DataError(error.where, error.expected, error.received, "Write it again.") from error
