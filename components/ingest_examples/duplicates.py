"""Keys that occur in several rows of a span.

Every example has one key. Rows that are the same in everything are one example landed twice: the
first is kept. Of rows that differ nobody knows which is right: none is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perennial.data.row_keys import DIGEST_BYTES, ROW_KEY, RowKeys, halves
from perennial.readers.rows import Reason, shorten

SHARDS = 64
# `V`, not `S`: NumPy takes zeros from the end of an S.
_PACKED = np.dtype(
    [
        ("key", f"V{DIGEST_BYTES}"),
        ("example", f"V{DIGEST_BYTES}"),
        ("part", np.int64),
        ("number", np.int64),
    ]
)


class Duplicate(NamedTuple):
    """A key of several rows: how many, whether all are equal, and the first of them."""

    rows: int
    same: bool
    part: int
    number: int


def pack_keys(
    keys: Sequence[bytes], examples: Sequence[bytes], part: int, numbers: NDArray[np.int64]
) -> NDArray[np.void]:
    """Packs the places of keys, 48 bytes a row: digests of key and example, part, row number."""
    packed = np.empty(len(keys), _PACKED)
    packed["key"] = np.frombuffer(b"".join(keys), packed.dtype["key"])
    packed["example"] = np.frombuffer(b"".join(examples), packed.dtype["example"])
    packed["part"], packed["number"] = part, numbers
    return packed


def by_shard(packed: NDArray[np.void]) -> Iterator[tuple[int, bytes]]:
    """Divides keys into shards so that all rows of a key are in one, and one is held at a time.

    The keys of a shard come before those of the next one.
    """
    shards = halves(packed["key"])[:, 0] // np.uint64(2**64 // SHARDS)
    for shard in np.unique(shards).tolist():
        yield shard, packed[shards == shard].tobytes()


def find_duplicates(batches: Iterable[bytes]) -> Iterator[tuple[bytes, Duplicate]]:
    """Finds the keys of a shard that occur in several rows."""
    packed = np.frombuffer(b"".join(batches), _PACKED)
    keys = halves(packed["key"])
    packed = packed[np.lexsort((packed["number"], packed["part"], keys[:, 1], keys[:, 0]))]
    starts = np.flatnonzero(np.concatenate([[True], packed["key"][1:] != packed["key"][:-1]]))
    sizes = np.diff(np.append(starts, len(packed)))
    for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        rows = packed[start : start + size]
        same = bool((rows["example"] == rows["example"][0]).all())
        yield (
            rows["key"][0].tobytes(),
            Duplicate(size, same, int(rows["part"][0]), int(rows["number"][0])),
        )


def sort_keys(batches: Iterable[bytes]) -> RowKeys:
    """Gives the keys of a shard in their order."""
    packed = np.frombuffer(b"".join(batches), _PACKED)
    keys = np.empty(len(packed), ROW_KEY)
    keys["high"], keys["low"] = halves(packed["key"]).T
    keys["values"] = halves(packed["example"])[:, 0]
    return keys[np.lexsort((keys["low"], keys["high"]))]


def explain(setting: str, key: str, duplicate: Duplicate, first: str) -> Reason:
    """Says why a row of a duplicate key is set aside; `first` is the place of the first row."""
    kind = "that are the same" if duplicate.same else "that differ"
    received = f"{shorten(key)} in {duplicate.rows} rows {kind}, the first at {first}"
    return Reason(f"`{setting}` (data.key) must be unique in a span", received)
