"""Words that mean "no value" (`data.missing`), in whatever source they stand."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from perennial.readers.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa


def is_missing(value: Any, words: Collection[str]) -> bool:
    """Tells whether a value is one of the words, as text or as bytes."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return isinstance(value, str) and value in words


def without_missing(row: Row, words: Collection[str]) -> Row:
    """Leaves out the values of a row that are one of the words."""
    if not words:
        return row
    kept = {name: value for name, value in row.values.items() if not is_missing(value, words)}
    return row._replace(values=kept)


def null_missing(batch: pa.RecordBatch, words: Collection[str]) -> pa.RecordBatch:
    """Makes null of the values of columns of text and bytes that are one of the words."""
    import pyarrow as pa

    columns = [_null_words(column, words) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _null_words(column: pa.Array, words: Collection[str]) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        known = pa.array(words, kind)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        known = pa.array([word.encode() for word in words], kind)
    else:
        return column
    missing = pc.is_in(column, known)
    return pc.if_else(missing, pa.scalar(None, kind), column) if pc.any(missing).as_py() else column
