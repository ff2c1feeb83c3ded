"""Makes the arrays that a model takes of columns of converted values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.readers.columns import Column, Kind, nested_shape
from perennial.readers.convert import Conformed
from perennial.readers.rows import Reason, shorten
from serving.features import FLOATS, INTEGERS, TEXT, Array, Feature, to_array

if TYPE_CHECKING:
    import pyarrow as pa


class UnfitError(ValueError):
    """A row's values of a feature are not those that the model takes."""

    def __init__(self, row: int, feature: Feature, received: str) -> None:
        self.row = row
        self.reason = Reason(f"`{feature.name}` must be {feature.describe()}", received)
        super().__init__(str(self.reason))


def column_of(feature: Feature) -> Column:
    """Gives the column that the readers must make of a feature's values."""
    kind: Kind = (
        "float" if feature.dtype in FLOATS else "int" if feature.dtype in INTEGERS else "bytes"
    )
    many = any(size != 1 for size in feature.shape)
    return Column(
        kind, many, shape=nested_shape([-1 if size is None else size for size in feature.shape])
    )


def to_columns(rows: Sequence[Conformed], features: Sequence[Feature]) -> dict[str, pa.Array]:
    """Makes columns of rows with converted values, as `to_typed_columns` makes of columns."""
    import pyarrow as pa

    kinds = {"int": pa.int64(), "float": pa.float64(), "bytes": pa.large_binary()}
    columns = {}
    for feature in features:
        values: list[Any] = [row.get(feature.name) for row in rows]
        kind = kinds[column_of(feature).kind]
        if any(isinstance(value, list) for value in values):
            values = [
                value if value is None or isinstance(value, list) else [value] for value in values
            ]
            kind = pa.large_list(kind)
        columns[feature.name] = pa.array(values, kind)
    return columns


def to_arrays(
    columns: Mapping[str, pa.Array], rows: int, features: Sequence[Feature]
) -> dict[str, Array]:
    """Makes one array [rows, ...] for each feature; rows without a value of it get its default.

    Args:
        columns: As `to_typed_columns` makes them; a feature without a column has no values.
        rows: How many there are.
        features: What the model takes.

    Raises:
        UnfitError: A value is missing, there are too many or too few, or the dtype cannot hold one.
    """
    return {
        feature.name: _to_array(columns.get(feature.name), rows, feature) for feature in features
    }


def _to_array(column: pa.Array | None, rows: int, feature: Feature) -> Array:
    values, counts = _flatten(column, rows)
    # As in a tf.Example: an empty list is a missing value, and a list of one is that one.
    missing = counts == 0
    if missing.any() and not feature.optional:
        raise UnfitError(int(missing.argmax()), feature, "no value")
    shape = _shape(feature, counts[~missing])
    size = math.prod(shape)
    wrong = ~missing & (counts != size)
    if wrong.any():
        row = int(wrong.argmax())
        raise UnfitError(row, feature, "1 value" if counts[row] == 1 else f"{counts[row]} values")
    array, fits = _to_dtype(values, feature)
    if not fits.all():
        at = int(fits.argmin())
        raise UnfitError(
            int(np.flatnonzero(~missing)[at // size]), feature, shorten(values[at].as_py())
        )
    array = array.reshape(-1, *shape)
    if not missing.any():
        return array
    filled = np.repeat(to_array([feature.fill()], feature, lambda _: feature.name), rows, axis=0)
    filled[~missing] = array
    return filled


def _flatten(column: pa.Array | None, rows: int) -> tuple[pa.Array, Array]:
    """Gives the values of all rows, and how many of them each row has: int64 [rows]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column is None:
        return pa.nulls(0), np.zeros(rows, np.int64)
    if pa.types.is_large_list(column.type):
        counts = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        return column.flatten(), counts.astype(np.int64)
    if not column.null_count:
        return column, np.ones(rows, np.int64)
    return column.drop_null(), np.asarray(column.is_valid(), dtype=np.int64)


def _shape(feature: Feature, counts: Array) -> tuple[int, ...]:
    """Gives the shape of one row's values; a free length is that of the first row."""
    known = math.prod(size for size in feature.shape if size is not None)
    free = int(counts[0]) // max(known, 1) if len(counts) else 0
    return tuple(free if size is None else size for size in feature.shape)


def _to_dtype(values: pa.Array, feature: Feature) -> tuple[Array, Array]:
    """Gives the values in the feature's dtype, and which of them it can hold: bool [values]."""
    if feature.dtype == TEXT:
        return np.array([*values.to_pylist(), None], dtype=object)[:-1], np.ones(len(values), bool)
    if not len(values):
        return np.empty(0, feature.dtype), np.ones(0, bool)
    numbers = values.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        array = numbers.astype(feature.dtype)
    return array, np.isfinite(array) if feature.dtype in FLOATS else array == numbers
