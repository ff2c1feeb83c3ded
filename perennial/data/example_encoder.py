"""Encodes columns as tf.Examples and TFRecords with Arrow and NumPy, a whole batch at once.

The bytes are those that `to_example(row).SerializeToString(deterministic=True)` gives for each row:
features by name, and a missing one left out. tfx_bsl's encoder writes missing features too, as
empty ones, in an order that changes.

Source: https://protobuf.dev/programming-guides/encoding;
tensorflow/core/example/{example,feature}.proto; tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

_FIRST, _SECOND, _THIRD = b"\x0a", b"\x12", b"\x1a"  # tags of the fields 1, 2 and 3 with a length
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = _FIRST, _SECOND, _THIRD
_HEAD = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")


def encode_examples(columns: Mapping[str, pa.Array], rows: int) -> pa.Array:
    """Encodes rows.

    Args:
        columns: Name -> column [rows] of int64, float64, large_binary, or large lists of one of
            them without nulls in a list; null is a missing feature.
        rows: How many there are.

    Returns:
        A serialised tf.Example for each row, large_binary [rows].
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names = sorted(columns, key=str.encode)
    entries = [_encode_feature(name, columns[name]) for name in names]
    nothing = pa.array([b""] * rows, pa.large_binary())
    features = pc.binary_join_element_wise(
        *entries, nothing, pa.scalar(b"", pa.large_binary()), null_handling="skip"
    )
    return _join(_prefixes(features, lambda size: _FIRST + _varint(size)), features)


def to_tfrecords(records: Iterable[bytes]) -> bytes:
    """Frames serialised examples as TFRecords: length and data, each with its masked checksum."""
    import google_crc32c

    framed = bytearray()
    for record in records:
        head = struct.pack("<Q", len(record))
        framed += _HEAD.pack(len(record), mask_checksum(google_crc32c.value(head)))
        framed += record
        framed += _CHECKSUM.pack(mask_checksum(google_crc32c.value(record)))
    return bytes(framed)


def mask_checksum(checksum: int) -> int:
    """Rotates and shifts a CRC-32C, as TFRecords hold it."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _encode_feature(name: str, column: pa.Array) -> pa.Array:
    """Encodes the map entry of a feature in each row; null where it is missing."""
    import pyarrow as pa

    key = _FIRST + _sized(name.encode())
    several = pa.types.is_large_list(column.type)
    kind = column.type.value_type if several else column.type
    payload, tag = _encode_values(column, several, kind)

    def prefix(size: int) -> bytes:
        if pa.types.is_large_binary(kind):
            values = size
            inner = b""
        else:
            values = len(_FIRST + _varint(size)) + size
            inner = _FIRST + _varint(size)
        feature = tag + _varint(values)
        return b"".join(
            (
                _FIRST,
                _varint(len(key) + 1 + len(_varint(len(feature) + values)) + len(feature) + values),
                key,
                _SECOND,
                _varint(len(feature) + values),
                feature,
                inner,
            )
        )

    prefixes = _prefixes(payload, prefix)
    if several:
        import pyarrow.compute as pc

        # No values are of no kind: the same feature has one in other examples.
        bare = _FIRST + _sized(key + _SECOND + b"\0")
        empty = pc.equal(pc.list_value_length(column), 0)
        prefixes = pc.if_else(empty, pa.scalar(bare, pa.large_binary()), prefixes)
    return _join(prefixes, payload)


def _encode_values(column: pa.Array, several: bool, kind: pa.DataType) -> tuple[pa.Array, bytes]:
    """Encodes each row's values, null where the feature is missing; gives the tag of their list."""
    import pyarrow as pa

    lists = None
    if several:
        lists = np.frombuffer(column.buffers()[1], np.int64, len(column) + 1, 8 * column.offset)
        flat = column.values
    else:
        flat = column
    if pa.types.is_int64(kind):
        data, offsets = _varints(_numbers(flat, np.int64).astype(np.int64, copy=False))
        tag = _INT64_LIST
    elif pa.types.is_float64(kind):
        with np.errstate(over="ignore"):
            data = _numbers(flat, np.float64).astype("<f4").tobytes()
        offsets = 4 * np.arange(len(flat) + 1, dtype=np.int64)
        tag = _FLOAT_LIST
    else:
        items = _join(_prefixes(flat, lambda size: _FIRST + _varint(size)), flat)
        offsets = np.frombuffer(items.buffers()[1], np.int64, len(items) + 1, 8 * items.offset)
        data = items.buffers()[2]
        tag = _BYTES_LIST
    offsets = offsets if lists is None else offsets[lists]
    return _binary(data, offsets, column), tag


def _numbers(flat: pa.Array, dtype: type[np.generic]) -> NDArray[np.generic]:
    """Gives the values; where one is null, anything."""
    return (
        np.frombuffer(flat.buffers()[1], dtype, len(flat), flat.offset * 8)
        if len(flat)
        else np.empty(0, dtype)
    )


def _binary(data: bytes | pa.Buffer, offsets: NDArray[np.int64], like: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    buffers = [
        None,
        pa.py_buffer(np.ascontiguousarray(offsets)),
        pa.py_buffer(data if data is not None else b""),
    ]
    joined = pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)
    return (
        joined
        if not like.null_count
        else pc.if_else(like.is_valid(), joined, pa.scalar(None, pa.large_binary()))
    )


def _varints(values: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
    """Encodes numbers as varints; gives also where each begins: int64 [values + 1]."""
    bits = values.view(np.uint64)
    shifts = np.arange(0, 70, 7, dtype=np.uint64)
    groups = (bits[:, None] >> shifts[None, :]) & np.uint64(0x7F)
    sizes = 10 - np.argmax(groups[:, ::-1] != 0, axis=1)
    sizes[bits == 0] = 1
    places = np.arange(10)
    groups |= np.where(places[None, :] < sizes[:, None] - 1, np.uint64(0x80), np.uint64(0))
    data = groups.astype(np.uint8)[places[None, :] < sizes[:, None]].tobytes()
    return data, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _prefixes(values: pa.Array, prefix: Callable[[int], bytes]) -> pa.Array:
    """Gives what precedes each value, which depends on its size alone; null where the value is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sizes = pc.binary_length(values).dictionary_encode()
    table = pa.array([prefix(size) for size in sizes.dictionary.to_pylist()], pa.large_binary())
    return pc.take(table, sizes.indices)


def _join(prefixes: pa.Array, values: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(prefixes, values, pa.scalar(b"", pa.large_binary()))


def _sized(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
