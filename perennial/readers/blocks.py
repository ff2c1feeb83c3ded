"""Rows in blocks: as columns, which is fast, or one by one, to find the row that is at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from perennial.readers.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa

PIECES = 8  # that a block with a row at fault is divided into, to find the row


class Columns(NamedTuple):
    """Rows as columns of the source's types, and each row's number: int64 [rows], ascending."""

    batch: pa.RecordBatch
    numbers: NDArray[np.int64]


class Block(Protocol):
    """Consecutive rows of a part."""

    @property
    def size(self) -> int:
        """Counts the rows, as far as that is known before they are read; 0 where it is not."""

    def columns(self) -> Columns | None:
        """Gives the rows as columns; None where they can only be read one by one."""

    def divide(self) -> Sequence[Block]:
        """Gives the same rows in smaller blocks."""

    def rows(self) -> Iterator[Row]:
        """Reads the rows one by one; a row that cannot be read comes with its reason."""


@dataclass(frozen=True)
class RowBlock:
    """Rows that can only be read one by one."""

    read: Callable[[], Iterator[Row]]
    size: int = 0

    def columns(self) -> None:
        """Gives None: there are only rows."""

    def divide(self) -> Sequence[Block]:
        """Gives the block itself."""
        return [self]

    def rows(self) -> Iterator[Row]:
        """Reads the rows."""
        return self.read()


@dataclass(frozen=True)
class BatchBlock:
    """Rows of a record batch that a reader gives, such as Parquet's."""

    batch: pa.RecordBatch
    first: int

    @property
    def size(self) -> int:
        """Counts the rows."""
        return int(self.batch.num_rows)

    def columns(self) -> Columns:
        """Gives the batch as it is."""
        return Columns(self.batch, np.arange(self.first, self.first + self.size, dtype=np.int64))

    def divide(self) -> Sequence[Block]:
        """Slices the batch."""
        step = -(-self.size // PIECES)
        return [
            BatchBlock(self.batch.slice(at, step), self.first + at)
            for at in range(0, self.size, step)
        ]

    def rows(self) -> Iterator[Row]:
        """Converts the values of each row to Python's."""
        names = self.batch.schema.names
        lists = (column.to_pylist() for column in self.batch.columns)
        for number, values in enumerate(zip(*lists, strict=True), start=self.first):
            yield Row(number, dict(zip(names, values, strict=True)))
