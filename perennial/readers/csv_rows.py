"""CSV by RFC 4180: a header, commas, quotes, and quoted cells that may hold line ends.

Another delimiter may stand for the commas.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from perennial.errors import BrokenFileError, DelimiterError
from perennial.readers.blocks import PIECES, Block, Columns, RowBlock
from perennial.readers.lines import Line, PushbackStream, longest_line, read_lines
from perennial.readers.rows import Part, Reason, Row, shorten

BLOCK_BYTES = 1 << 20
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# Lines within a quoted cell that are taken for rows which a stray quote swallowed: so many, each of
# as many cells as the header has. Prose has a comma a line now and then.
_LEAST_ROWS, _LEAST_ROWS_OF_TWO = 2, 5
_CAREFUL_BYTES = 1 << 16  # read one by one where quotes or text are at fault

Record = tuple[int, list[str], Reason | None]
"""The number of a record's first line, its cells, and its fault, if it has one."""


class _Lines:
    """Feeds lines to a CSV reader; keeps those of the current record, to read them again."""

    def __init__(self, lines: Iterator[Line], first: int = 1) -> None:
        self._lines = lines
        self.again: deque[Line] = deque()
        self.taken: list[Line] = []
        self._last = first - 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.again.popleft() if self.again else next(self._lines)
        self.taken.append(line)
        self._last = line.number
        return line.text

    @property
    def next_number(self) -> int:
        """Gives the number of the line that comes next."""
        return self.again[0].number if self.again else self._last + 1

    def give_back(self) -> None:
        """Takes back all lines of the record but the first, which is at fault."""
        self.again.extendleft(reversed(self.taken[1:]))


def read_csv_header(stream: BinaryIO, part: Part, max_value_mb: float) -> list[str]:
    """Reads the names of the columns.

    Raises:
        BrokenFileError: There is no header that can be read.
        DelimiterError: Its cells stand between other delimiters than those of the part.
    """
    header = _take_header(_records(stream, part, max_value_mb), part)
    if not header:
        raise BrokenFileError(part.name, "must have a header and rows", "no line")
    return header


def read_csv(stream: BinaryIO, part: Part, max_value_mb: float) -> Iterator[Row]:
    """Reads the rows below the header.

    A row has the number of its first line. An empty cell is a missing value.
    """
    records = _records(stream, part, max_value_mb)
    header = _take_header(records, part)
    return (_to_row(header, *record) for record in records)


def read_csv_blocks(stream: BinaryIO, part: Part, max_value_mb: float) -> Iterator[Block]:
    """Reads the same rows in blocks of about a megabyte.

    A block ends where a record ends. That is known where every quote opens or closes a cell or
    stands doubled within one; elsewhere the rows are read one by one, until a record has ended.
    """
    source, longest = PushbackStream(stream), longest_line(max_value_mb)
    lines = _Lines(read_lines(source, part, longest))
    header = _take_header(_read_records(lines, part, longest), part)
    line = _give_back(lines, source)
    while True:
        for size in (BLOCK_BYTES, _CAREFUL_BYTES):
            data = source.read(size)
            block = _as_block(header, data, line, len(data) < size, part, max_value_mb)
            if block is not None and not _swallows_rows(block):
                break
            block = None
            source.give_back(data)
        if not data:
            return
        if block is not None:
            source.give_back(data[block.ends[-1] :])
            line += data.count(b"\n", 0, int(block.ends[-1]))
            yield block
            continue
        # The block must be read before the next one is asked for: only then is it known where it
        # ends.
        lines = _Lines(read_lines(source, part, longest, line), line)
        yield RowBlock(partial(_read_some, header, lines, part, longest, len(data)))
        line = _give_back(lines, source)


@dataclass(frozen=True)
class CsvBlock:
    """Records in UTF-8 whose quotes are regular.

    Attributes:
        header: Names of the columns.
        data: The text; every record ends at one of `ends`, the last of which may be the end of the
            file.
        ends: Offsets in `data` behind each record, blank lines among them: int64 [records].
        lines: The line that each record begins in, counted from 1: int64 [records].
    """

    header: list[str]
    data: bytes
    ends: NDArray[np.int64]
    lines: NDArray[np.int64]
    part: Part
    max_value_mb: float

    @property
    def size(self) -> int:
        """Counts the records."""
        return len(self.ends)

    def columns(self) -> Columns | None:
        """Gives cells as text, null where empty; None if a record has too many or too few."""
        import pyarrow as pa
        from pyarrow import csv as pa_csv

        kept = self._not_blank()
        if not len(kept):
            return None
        reading = pa_csv.ReadOptions(
            use_threads=False, block_size=len(self.data) + 1, column_names=self.header
        )
        parsing = pa_csv.ParseOptions(delimiter=self.part.delimiter, newlines_in_values=True)
        converting = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(self.header, pa.large_utf8()),
            null_values=[""],
            strings_can_be_null=True,
            check_utf8=False,  # known already
        )
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(self.data[: self.ends[-1]]), reading, parsing, converting
            )
        except pa.ArrowInvalid:
            return None
        if table.num_rows != len(kept):
            return None
        return Columns(table.combine_chunks().to_batches()[0], self.lines[kept])

    def divide(self) -> Sequence[Block]:
        """Gives blocks of fewer records."""
        step = -(-self.size // PIECES)
        blocks = []
        for at in range(0, self.size, step):
            start = int(self.ends[at - 1]) if at else 0
            ends = self.ends[at : at + step]
            data = self.data[start : int(ends[-1])]
            lines = self.lines[at : at + step]
            blocks.append(
                CsvBlock(self.header, data, ends - start, lines, self.part, self.max_value_mb)
            )
        return blocks

    def rows(self) -> Iterator[Row]:
        """Reads the rows, each with its line."""
        longest = longest_line(self.max_value_mb)
        stream = io.BytesIO(self.data[: self.ends[-1]])
        lines = _Lines(read_lines(stream, self.part, longest, int(self.lines[0])))
        return (
            _to_row(self.header, *record)
            for record in _read_records(lines, self.part, longest, self.header)
        )

    def _not_blank(self) -> NDArray[np.intp]:
        starts = np.concatenate([[0], self.ends[:-1]])
        sizes = self.ends - starts
        text = np.frombuffer(self.data, np.uint8)
        # A blank line is a line end alone, or nothing behind the last one.
        blank = (sizes == 1) & (text[self.ends - 1] == _FEED)
        blank |= (sizes == 2) & (text[self.ends - 1] == _FEED) & (text[starts] == _RETURN)
        return np.flatnonzero(~blank)


_FEED, _RETURN, _QUOTE = b'\n\r"'


def _as_block(
    header: list[str], data: bytes, line: int, at_end: bool, part: Part, max_value_mb: float
) -> CsvBlock | None:
    """Cuts the whole records off the beginning of `data`; None if its quotes are irregular.

    Args:
        header: Names of the columns.
        data: Bytes of the file, from the beginning of a record.
        line: The line that the first record begins in.
        at_end: Whether the file ends with `data`.
        part: What is read.
        max_value_mb: Largest value in megabytes.
    """
    if not header or not data or b"\0" in data or data.count(b"\r") != data.count(b"\r\n"):
        return None
    text = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(text == _FEED) + 1
    if at_end and data[-1] != _FEED:
        ends = np.append(ends, len(data))
    if not len(ends) or np.diff(ends, prepend=0).max() > longest_line(max_value_mb):
        return None
    lines = line + np.arange(len(ends))
    quotes = np.flatnonzero(text == _QUOTE)
    if len(quotes):
        outside = np.searchsorted(quotes, ends) % 2 == 0  # the line ends that no quotes enclose
        begins = np.concatenate([[True], outside[:-1]])
        ends, lines = ends[outside], lines[begins][: int(outside.sum())]
        if not len(ends):
            return None
        enclosed = quotes[quotes < ends[-1]]
        if not _are_regular(text[: ends[-1]], enclosed, ord(part.delimiter)):
            return None
    try:
        data[: ends[-1]].decode()
    except UnicodeDecodeError:
        return None
    return CsvBlock(header, data, ends, lines, part, max_value_mb)


def _are_regular(text: NDArray[np.uint8], quotes: NDArray[np.intp], delimiter: int) -> bool:
    """Tells whether each of an even number of quotes opens or closes a cell or is doubled."""
    framed = np.concatenate(
        [[_FEED], text, [_FEED]]
    )  # what is before and behind them is the end of a record
    opening, closing = quotes[::2], quotes[1::2]
    before, behind = framed[opening], framed[closing + 2]
    opens = (before == delimiter) | (before == _FEED)
    closes = (behind == delimiter) | (behind == _FEED) | (behind == _RETURN)
    # The one that follows a closing quote at once makes it one of two; the same pair is seen from
    # both sides.
    doubled = opening[1:] == closing[:-1] + 1
    opens[1:] |= doubled
    closes[:-1] |= doubled
    return bool(opens.all() and closes.all())


def _swallows_rows(block: CsvBlock) -> bool:
    """Tells whether a record of a block holds lines that look like rows."""
    starts = np.concatenate([[0], block.ends[:-1]])
    last = block.data.count(b"\n", int(starts[-1]), int(block.ends[-1]))
    counts = np.diff(block.lines, append=block.lines[-1] + last)
    for at in np.flatnonzero(counts > _LEAST_ROWS + 1).tolist():
        record = block.data[int(starts[at]) : int(block.ends[at])]
        lines = [line.decode() for line in record.splitlines()[1:-1]]
        if _look_like_rows(lines, block.header, block.part.delimiter):
            return True
    return False


def _look_like_rows(lines: Sequence[str], header: Sequence[str], delimiter: str) -> bool:
    """Tells whether lines within a quoted cell are all of as many cells as the header."""
    least = _LEAST_ROWS_OF_TWO if len(header) == 2 else _LEAST_ROWS
    return (
        len(header) > 1
        and len(lines) >= least
        and all(
            # The next quote of the file ends the cell: there is none within it.
            line.count(delimiter) == len(header) - 1
            and '"' not in line
            and line.strip(f"{delimiter} \t\r\n")
            for line in lines
        )
    )


def _take_header(records: Iterator[Record], part: Part) -> list[str]:
    """Takes the names of the columns off the records; none where there is no record.

    Raises:
        BrokenFileError: The first record cannot be read.
        DelimiterError: Its cells stand between other delimiters than those of the part.
    """
    number, header, reason = next(records, (0, list[str](), None))
    if len(header) == 1:
        _check_delimiter(header[0], part.place(number), part.delimiter)
    if reason is not None:
        expected = f"must be a header: {reason.expected}"
        raise BrokenFileError(part.place(number), expected, reason.received)
    return header


def _check_delimiter(header: str, place: str, delimiter: str) -> None:
    """Checks that a header of one cell has no other delimiter.

    Raises:
        DelimiterError: It has one.
    """
    for other, name in _DELIMITERS.items():
        if other != delimiter and other in header:
            expected = f"must have {_DELIMITERS.get(delimiter, repr(delimiter))} between its cells"
            written = other.replace("\t", "\\t")
            remedy = f'Set data.delimiter: "{written}" in project.yaml, or convert the file.'
            raise DelimiterError(place, expected, f"{name}: {shorten(header)}", remedy)


def _to_row(header: list[str], number: int, cells: list[str], reason: Reason | None) -> Row:
    width = len(header)
    values = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
    if reason is None and len(cells) != width:
        reason = Reason(f"the row must have {width} cells, as the header has", str(len(cells)))
        values |= {
            f"cell {place}": cell for place, cell in enumerate(cells[width:], start=width + 1)
        }
    return Row(number, values, reason)


def _read_some(
    header: list[str], lines: _Lines, part: Part, longest: int, size: int
) -> Iterator[Row]:
    """Reads rows until `size` bytes are read and the lines read ahead can be given back."""
    read = 0
    for record in _read_records(lines, part, longest, header):
        yield _to_row(header, *record)
        read += sum(len(line.text) for line in lines.taken)
        if read >= size and not any(line.reason for line in lines.again):
            return


def _give_back(lines: _Lines, source: PushbackStream) -> int:
    """Gives the lines read ahead back to the stream; gives the number of the next line."""
    source.give_back("".join(line.text for line in lines.again).encode())
    return lines.next_number


def _records(stream: BinaryIO, part: Part, max_value_mb: float) -> Iterator[Record]:
    longest = longest_line(max_value_mb)
    return _read_records(_Lines(read_lines(stream, part, longest)), part, longest)


def _read_records(
    lines: _Lines, part: Part, longest: int, header: Sequence[str] | None = None
) -> Iterator[Record]:
    """Reads line number, cells and fault of every record; skips blank lines.

    A quote that is opened and never closed would swallow the rows after it, as would one that a
    quote of another row closes. The line that opens it is then a record of its own, and the reading
    goes on with the line after it.

    Args:
        lines: The lines, from the beginning of a record.
        part: What is read.
        longest: Most bytes of a line.
        header: Names of the columns; None: the first record has them.
    """
    csv.field_size_limit(longest)
    reader = csv.reader(lines, strict=True, delimiter=part.delimiter)
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
            received = f"{shorten(first.text)} ({error})"
            unquoted = Reason("the row must be CSV with every quote closed", received)
            yield first.number, [first.text.rstrip("\r\n")], first.reason or unquoted
            continue
        header = cells if header is None else header
        first, last = lines.taken[0], lines.taken[-1]
        inner = [line.text for line in lines.taken[1:-1]]
        if _look_like_rows(inner, header, part.delimiter):
            lines.give_back()
            expected = "the row must not have other rows in a quoted cell: a stray quote opens it"
            received = (
                f"{shorten(first.text)}, closed in line {last.number} by {shorten(last.text)}"
            )
            yield first.number, [first.text.rstrip("\r\n")], Reason(expected, received)
            continue
        fault = next((line.reason for line in lines.taken if line.reason), None)
        if cells or fault:
            yield lines.taken[0].number, cells, fault
