"""The keys of a span's examples as digests, sorted, so that spans can be compared with each other.

A file of them lies beside the examples: 24 bytes a row. It is read range by range, so that what is
held in memory does not grow with the span.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

ROW_KEYS_FILE = "row_keys.npy"
DIGEST_BYTES = 16
_SPAN_DIGEST_BYTES = 8  # of the few thousand spans of a ledger no two are alike by chance
_ROWS_AT_ONCE = 1 << 20
# `high` and `low` are the digest of the key, `values` is the beginning of the example's digest.
ROW_KEY = np.dtype([("high", "<u8"), ("low", "<u8"), ("values", "<u8")])

RowKeys = NDArray[np.void]
"""Keys by (high, low): ROW_KEY [rows]."""


def digest(data: bytes) -> bytes:
    """Computes a short digest, by which keys and examples are compared."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def halves(digests: NDArray[np.void]) -> NDArray[np.uint64]:
    """Gives digests as two numbers each, in whose order they are sorted: uint64 [digests, 2]."""
    return np.ascontiguousarray(digests).view(">u8").reshape(-1, 2).astype(np.uint64)


def digest_keys(keys: Sequence[bytes]) -> NDArray[np.uint64]:
    """Computes the digests of keys, as text in UTF-8: uint64 [keys, 2]."""
    digests = b"".join(map(digest, keys))
    return halves(np.frombuffer(digests, np.dtype(f"V{DIGEST_BYTES}")))


def write_row_keys(parts: Iterable[RowKeys], rows: int, folder: Path) -> None:
    """Writes the file of so many keys, which come in their order."""
    if not rows:
        return
    whole = open_memmap(folder / ROW_KEYS_FILE, mode="w+", dtype=ROW_KEY, shape=(rows,))
    start = 0
    for part in parts:
        whole[start : start + len(part)] = part
        start += len(part)
    whole.flush()


def read_row_keys(folder: Path) -> RowKeys:
    """Opens the file of a folder, of which only what is looked at is read; none: no keys."""
    path = folder / ROW_KEYS_FILE
    if not path.exists():
        return np.empty(0, ROW_KEY)
    keys: RowKeys = np.load(path, mmap_mode="r")
    return keys


def digest_rows(folder: Path) -> str | None:
    """Computes a digest of the keys and values of a folder's rows; None: it has no keys.

    It is the same in whatever order the rows landed, as the file has them in the order of keys.
    """
    keys = read_row_keys(folder)
    if not len(keys):
        return None
    whole = hashlib.blake2b(digest_size=_SPAN_DIGEST_BYTES)
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        whole.update(keys[start : start + _ROWS_AT_ONCE].tobytes())
    return whole.hexdigest()


def keys_without(keys: RowKeys, gone: NDArray[np.uint64]) -> Iterator[RowKeys]:
    """Gives keys without those of some digests, uint64 [digests, 2], a part at a time."""
    gone = gone[np.lexsort((gone[:, 1], gone[:, 0]))]
    high, low = np.ascontiguousarray(gone.T)
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        part = keys[start : start + _ROWS_AT_ONCE]
        yield part[find_keys(high, low, np.stack([part["high"], part["low"]], axis=1)) < 0]


def find_keys(
    high: NDArray[np.uint64], low: NDArray[np.uint64], keys: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Finds key digests among others.

    Args:
        high: First halves of the others, [others].
        low: Second halves, [others]; the others are sorted by (high, low).
        keys: What to find, [keys, 2].

    Returns:
        The place of each among the others, -1 where it is not among them: [keys].
    """
    places = np.full(len(keys), -1, np.int64)
    start = np.searchsorted(high, keys[:, 0])
    pending = np.arange(len(keys))
    while len(pending):  # more than once only where several have the same first half
        pending = pending[start[pending] < len(high)]
        pending = pending[high[start[pending]] == keys[pending, 0]]
        equal = low[start[pending]] == keys[pending, 1]
        places[pending[equal]] = start[pending[equal]]
        pending = pending[~equal]
        start[pending] += 1
    return places
