"""JSON Lines: one object on each line, which has each key once."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import numpy as np

from perennial.readers.blocks import PIECES, Block, Columns, RowBlock
from perennial.readers.json_objects import DuplicateKeyError, parse_object
from perennial.readers.lines import Line, PushbackStream, longest_line, read_lines
from perennial.readers.rows import Part, Reason, Row, shorten

BLOCK_BYTES = 1 << 20
_MARK = b"\xef\xbb\xbf"


def read_jsonl(stream: BinaryIO, part: Part, max_value_mb: float) -> Iterator[Row]:
    """Reads the object of every line that is not blank."""
    for line in read_lines(stream, part, longest_line(max_value_mb)):
        yield from _rows_of(line)


def read_jsonl_blocks(stream: BinaryIO, part: Part, max_value_mb: float) -> Iterator[Block]:
    """Reads the same rows in blocks of about a megabyte."""
    source, number = PushbackStream(stream), 1
    while data := source.read(BLOCK_BYTES):
        end = data.rfind(b"\n") + 1 if len(data) == BLOCK_BYTES else len(data)
        if not end:  # a line that is longer than a block
            source.give_back(data)
            lines = read_lines(source, part, longest_line(max_value_mb), number)
            yield RowBlock(partial(_first_row, lines))
            number += 1
            continue
        source.give_back(data[end:])
        block = JsonBlock(data[:end], number, part, max_value_mb)
        yield block
        number += block.size


@dataclass(frozen=True)
class JsonBlock:
    """Whole lines; `first` is the number of the first of them."""

    data: bytes
    first: int
    part: Part
    max_value_mb: float

    @property
    def size(self) -> int:
        """Counts the lines."""
        return self.data.count(b"\n") + (not self.data.endswith(b"\n"))

    def columns(self) -> Columns | None:
        """Gives a column for each name; None if a line is broken or a column is mixed."""
        import pyarrow as pa

        try:
            text = (self.data.removeprefix(_MARK) if self.first == 1 else self.data).decode()
            lines = text.split("\n")
            if "\0" in text or max(map(len, lines)) * 4 > longest_line(self.max_value_mb):
                return None
            numbered = [
                (number, line) for number, line in enumerate(lines, self.first) if line.strip()
            ]
            rows = [parse_object(line) for _, line in numbered]
            if not rows or not all(type(row) is dict for row in rows):
                return None
            names = dict.fromkeys(name for row in rows for name in row)
            if _unfit_name(names) is not None:
                return None
            arrays = [pa.array([row.get(name) for row in rows]) for name in names]
        except (ValueError, TypeError, OverflowError, RecursionError, pa.ArrowException):
            return None  # read one by one, the line at fault tells itself
        return Columns(
            pa.RecordBatch.from_arrays(arrays, list(names)),
            np.array([number for number, _ in numbered]),
        )

    def divide(self) -> Sequence[Block]:
        """Gives blocks of fewer lines."""
        lines = io.BytesIO(self.data).readlines()  # unlike splitlines(), at line feeds only
        step = -(-len(lines) // PIECES)
        return [
            JsonBlock(
                b"".join(lines[at : at + step]), self.first + at, self.part, self.max_value_mb
            )
            for at in range(0, len(lines), step)
        ]

    def rows(self) -> Iterator[Row]:
        """Reads the object of every line that is not blank."""
        stream = io.BytesIO(self.data)
        for line in read_lines(stream, self.part, longest_line(self.max_value_mb), self.first):
            yield from _rows_of(line)


def _first_row(lines: Iterator[Line]) -> Iterator[Row]:
    yield from _rows_of(next(lines))


def _rows_of(line: Line) -> Iterator[Row]:
    if line.reason is not None or line.text.strip():
        yield _to_row(line)


def _to_row(line: Line) -> Row:
    if line.reason is not None:
        return Row(line.number, {"line": line.text}, line.reason)
    try:
        values = parse_object(line.text)
    except DuplicateKeyError as error:
        reason = Reason("the line must have each key once", f"{shorten(error.key)} twice")
        return Row(line.number, {"line": line.text}, reason)
    except (ValueError, RecursionError) as error:
        return Row(
            line.number,
            {"line": line.text},
            Reason("the line must be JSON", f"{shorten(line.text)} ({error})"),
        )
    if not isinstance(values, dict):
        reason = Reason("the line must be a JSON object", shorten(values))
        return Row(line.number, {"line": line.text}, reason)
    if (unfit := _unfit_name(values)) is not None:
        reason = Reason("every name must be text that UTF-8 can hold, and not empty", ascii(unfit))
        return Row(line.number, {"line": line.text}, reason)
    return Row(line.number, values)


def _unfit_name(names: Iterable[str]) -> str | None:
    """Gives a name that no column can have: an empty one, or half of a surrogate pair."""
    return next((name for name in names if not name.strip() or any(map(_is_surrogate, name))), None)


def _is_surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"
