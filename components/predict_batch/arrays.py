"""From Arrow columns to the arrays that a model takes, where no value needs a closer look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.features import FLOATS, INTEGERS, TEXT, Array, Feature, to_array

if TYPE_CHECKING:
    import pyarrow as pa

# Every integer up to here is a float64 of its own.
_EXACT = 2.0**53


def to_arrays(batch: pa.RecordBatch, features: Sequence[Feature]) -> dict[str, Array] | None:
    """One array [rows, ...] for each feature, equal to what `serving.inputs.from_v1` makes of the same rows.

    None: a value is missing, of another type, or does not fit. `from_v1` then converts it, or says which it is.
    """
    found = {}
    for feature in features:
        place = batch.schema.get_field_index(feature.name)
        array = _default(feature, len(batch)) if place < 0 else _to_array(batch.column(place), feature)
        if array is None:
            return None
        found[feature.name] = array
    return found


def _default(feature: Feature, rows: int) -> Array | None:
    """The default in every row, [rows, ...]; None: the feature has none."""
    if not feature.optional:
        return None
    return np.repeat(to_array([feature.fill()], feature, lambda _: feature.name), rows, axis=0)


def _to_array(column: pa.Array, feature: Feature) -> Array | None:
    if feature.shape:
        return _from_lists(column, feature)
    if not column.null_count:
        return _from_values(column, feature)
    if not feature.optional:
        return None
    filled = _default(feature, len(column))
    there = np.asarray(column.is_valid())
    present = _from_values(column.drop_null(), feature)
    if filled is None or present is None:
        return None
    filled[there] = present
    return filled


def _from_lists(column: pa.Array, feature: Feature) -> Array | None:
    """Rows of equally long lists; None where one is missing, longer or shorter, or nested deeper."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if column.null_count or len(feature.shape) != 1 or feature.shape[0] is None or not lists:
        return None
    size = feature.shape[0]
    if not pc.all(pc.equal(pc.list_value_length(column), size)).as_py():
        return None
    values = column.flatten()
    array = None if values.null_count else _from_values(values, feature)
    return None if array is None else array.reshape(len(column), size)


def _from_values(values: pa.Array, feature: Feature) -> Array | None:
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if feature.dtype == TEXT:
        text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
        return np.array(values.cast(pa.large_binary()).to_pylist(), dtype=object) if text else None
    numbers = values.to_numpy(zero_copy_only=False) if _is_number(values.type) else None
    if numbers is None:
        return None
    return _floats(numbers, feature) if feature.dtype in FLOATS else _integers(numbers, feature)


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _floats(numbers: Array, feature: Feature) -> Array | None:
    with np.errstate(over="ignore"):
        array = numbers.astype(np.float64).astype(feature.dtype)
    return array if np.isfinite(array).all() else None


def _integers(numbers: Array, feature: Feature) -> Array | None:
    assert feature.dtype in INTEGERS, feature.dtype
    limits = np.iinfo(feature.dtype)
    if numbers.dtype.kind == "f":
        whole = np.abs(numbers) <= min(_EXACT, float(limits.max))
        fits = bool(whole.all()) and bool((np.floor(numbers) == numbers).all())
    else:
        fits = not len(numbers) or (int(numbers.min()) >= limits.min and int(numbers.max()) <= limits.max)
    return numbers.astype(feature.dtype) if fits else None
