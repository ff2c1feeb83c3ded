"""Parquet files, one row group at a time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from perennial.readers.blocks import BatchBlock
from perennial.readers.rows import Part, Row

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_BYTES = 32 << 20
_MOST_ROWS = 4096


def parquet_schema(stream: BinaryIO) -> pa.Schema:
    """Reads the columns, in the file's order, and their types."""
    with _opened(stream) as parquet:
        return parquet.schema_arrow


def parquet_row_groups(stream: BinaryIO) -> list[int]:
    """Counts the rows of each row group."""
    with _opened(stream) as parquet:
        metadata = parquet.metadata
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def read_parquet(stream: BinaryIO, part: Part) -> Iterator[Row]:
    """Reads the rows of the part's row group, or of the whole file."""
    for block in read_parquet_blocks(stream, part):
        yield from block.rows()


def read_parquet_blocks(stream: BinaryIO, part: Part) -> Iterator[BatchBlock]:
    """Reads the same rows in record batches."""
    with _opened(stream) as parquet:
        groups = (
            range(parquet.metadata.num_row_groups) if part.row_group is None else [part.row_group]
        )
        number = part.first_row + 1
        for group in groups:
            rows = _rows_of_a_batch(parquet.metadata.row_group(group))
            for batch in parquet.iter_batches(
                batch_size=rows, row_groups=[group], use_threads=False
            ):
                yield BatchBlock(batch, number)
                number += batch.num_rows


def _rows_of_a_batch(group: Any) -> int:
    """Gives the number of rows that take about 32 MB."""
    row_bytes = group.total_byte_size / max(group.num_rows, 1)
    return max(1, min(_MOST_ROWS, int(_BATCH_BYTES / max(row_bytes, 1))))


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[Any]:
    """Opens the Parquet file of a stream; copies a stream that cannot go back to its beginning."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryFile() as copy:
        if not stream.seekable():
            shutil.copyfileobj(stream, copy, 1 << 20)
            copy.seek(0)
            stream = copy
        with pq.ParquetFile(stream) as parquet:
            yield parquet
