"""CSV as RFC 4180 has it: a header, commas, quotes, and quoted cells that may hold line ends."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from perennial.reading.lines import Line, longest_line, read_lines
from perennial.reading.rows import BrokenFileError, Part, Reason, Row, shorten


class _Lines:
    """Feeds a CSV reader line by line; remembers those of the current record, so that they can be read again."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._again: deque[Line] = deque()
        self.taken: list[Line] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        return line.text

    def give_back(self) -> None:
        """Takes back all lines of the record but the first, which is at fault."""
        self._again.extendleft(reversed(self.taken[1:]))


def read_csv_header(stream: BinaryIO, part: Part, max_value_mb: float) -> list[str]:
    """The names of the columns.

    Raises:
        BrokenFileError: There is no header that can be read.
    """
    first = next(_records(stream, part, max_value_mb), None)
    if first is None:
        raise BrokenFileError(part.name, "must have a header and rows", "no line")
    number, header, reason = first
    if reason is not None:
        raise BrokenFileError(part.place(number), f"must be a header: {reason.expected}", reason.received)
    return header


def read_csv(stream: BinaryIO, part: Part, max_value_mb: float) -> Iterator[Row]:
    """The rows below the header. A row's number is that of the line it begins in; an empty cell is missing."""
    records = _records(stream, part, max_value_mb)
    header: list[str] = next(records, (0, [], None))[1]
    width = len(header)
    for number, cells, reason in records:
        values = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
        if reason is None and len(cells) != width:
            reason = Reason(f"the row must have {width} cells, as the header has", str(len(cells)))
            values |= {f"cell {place}": cell for place, cell in enumerate(cells[width:], start=width + 1)}
        yield Row(number, values, reason)


def _records(stream: BinaryIO, part: Part, max_value_mb: float) -> Iterator[tuple[int, list[str], Reason | None]]:
    """Line number, cells and fault of every record that is not a blank line.

    A quote that is opened and never closed would swallow the rows after it. The line that opens it is then a record
    of its own, and the reading goes on with the line after it.
    """
    longest = longest_line(max_value_mb)
    csv.field_size_limit(longest)
    lines = _Lines(read_lines(stream, part, longest))
    reader = csv.reader(lines, strict=True)
    while True:
        lines.taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if not lines.taken:
                raise BrokenFileError(part.name, "must be CSV", error) from error
            lines.give_back()
            first = lines.taken[0]
            yield first.number, [first.text.rstrip("\r\n")], first.reason or _unquoted(error, first)
            continue
        fault = next((line.reason for line in lines.taken if line.reason), None)
        if cells or fault:
            yield lines.taken[0].number, cells, fault


def _unquoted(error: csv.Error, line: Line) -> Reason:
    return Reason("the row must be CSV with every quote closed", f"{shorten(line.text)} ({error})")
