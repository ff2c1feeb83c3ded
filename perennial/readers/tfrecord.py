"""TFRecords of tf.Example, with every checksum verified.

Source: tensorflow/core/lib/io/record_writer.h. A record is its length (8 bytes), the length's
checksum (4), the data, and the data's checksum (4), little-endian; a checksum is a CRC-32C, rotated
and shifted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from perennial.errors import BrokenFileError
from perennial.readers.rows import Part, Reason, Row

_HEAD = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_BLOCK = 1 << 20


def read_tfrecord(stream: BinaryIO, part: Part) -> Iterator[Row]:
    """Reads the values of every example: a single one alone, several as a list.

    Raises:
        BrokenFileError: A record is damaged or cut off.
    """
    import tensorflow as tf

    number = 0
    while (head := stream.read(_HEAD.size)) != b"":
        number += 1
        example = tf.train.Example()
        try:
            example.ParseFromString(_read_record(stream, head, part.place(number)))
        except Exception as error:
            if isinstance(error, BrokenFileError | OSError | EOFError):
                raise
            yield Row(number, {}, Reason("the record must be a tf.Example", type(error).__name__))
            continue
        yield Row(
            number, {name: _values(feature) for name, feature in example.features.feature.items()}
        )


def _read_record(stream: BinaryIO, head: bytes, place: str) -> bytes:
    if len(head) < _HEAD.size:
        raise BrokenFileError(place, "must be whole", f"{len(head)} bytes of its head")
    length, checksum = _HEAD.unpack(head)
    if checksum != _masked_crc(head[:8]):
        raise BrokenFileError(
            place, "must be a TFRecord with the checksum of its length", "another checksum"
        )
    data = _read_exactly(stream, length, place)
    (checksum,) = _CHECKSUM.unpack(_read_exactly(stream, _CHECKSUM.size, place))
    if checksum != _masked_crc(data):
        raise BrokenFileError(place, "must have the checksum of its bytes", "another checksum")
    return data


def _read_exactly(stream: BinaryIO, length: int, place: str) -> bytes:
    """Reads in blocks: a damaged length must not ask for all memory at once."""
    blocks, missing = [], length
    while missing and (block := stream.read(min(missing, _BLOCK))):
        blocks.append(block)
        missing -= len(block)
    if missing:
        raise BrokenFileError(
            place, f"must be whole ({length} bytes)", f"{length - missing} bytes, then the end"
        )
    return b"".join(blocks)


def _masked_crc(data: bytes) -> int:
    import google_crc32c

    checksum: int = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _values(feature: Any) -> Any:
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    return values[0] if len(values) == 1 else values
