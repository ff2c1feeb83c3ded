"""Rows, parts, reasons, and errors of whole files: what every reader gives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from perennial.errors import BrokenFileError, DataError, PerennialError, describe_error
from schemas.project import Format, TableSettings

Value = int | float | bytes | list[int] | list[float] | list[bytes]
"""What a feature of one example holds."""

MEGABYTE = 1_000_000
_LONGEST = 40
_LONGEST_TEXT, _LONGEST_LIST = 200, 20  # of what is kept of a row


class Reason(NamedTuple):
    """The reason against a row: what was expected, as a sentence's start, and what was received.

    `of_value`: what was received is the value itself, so that a count of rows can list some.
    """

    expected: str
    received: str
    of_value: bool = False

    def __str__(self) -> str:
        return f"{self.expected}. Received: {self.received}"


class Row(NamedTuple):
    """A row of a source: its 1-based number, its values, and why it cannot be read, if so."""

    number: int
    values: dict[str, Any]
    reason: Reason | None = None


@dataclass(frozen=True)
class Part:
    """A piece of a span that is read in one go: a file, a Parquet row group, or a table's span.

    Attributes:
        uri: Path or URL of the file; empty for a table.
        name: What messages call it.
        row_group: The only row group to read, when it is not None.
        first_row: Rows of the file before this part.
        table: Settings of the table, when it is no file.
        span: Name of the table's span, and its `fingerprint` when it was selected.
        without: Columns of the table that are left out.
        missing: Words that mean "no value".
        delimiter: The character between the cells of CSV.
    """

    uri: str
    name: str
    format: Format | Literal["table"]
    row_group: int | None = None
    first_row: int = 0
    table: TableSettings | None = None
    span: str = ""
    fingerprint: str | None = None
    without: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    delimiter: str = ","

    def place(self, number: int) -> str:
        """Says where a row stands, such as `data/2026-01-31.csv: line 17`."""
        unit = "line" if self.format in ("csv", "jsonl") else "row"
        return f"{self.name}: {unit} {number}"


@contextmanager
def reported_as(part: Part, kind: str) -> Iterator[None]:
    """Turns errors of reading a file into errors of its bytes or of the place where it lies.

    Args:
        part: What is read.
        kind: What the file should be, such as "a whole Parquet file".

    Raises:
        BrokenFileError: The bytes are at fault.
        DataError: The file cannot be read.
    """
    import pyarrow as pa

    from perennial.storage.compression import CORRUPT

    try:
        yield
    except PerennialError:
        raise
    except (*CORRUPT, pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno:
            remedy = "Check the disk and the connection, then run again."
            raise DataError(part.name, "must be readable", describe_error(error), remedy) from error
        raise BrokenFileError(part.name, f"must be {kind}", _first_line(error)) from error


def shorten(value: object) -> str:
    """Shows a value in about 40 characters at most."""
    text = repr(value[: _LONGEST + 1]) if isinstance(value, str | bytes) else _plain(value)
    return text if len(text) <= _LONGEST + 2 else f"{text[:_LONGEST]}…"


def presentable(value: Any) -> Any:
    """Shortens a value to what a person wants to read, as JSON."""
    if isinstance(value, list | tuple):
        more = [f"… {len(value)} values"] if len(value) > _LONGEST_LIST else []
        return [presentable(item) for item in value[:_LONGEST_LIST]] + more
    if isinstance(value, dict):
        return {str(name): presentable(item) for name, item in list(value.items())[:_LONGEST_LIST]}
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    text = value[: _LONGEST_TEXT + 1] if isinstance(value, str | bytes) else str(value)
    text = text.decode("utf-8", errors="backslashreplace") if isinstance(text, bytes) else text
    text = text.encode(
        "utf-8", errors="backslashreplace"
    ).decode()  # half a surrogate pair, which JSON may hold
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def in_megabytes(size: float) -> str:
    """Shows a number of bytes in megabytes: `50.0 MB`."""
    return f"{size / MEGABYTE:.1f} MB"


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return (
            f"[{', '.join(shorten(item) for item in value[:8])}{', …' if len(value) > 8 else ''}]"
        )
    if isinstance(value, dict):
        items = [f"{shorten(name)}: {shorten(item)}" for name, item in list(value.items())[:4]]
        return f"{{{', '.join(items)}}}"
    return str(value)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (
        lines[0].removesuffix(".")
        if lines
        else "it ends too early"
        if isinstance(error, EOFError)
        else "damage"
    )
