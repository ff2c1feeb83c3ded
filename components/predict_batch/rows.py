"""Reads the rows of a file to be scored by the rules of ingestion, whatever its format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.predict_batch.arrays import UnfitError, column_of, to_arrays, to_columns
from components.predict_batch.set_aside import SetAsideRows
from perennial.errors import BrokenFileError, DataError, DelimiterError, ProjectError
from perennial.readers.blocks import Block
from perennial.readers.columns import Column, Kind
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
from serving.domains import DomainCheck, rows_outside, shown_outside
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

    def slice(self, first: int, size: int) -> ReadRows:
        """Gives consecutive rows, without a copy; fewer at the end."""
        arrays = {name: array[first : first + size] for name, array in self.arrays.items()}
        numbers = self.numbers[first : first + size]
        return ReadRows(arrays, self.passed_on.slice(first, size), numbers, self.part)

    def take(self, rows: NDArray[np.intp]) -> ReadRows:
        """Gives some of the rows."""
        arrays = {name: array[rows] for name, array in self.arrays.items()}
        numbers = np.asarray(self.numbers)[rows]
        return ReadRows(arrays, self.passed_on.take(rows), numbers, self.part)


class TextColumnError(ValueError):
    """A column that was to be passed on as numbers holds something else."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def open_file(data: Path, missing: Sequence[str] = (), delimiter: str = ",") -> Part:
    """Looks at the name of a file to be scored.

    Args:
        data: The file.
        missing: Words that mean "no value".
        delimiter: The character between the cells of CSV.

    Raises:
        DataError: There is no such file, or its ending names no format.
    """
    if not data.is_file():
        raise DataError(str(data), "must exist", "no such file", "Check the path.")
    try:
        form = format_of(str(data), None)
    except ProjectError:
        expected = (
            f"must end in one of {', '.join(FILE_ENDINGS)}, which a compression's ending may follow"
        )
        raise DataError(str(data), expected, data.suffix or "no ending", "Convert it.") from None
    return Part(str(data), str(data), form, missing=tuple(missing), delimiter=delimiter)


def read_fields(
    part: Part,
    needed: Sequence[str],
    max_value_mb: float,
    kinds: Mapping[str, Kind] | None = None,
) -> list[Any]:
    """Reads the columns that are passed on, as Arrow fields: all but lists.

    Those of a Parquet file keep their type. Of other formats the columns of known `kinds` are
    numbers, and the others text; of JSON Lines and TFRecords they are those of the first rows.

    Raises:
        DataError: The file is empty or broken, or lacks a needed column.
    """
    import pyarrow as pa

    with _reported():
        columns = read_columns(part, max_value_mb)
        if columns is None:
            first = islice(read_rows(part, max_value_mb), _ROWS_AT_ONCE)
            columns = list(dict.fromkeys(n for row in first if not row.reason for n in row.values))
        elif missing := [name for name in needed if name not in columns]:
            expected = f"must have the features that the model needs ({', '.join(needed)})"
            received = f"no {', '.join(missing)} among {', '.join(columns) or 'no columns'}"
            raise DataError(part.name, expected, received, "Add it.")
        if part.format == "parquet":
            return [field for field in read_schema(part) if not pa.types.is_nested(field.type)]
    numbers = {"int": pa.int64(), "float": pa.float64()}
    known = kinds or {}
    return [pa.field(name, numbers.get(known.get(name, ""), pa.string())) for name in columns]


class RowReader:
    """Reads a file block by block: as columns where all values fit, else row by row.

    Args:
        part: The file.
        features: What the model takes.
        passed_on: Fields of the columns that are written beside the predictions.
        max_value_mb: Largest value in megabytes.
        set_aside: Takes the rows that cannot be scored.
        domains: What is done with values outside their domains.
    """

    def __init__(
        self,
        part: Part,
        features: Sequence[Feature],
        passed_on: pa.Schema,
        max_value_mb: float,
        set_aside: SetAsideRows,
        domains: DomainCheck,
    ) -> None:
        self._part = part
        self._features = features
        self._passed_on = passed_on
        self._max_value_mb = max_value_mb
        self._set_aside = set_aside
        self._domains = domains
        self._known = {feature.name: column_of(feature) for feature in features}
        self._conformer = Conformer(self._known, max_value_mb)
        self._numbers = _number_columns(passed_on)
        self._number_conformer = Conformer(self._numbers, max_value_mb)

    def read(self) -> Iterator[ReadRows]:
        """Reads all rows that the model can score, in their order.

        Raises:
            DataError: The file is broken.
            TextColumnError: A column that is passed on as numbers holds something else.
        """
        with _reported():
            for block in read_blocks(self._part, self._max_value_mb):
                for rows in self._read_block(block):
                    checked = self._check_domains(rows)
                    if len(checked):
                        yield checked

    def _read_block(self, block: Block) -> Iterator[ReadRows]:
        # The columns of JSON Lines would not tell 1 from 1.0 in what is passed on.
        columns = None if self._part.format == "jsonl" else columns_of(block, self._part)
        typed = None if columns is None else self._to_typed(columns.batch)
        if columns is not None and typed is not None:
            try:
                arrays = to_arrays(typed, len(columns.numbers), self._features)
                yield ReadRows(arrays, self._select(columns.batch), columns.numbers, self._part)
                return
            except UnfitError:
                pass  # a row is at fault: it is found among the rows one by one
        rows = rows_of(block, self._part)
        first = 0
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            batch = None if columns is None else columns.batch.slice(first, len(some))
            yield from self._read_rows(some, batch)
            first += len(some)

    def _read_rows(self, rows: Sequence[Row], batch: pa.RecordBatch | None) -> Iterator[ReadRows]:
        """Reads rows; `batch` are the same rows as columns, where the format has them."""
        pieces = list(self._pieces(rows, range(len(rows))))
        for places, arrays in _join(pieces):
            passed_on = (
                self._select(batch.take(places))
                if batch is not None
                else self._to_fields([rows[place] for place in places])
            )
            yield ReadRows(arrays, passed_on, [rows[place].number for place in places], self._part)

    def _pieces(self, rows: Sequence[Row], places: range) -> Iterator[tuple[list[int], Arrays]]:
        """Converts the rows at some places; divides them until those at fault are alone."""
        try:
            yield list(places), self._to_arrays([rows[place] for place in places])
        except _RowError as error:
            if len(places) == 1:
                row = rows[places[0]]
                self._set_aside.add(self._part.place(row.number), error.reason, row.values)
                return
            middle = len(places) // 2
            yield from self._pieces(rows, places[:middle])
            yield from self._pieces(rows, places[middle:])

    def _to_typed(self, batch: pa.RecordBatch) -> dict[str, pa.Array] | None:
        names = [name for name in batch.schema.names if name in self._known]
        return to_typed_columns(batch.select(names), self._known, self._max_value_mb)

    def _to_arrays(self, rows: Sequence[Row]) -> Arrays:
        """Makes arrays of rows.

        Raises:
            _RowError: A row does not fit the model.
        """
        try:
            return to_arrays(self._convert(rows), len(rows), self._features)
        except UnfitError as error:
            raise _RowError(error.reason) from None

    def _convert(self, rows: Sequence[Row]) -> dict[str, pa.Array]:
        import pyarrow as pa

        for row in rows:
            if row.reason is not None:
                raise _RowError(row.reason)
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
        for own in values:
            conformed, reasons = self._conformer.conform(own)
            if reasons:
                raise _RowError(reasons[0])
            converted.append(conformed)
        return to_columns(converted, self._features)

    def _check_domains(self, rows: ReadRows) -> ReadRows:
        """Counts values outside their domains; sets their rows aside where the setting says so."""
        kept = np.ones(len(rows), bool)
        for feature in self._features:
            outside = np.flatnonzero(rows_outside(rows.arrays[feature.name], feature))
            if not len(outside):
                continue
            self._domains.counts[feature.name] += len(outside)
            if not self._domains.refuses:
                continue
            for row in outside[kept[outside]].tolist():
                expected, received = shown_outside(rows.arrays[feature.name][row], feature)
                reason = Reason(f"`{feature.name}` must be {expected}", received)
                values = rows.passed_on.slice(row, 1).to_pylist()[0]
                self._set_aside.add(rows.place(row), reason, values)
            kept[outside] = False
        return rows if kept.all() else rows.take(np.flatnonzero(kept))

    def _select(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Gives the columns that are passed on, in the types of their fields."""
        import pyarrow as pa

        if self._part.format == "parquet":
            return batch.select(self._passed_on.names).cast(self._passed_on)
        columns = []
        for field in self._passed_on:
            column = batch.column(field.name)
            if field.name in self._numbers:
                own = pa.RecordBatch.from_arrays([column], names=[field.name])
                typed = to_typed_columns(own, self._numbers, self._max_value_mb)
                if typed is None:
                    raise TextColumnError(field.name)
                column = typed.get(field.name, pa.nulls(len(column), field.type))
            columns.append(column.cast(field.type))
        return pa.RecordBatch.from_arrays(columns, schema=self._passed_on)

    def _to_fields(self, rows: Sequence[Row]) -> pa.RecordBatch:
        """Makes the columns that are passed on of rows."""
        import pyarrow as pa

        numbers: dict[str, list[Any]] = {name: [] for name in self._numbers}
        for row in rows:
            own = {name: row.values.get(name) for name in numbers}
            values, reasons = self._number_conformer.conform(own)
            for name, column in numbers.items():
                value = values.get(name)
                if isinstance(value, list) or (reasons and value is None and own[name] is not None):
                    raise TextColumnError(name)
                column.append(value)
        arrays = [
            pa.array(
                numbers[field.name]
                if field.name in numbers
                else [_text(row.values.get(field.name)) for row in rows],
                field.type,
            )
            for field in self._passed_on
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._passed_on)


class _RowError(ValueError):
    """A row does not fit the model."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _number_columns(passed_on: pa.Schema) -> dict[str, Column]:
    import pyarrow as pa

    kinds: dict[Any, Kind] = {pa.int64(): "int", pa.float64(): "float"}
    return {field.name: Column(kinds[field.type]) for field in passed_on if field.type in kinds}


def _join(pieces: Sequence[tuple[list[int], Arrays]]) -> Iterator[tuple[list[int], Arrays]]:
    """Joins neighbouring pieces whose arrays have the same shapes but for the rows."""
    together: list[tuple[list[int], Arrays]] = []
    for piece in pieces:
        if together and _shapes(together[-1][1]) != _shapes(piece[1]):
            yield _concatenate(together)
            together = []
        together.append(piece)
    if together:
        yield _concatenate(together)


def _concatenate(pieces: Sequence[tuple[list[int], Arrays]]) -> tuple[list[int], Arrays]:
    places = [place for some, _ in pieces for place in some]
    names = pieces[0][1]
    return places, {name: np.concatenate([arrays[name] for _, arrays in pieces]) for name in names}


def _shapes(arrays: Arrays) -> list[tuple[int, ...]]:
    return [array.shape[1:] for array in arrays.values()]


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    if isinstance(value, dict):  # bytes in base64, as JSON holds them
        return json.dumps(value)
    # JSON can hold half of a surrogate pair, which UTF-8 cannot.
    return None if value is None else str(value).encode(errors="backslashreplace").decode()


@contextmanager
def _reported() -> Iterator[None]:
    """Tells what a reader finds wrong with the file as the fault of a file that has not landed."""
    try:
        yield
    except DelimiterError as error:
        remedy = "Name them with --delimiter, or write it again."
        raise DataError(error.where, error.expected, error.received, remedy) from error
    except BrokenFileError as error:
        raise DataError(error.where, error.expected, error.received, "Write it again.") from error
