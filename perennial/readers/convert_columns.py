"""Converts whole columns to the types of the schema, where every value fits.

What comes out is, value for value, what `Conformer` makes of the rows. Where one value does not
fit, or would need more than a cast (a list as JSON text, a date), there is no column, and the rows
are read one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from perennial.readers.columns import Column, Kind
from perennial.readers.rows import MEGABYTE
from perennial.readers.values import FALSE_WORDS, LARGEST, TRUE_WORDS

if TYPE_CHECKING:
    import pyarrow as pa

_EXACT = 2**53  # whole numbers up to it are float64s


class _UnfitError(ValueError):
    """A column that must be read value by value."""


def to_typed_columns(
    batch: pa.RecordBatch, known: Mapping[str, Column], max_value_mb: float
) -> dict[str, pa.Array] | None:
    """Converts columns to int64, float64, large_binary, or large lists of one of them.

    Args:
        batch: Columns as a reader gives them; null is a missing value.
        known: What is known of the columns; the values of another keep their natural kind.
        max_value_mb: Largest value in megabytes.

    Returns:
        Name -> column, in the batch's order; None where a value does not fit.
    """
    import pyarrow as pa

    largest = int(max_value_mb * MEGABYTE)
    typed: dict[str, pa.Array] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count == len(column):
            continue
        try:
            typed[name] = _to_typed(column, known.get(name), largest)
        except (_UnfitError, pa.ArrowException):
            return None
    return typed


def _to_typed(column: pa.Array, known: Column | None, largest: int) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return _to_typed_lists(column, known, largest)
    return _to_kind(
        column, known, largest, many=known is not None and (known.many or known.kind != "bytes")
    )


def _to_typed_lists(lists: pa.Array, known: Column | None, largest: int) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    items, lengths = lists.flatten(), pc.list_value_length(lists).fill_null(0)
    if items.null_count or pc.max(lengths).as_py() * 8 > largest:
        raise _UnfitError
    values = (
        _to_kind(items, known, largest, many=False)
        if len(items)
        else pa.array([], pa.large_binary())
    )
    if (
        pa.types.is_large_binary(values.type)
        and (pc.sum(pc.binary_length(values)).as_py() or 0) > largest
    ):
        raise _UnfitError
    offsets = np.concatenate([[0], np.cumsum(lengths.to_numpy(zero_copy_only=False))]).astype(
        np.int64
    )
    return pa.LargeListArray.from_arrays(
        pa.array(offsets), values, mask=lists.is_null() if lists.null_count else None
    )


def _to_kind(values: pa.Array, known: Column | None, largest: int, many: bool) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = known.kind if known is not None else _natural_kind(values.type)
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    is_bytes = pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)
    if is_text or is_bytes:
        if pc.max(pc.binary_length(values)).as_py() > largest:
            raise _UnfitError
        if is_text:
            values.validate(full=True)  # Parquet may hold bytes that are no text
            if many and pc.any(pc.match_substring(values, "[")).as_py():
                raise _UnfitError
    if kind == "bytes":
        if pa.types.is_integer(values.type):
            return values.cast(pa.large_string()).cast(pa.large_binary())
        if not (is_text or is_bytes):
            raise _UnfitError
        if is_bytes and known is not None and known.text:
            values.cast(pa.large_binary()).cast(pa.large_string())  # it must be UTF-8
        return values.cast(pa.large_binary())
    if is_bytes:
        raise _UnfitError
    numbers = _parse(values, kind) if is_text else values
    return _to_int(numbers) if kind == "int" else _to_float(numbers)


def _natural_kind(kind: pa.DataType) -> Kind:
    import pyarrow as pa

    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "int"
    return "float" if pa.types.is_floating(kind) else "bytes"


def _parse(text: pa.Array, kind: Kind) -> pa.Array:
    """Parses numbers as Python does; Arrow would also take hexadecimal ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.any(pc.match_substring_regex(text, "[xX(_]")).as_py():
        raise _UnfitError
    if kind == "int":
        try:
            return text.cast(pa.int64())
        except pa.ArrowInvalid:
            pass  # tools that hold missing values write whole numbers as 3.0
    try:
        return text.cast(pa.float64())
    except pa.ArrowInvalid:
        return _replace_truth(text).cast(pa.float64())


def _replace_truth(text: pa.Array) -> pa.Array:
    """Writes 1 and 0 for the words of truth values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for words, digit in ((TRUE_WORDS, "1"), (FALSE_WORDS, "0")):
        text = pc.if_else(pc.is_in(text, pa.array(words, text.type)), digit, text)
    return text


def _to_int(numbers: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(numbers.type):
        numbers = numbers.cast(pa.float64())
        whole = pc.and_(
            pc.equal(pc.floor(numbers), numbers), pc.less_equal(pc.abs(numbers), _EXACT)
        )
        if not pc.all(whole).as_py():
            raise _UnfitError
    elif not (pa.types.is_integer(numbers.type) or pa.types.is_boolean(numbers.type)):
        raise _UnfitError
    return numbers.cast(pa.int64())


def _to_float(numbers: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = numbers.type
    if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind)):
        raise _UnfitError
    numbers = numbers.cast(pa.int64()) if pa.types.is_boolean(kind) else numbers
    numbers = numbers.cast(pa.float64(), safe=False)
    if not pc.all(
        pc.or_(pc.less_equal(pc.abs(numbers), LARGEST), pc.invert(pc.is_finite(numbers)))
    ).as_py():
        raise _UnfitError
    return numbers
