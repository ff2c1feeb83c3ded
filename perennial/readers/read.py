"""Reads one part of a span, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from perennial.errors import BrokenFileError, ProjectError
from perennial.readers.blocks import Block, Columns, RowBlock
from perennial.readers.csv_rows import read_csv, read_csv_blocks, read_csv_header
from perennial.readers.json_lines import read_jsonl, read_jsonl_blocks
from perennial.readers.missing import null_missing, without_missing
from perennial.readers.parquet import (
    parquet_row_groups,
    parquet_schema,
    read_parquet,
    read_parquet_blocks,
)
from perennial.readers.rows import Part, Row, reported_as
from perennial.readers.tfrecord import read_tfrecord
from perennial.storage.compression import COMPRESSED_SUFFIXES
from perennial.storage.files import open_bytes
from schemas.project import Format

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Reader:
    """The functions that read files of a format.

    Attributes:
        kind: What a file must be, as an error says it.
        suffixes: The endings of its files, which a compression's may follow.
        rows: Reads the rows of a part, given the largest value in megabytes.
        blocks: Reads them in blocks that may be columns; None: there are only rows.
        columns: Reads the names of the columns; None: the format has no list of them.
    """

    kind: str
    suffixes: tuple[str, ...]
    rows: Callable[[BinaryIO, Part, float], Iterator[Row]]
    blocks: Callable[[BinaryIO, Part, float], Iterator[Block]] | None = None
    columns: Callable[[BinaryIO, Part, float], list[str]] | None = None


READERS: Mapping[Format, Reader] = {
    "csv": Reader(
        "CSV, whole if it is compressed",
        (".csv", ".tsv"),
        read_csv,
        read_csv_blocks,
        read_csv_header,
    ),
    "jsonl": Reader(
        "JSON Lines, whole if they are compressed",
        (".jsonl", ".ndjson", ".json"),
        read_jsonl,
        read_jsonl_blocks,
    ),
    "parquet": Reader(
        "a whole Parquet file",
        (".parquet",),
        lambda stream, part, _: read_parquet(stream, part),
        lambda stream, part, _: read_parquet_blocks(stream, part),
        lambda stream, part, _: list(parquet_schema(stream).names),
    ),
    "tfrecord": Reader(
        "a whole TFRecord file",
        (".tfrecord", ".tfrecords"),
        lambda stream, part, _: read_tfrecord(stream, part),
    ),
}
"""Every format of files that can be read."""
FILE_ENDINGS = tuple(suffix for reader in READERS.values() for suffix in reader.suffixes)


def format_of(uri: str, setting: Format | None) -> Format:
    """Gives the format of a file: that of the setting, or that of its suffix.

    Raises:
        ProjectError: There is no setting and the suffix is none that is known.
    """
    if setting is not None:
        return setting
    name = uri.split("?")[0].lower()
    for compressed in COMPRESSED_SUFFIXES:
        name = name.removesuffix(compressed)
    for file_format, reader in READERS.items():
        if name.endswith(reader.suffixes):
            return file_format
    expected = f"must name the format of files that end in none of {', '.join(FILE_ENDINGS)}"
    remedy = f"Set it to {', '.join(READERS)}, or rename the file."
    raise ProjectError("project.yaml: data.format", expected, uri, remedy)


def read_rows(part: Part, max_value_mb: float) -> Iterator[Row]:
    """Reads the rows of a part in their order; a row that cannot be read comes with its reason.

    Raises:
        BrokenFileError: The file as a whole is at fault.
        DataError: The file or the database cannot be read.
    """
    if part.table is not None:
        from perennial.spans.database import read_table_rows

        for number, values in enumerate(
            read_table_rows(part.table, part.span, part.fingerprint), start=1
        ):
            row = Row(
                number, {name: value for name, value in values.items() if name not in part.without}
            )
            yield without_missing(row, part.missing)
        return
    assert part.format != "table"
    reader = READERS[part.format]
    with reported_as(part, reader.kind), open_bytes(part.uri) as stream:
        for row in reader.rows(stream, part, max_value_mb):
            yield without_missing(row, part.missing)


def read_blocks(part: Part, max_value_mb: float) -> Iterator[Block]:
    """Reads a part in blocks; use `columns_of` or `rows_of` on each before asking for the next.

    Raises:
        BrokenFileError: The file as a whole is at fault.
        DataError: The file or the database cannot be read.
    """
    reader = None if part.format == "table" else READERS[part.format]
    if reader is None or reader.blocks is None:
        yield RowBlock(lambda: read_rows(part, max_value_mb))
        return
    with reported_as(part, reader.kind), open_bytes(part.uri) as stream:
        yield from reader.blocks(stream, part, max_value_mb)


def columns_of(block: Block, part: Part) -> Columns | None:
    """Gives the rows of a block as columns; None where they can only be read one by one.

    Raises:
        BrokenFileError: The file as a whole is at fault.
    """
    with reported_as(part, _kind_of(part)):
        columns = block.columns()
    if columns is None or not part.missing:
        return columns
    return Columns(null_missing(columns.batch, part.missing), columns.numbers)


def rows_of(block: Block, part: Part) -> Iterator[Row]:
    """Reads the rows of a block one by one.

    Raises:
        BrokenFileError: The file as a whole is at fault.
        DataError: The file or the database cannot be read.
    """
    with reported_as(part, _kind_of(part)):
        for row in block.rows():
            yield without_missing(row, part.missing)


def read_columns(part: Part, max_value_mb: float) -> list[str] | None:
    """Reads the names of the columns; None for formats without a list of them.

    Raises:
        BrokenFileError: The file is empty or broken, or a column has no name or the name of
            another.
        DataError: It cannot be read.
    """
    if part.format == "table":
        return None
    reader = READERS[part.format]
    with reported_as(part, reader.kind):
        with open_bytes(part.uri, decompress=False) as stream:
            if not stream.read(1):
                raise BrokenFileError(part.name, "must hold rows", "0 bytes")
        if reader.columns is None:
            return None
        with open_bytes(part.uri) as stream:
            columns = reader.columns(stream, part, max_value_mb)
    _check_names(columns, part)
    return columns


def read_schema(part: Part) -> pa.Schema:
    """Reads the columns of a Parquet file and their types.

    Raises:
        BrokenFileError: The file is broken.
        DataError: It cannot be read.
    """
    with reported_as(part, READERS["parquet"].kind), open_bytes(part.uri) as stream:
        return parquet_schema(stream)


def split_file(part: Part) -> list[Part]:
    """Splits a file into parts that can be read in parallel: row groups of Parquet, else the file.

    Raises:
        BrokenFileError: The file is broken.
        DataError: It cannot be read.
    """
    if part.format != "parquet":
        return [part]
    with reported_as(part, READERS[part.format].kind), open_bytes(part.uri) as stream:
        if not stream.seekable():
            return [part]  # each row group would need a copy of the whole file
        groups = parquet_row_groups(stream)
    parts, first = [], 0
    for group, rows in enumerate(groups):
        parts.append(replace(part, row_group=group, first_row=first))
        first += rows
    return parts


def _kind_of(part: Part) -> str:
    return "a table" if part.format == "table" else READERS[part.format].kind


def _check_names(columns: list[str], part: Part) -> None:
    for place, name in enumerate(columns, start=1):
        if not name.strip():
            raise BrokenFileError(
                part.name, "must have a name for every column", f"none for column {place}"
            )
        if name in columns[: place - 1]:
            raise BrokenFileError(part.name, "must have each column once", f"`{name}` twice")
