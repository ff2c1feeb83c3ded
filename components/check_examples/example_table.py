"""The examples of one span as a table for business rules, read in parts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perennial.data.examples import as_text, read_batches

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

BLOCK_ROWS = 200_000


class Table(Protocol):
    """Gives the rows that rules are judged on."""

    def __len__(self) -> int:
        """Counts the rows."""

    def frame(self, columns: Collection[str] | None = None) -> pd.DataFrame:
        """Gives all rows, with these columns as far as they are there, or with all.

        The index counts from 0.
        """

    def blocks(self, rows: int) -> Iterator[pd.DataFrame]:
        """Gives frames of about so many rows with all columns.

        The index goes on from one to the next.
        """


@dataclass
class _Feature:
    """The form of a feature in every part, decided by the whole span."""

    most: int = 0  # values in one example
    present: int = 0  # examples with at least one

    def add(self, lists: pa.Array) -> None:
        if not pa.types.is_null(lists.type):
            lengths = pc.list_value_length(lists)
            self.most = max(self.most, pc.max(lengths).as_py() or 0)
            self.present += pc.sum(pc.greater(lengths, 0)).as_py() or 0

    def columns(self, name: str) -> list[str]:
        return [name] if self.most <= 1 else _summaries(name)


@dataclass(frozen=True)
class ExampleTable:
    """Holds examples in the order of their files, on disk as Arrow record batches.

    A feature with one value per example is a column of that value. A feature with more (an image)
    is shown by `<name>.length`, `<name>.min`, `<name>.max` and `<name>.mean`. Bytes are decoded as
    UTF-8. What is held in memory is one frame and one record batch.

    `rows` are all rows on disk; `gone` are the positions of those that are left out, in order:
    int64 [rows left out].
    """

    files: Sequence[Path]
    schema: pa.Schema
    features: dict[str, _Feature]
    rows: int
    gone: NDArray[np.int64]

    def __len__(self) -> int:
        """Counts the rows that are left."""
        return self.rows - len(self.gone)

    def without(self, rows: Collection[int]) -> ExampleTable:
        """Leaves out the rows at these positions, which count through all rows on disk."""
        return replace(self, gone=np.array(sorted(rows), np.int64))

    def frame(self, columns: Collection[str] | None = None) -> pd.DataFrame:
        """Gives all rows, with these columns as far as they are there, or with all.

        The index counts from 0.
        """
        columns_read = [
            name
            for name, feature in self.features.items()
            if columns is None or any(column in columns for column in feature.columns(name))
        ]
        frame = self._show(list(self._batches(columns_read)), columns_read, 0)
        return (
            frame
            if columns is None
            else frame[[column for column in frame.columns if column in columns]]
        )

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[pd.DataFrame]:
        """Gives frames of at least so many rows, but for the last, with all columns.

        The index goes on through them.
        """
        names = list(self.features)
        held: list[pa.RecordBatch] = []
        shown = 0
        for batch in self._batches(names):
            held.append(batch)
            if (count := sum(part.num_rows for part in held)) >= rows:
                yield self._show(held, names, shown)
                held, shown = [], shown + count
        if held:
            yield self._show(held, names, shown)

    def _batches(self, names: Collection[str]) -> Iterator[pa.RecordBatch]:
        """Reads the rows that are left, with the features of these names."""
        start = 0
        for file in self.files:
            with pa.ipc.open_file(file) as everything:
                places = [
                    place for place, name in enumerate(everything.schema.names) if name in names
                ]
            # No field at all would mean every field.
            options = pa.ipc.IpcReadOptions(included_fields=places or [0])
            with pa.ipc.open_file(file, options=options) as reader:
                for number in range(reader.num_record_batches):
                    batch = reader.get_batch(number)
                    end = start + batch.num_rows
                    gone = self.gone[
                        np.searchsorted(self.gone, start) : np.searchsorted(self.gone, end)
                    ]
                    if len(gone):
                        kept = np.ones(batch.num_rows, bool)
                        kept[gone - start] = False
                        batch = batch.filter(pa.array(kept))
                    yield batch
                    start = end

    def _show(
        self, batches: Sequence[pa.RecordBatch], names: Collection[str], first: int
    ) -> pd.DataFrame:
        """Makes the frame of some batches; its index begins at `first`."""
        import pandas as pd

        rows = sum(batch.num_rows for batch in batches)
        # A feature that a batch lacks is missing in it; one that has no value there has no type
        # there.
        typed = pa.schema([self.schema.field(name) for name in names]).empty_table()
        table = pa.concat_tables(
            [typed, *(pa.Table.from_batches([batch]) for batch in batches)],
            promote_options="permissive",
        )
        columns: dict[str, Any] = {}
        for name in names:
            columns |= _columns(
                name, self.features[name], table.column(name).combine_chunks(), self.rows
            )
            table = table.drop_columns([name])
        frame = pd.DataFrame(columns) if columns else pd.DataFrame(index=range(rows))
        return frame.set_index(pd.RangeIndex(first, first + rows))


def make_table(files: list[str], folder: Path) -> ExampleTable:
    """Writes the examples into a folder, a file for each run of batches with the same features."""
    written: list[Path] = []
    schemas: list[pa.Schema] = []
    features: dict[str, _Feature] = {}
    rows = 0
    writer: pa.ipc.RecordBatchFileWriter | None = None
    for batch in read_batches(files):
        if writer is None or batch.schema != schemas[-1]:
            if writer is not None:
                writer.close()
            schemas.append(batch.schema)
            written.append(folder / f"{len(written):06}.arrow")
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            writer = pa.ipc.new_file(written[-1], batch.schema, options=options)
        writer.write_batch(batch)
        rows += batch.num_rows
        for name, lists in zip(batch.schema.names, batch.columns, strict=True):
            features.setdefault(name, _Feature()).add(lists)
    if writer is not None:
        writer.close()
    schema = pa.unify_schemas(schemas, promote_options="permissive") if schemas else pa.schema([])
    return ExampleTable(
        written, schema, dict(sorted(features.items())), rows, np.empty(0, np.int64)
    )


def _columns(name: str, feature: _Feature, lists: pa.Array, rows: int) -> dict[str, Any]:
    """Makes the columns that show a feature of lists of values; null where it is missing."""
    if not feature.present:
        return {name: [None] * len(lists)}
    if feature.most > 1:
        return _summary_columns(name, feature, lists, rows)
    lengths = pc.list_value_length(lists)
    # Each list holds one value, or none where the value is missing.
    places = pc.if_else(
        pc.equal(lengths, 1), pc.subtract(pc.cumulative_sum(lengths.fill_null(0)), 1), None
    )
    values = pc.take(lists.flatten(), places)
    if pa.types.is_large_binary(values.type) or pa.types.is_binary(values.type):
        return {name: _as_texts(values)}
    if (
        pa.types.is_floating(values.type) or feature.present < rows
    ):  # as pandas has whole numbers, some missing
        values = values.cast(pa.float64(), safe=False)
    return {name: values.to_pandas()}


def _as_texts(values: pa.Array) -> Any:
    """Decodes bytes; gives None where there are none; equal ones share their memory."""
    try:
        return values.cast(pa.large_string()).to_pandas()
    except pa.ArrowInvalid:  # not UTF-8
        return [as_text(value) for value in values.to_pylist()]


def _summary_columns(name: str, feature: _Feature, lists: pa.Array, rows: int) -> dict[str, Any]:
    """Measures length, least, greatest and mean of lists of numbers; of bytes, the length."""
    lengths = (
        pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    flat = lists.flatten()
    least, greatest, mean = (np.full(len(lists), np.nan) for _ in range(3))
    some = lengths > 0
    if some.any() and not (pa.types.is_large_binary(flat.type) or pa.types.is_binary(flat.type)):
        numbers = flat.to_numpy(zero_copy_only=False)
        if feature.present == rows and pa.types.is_integer(flat.type):
            least, greatest = np.empty(len(lists), np.int64), np.empty(len(lists), np.int64)
        starts = (np.cumsum(lengths) - lengths)[some]
        # These two pass over what is not a number.
        least[some], greatest[some] = (
            np.fmin.reduceat(numbers, starts),
            np.fmax.reduceat(numbers, starts),
        )
        mean[some] = np.add.reduceat(numbers.astype(np.float64), starts) / lengths[some]
    return dict(zip(_summaries(name), (lengths, least, greatest, mean), strict=True))


def _summaries(name: str) -> list[str]:
    return [f"{name}.{measure}" for measure in ("length", "min", "max", "mean")]
