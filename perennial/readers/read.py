"""Reads one part of a span, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, get_args

from perennial.errors import BrokenFileError, ProjectError
from perennial.readers.blocks import Block, Columns, RowBlock
from perennial.readers.csv_rows import read_csv, read_csv_blocks, read_csv_header
from perennial.readers.json_lines import read_jsonl, read_jsonl_blocks
from perennial.readers.parquet import (
    parquet_row_groups,
    parquet_schema,
    read_parquet,
    read_parquet_blocks,
)
from perennial.readers.rows import Part, Row, reported_as
from perennial.readers.tfrecord import read_tfrecord
from perennial.storage.files import open_bytes
from schemas.project import Format

if TYPE_CHECKING:
    import pyarrow as pa

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
}
FILE_ENDINGS = tuple(_SUFFIXES)
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_KINDS = {
    "csv": "CSV, whole if it is compressed",
    "jsonl": "JSON Lines, whole if they are compressed",
    "parquet": "a whole Parquet file",
    "tfrecord": "a whole TFRecord file",
    "table": "a table",
}


def format_of(uri: str, setting: Format | None) -> Format:
    """Gives the format of a file: that of the setting, or that of its suffix.

    Raises:
        ProjectError: There is no setting and the suffix is none that is known.
    """
    if setting is not None:
        return setting
    name = uri.split("?")[0].lower()
    for compressed in _COMPRESSED:
        name = name.removesuffix(compressed)
    for suffix, file_format in _SUFFIXES.items():
        if name.endswith(suffix):
            return file_format
    expected = f"must name the format of files that end in none of {', '.join(_SUFFIXES)}"
    remedy = f"Set it to {', '.join(get_args(Format))}, or rename the file."
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
            yield Row(
                number, {name: value for name, value in values.items() if name not in part.without}
            )
        return
    with reported_as(part, _KINDS[part.format]), open_bytes(part.uri) as stream:
        yield from _read(stream, part, max_value_mb)


def read_blocks(part: Part, max_value_mb: float) -> Iterator[Block]:
    """Reads a part in blocks; use `columns_of` or `rows_of` on each before asking for the next.

    Raises:
        BrokenFileError: The file as a whole is at fault.
        DataError: The file or the database cannot be read.
    """
    if part.format not in ("csv", "jsonl", "parquet"):
        yield RowBlock(lambda: read_rows(part, max_value_mb))
        return
    with reported_as(part, _KINDS[part.format]), open_bytes(part.uri) as stream:
        if part.format == "csv":
            yield from read_csv_blocks(stream, part, max_value_mb)
        elif part.format == "jsonl":
            yield from read_jsonl_blocks(stream, part, max_value_mb)
        else:
            yield from read_parquet_blocks(stream, part)


def columns_of(block: Block, part: Part) -> Columns | None:
    """Gives the rows of a block as columns; None where they can only be read one by one.

    Raises:
        BrokenFileError: The file as a whole is at fault.
    """
    with reported_as(part, _KINDS[part.format]):
        return block.columns()


def rows_of(block: Block, part: Part) -> Iterator[Row]:
    """Reads the rows of a block one by one.

    Raises:
        BrokenFileError: The file as a whole is at fault.
        DataError: The file or the database cannot be read.
    """
    with reported_as(part, _KINDS[part.format]):
        yield from block.rows()


def read_columns(part: Part, max_value_mb: float) -> list[str] | None:
    """Reads the names of the columns; None for formats without a list of them.

    Raises:
        BrokenFileError: The file is empty or broken, or a column has no name or the name of
            another.
        DataError: It cannot be read.
    """
    if part.table is not None:
        return None
    with reported_as(part, _KINDS[part.format]):
        with open_bytes(part.uri, decompress=False) as stream:
            if not stream.read(1):
                raise BrokenFileError(part.name, "must hold rows", "0 bytes")
        if part.format not in ("csv", "parquet"):
            return None
        with open_bytes(part.uri) as stream:
            columns = _columns(stream, part, max_value_mb)
    _check_names(columns, part)
    return columns


def read_schema(part: Part) -> pa.Schema:
    """Reads the columns of a Parquet file and their types.

    Raises:
        BrokenFileError: The file is broken.
        DataError: It cannot be read.
    """
    with reported_as(part, _KINDS["parquet"]), open_bytes(part.uri) as stream:
        return parquet_schema(stream)


def split_file(part: Part) -> list[Part]:
    """Splits a file into parts that can be read in parallel: row groups of Parquet, else the file.

    Raises:
        BrokenFileError: The file is broken.
        DataError: It cannot be read.
    """
    if part.format != "parquet":
        return [part]
    with reported_as(part, _KINDS[part.format]), open_bytes(part.uri) as stream:
        if not stream.seekable():
            return [part]  # each row group would need a copy of the whole file
        groups = parquet_row_groups(stream)
    parts, first = [], 0
    for group, rows in enumerate(groups):
        parts.append(Part(part.uri, part.name, part.format, group, first))
        first += rows
    return parts


def _read(stream: BinaryIO, part: Part, max_value_mb: float) -> Iterator[Row]:
    if part.format == "csv":
        return read_csv(stream, part, max_value_mb)
    if part.format == "jsonl":
        return read_jsonl(stream, part, max_value_mb)
    if part.format == "parquet":
        return read_parquet(stream, part)
    return read_tfrecord(stream, part)


def _columns(stream: BinaryIO, part: Part, max_value_mb: float) -> list[str]:
    if part.format == "csv":
        return read_csv_header(stream, part, max_value_mb)
    return list(parquet_schema(stream).names)


def _check_names(columns: list[str], part: Part) -> None:
    for place, name in enumerate(columns, start=1):
        if not name.strip():
            raise BrokenFileError(
                part.name, "must have a name for every column", f"none for column {place}"
            )
        if name in columns[: place - 1]:
            raise BrokenFileError(part.name, "must have each column once", f"`{name}` twice")
