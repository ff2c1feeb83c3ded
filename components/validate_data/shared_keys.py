"""Keys that several spans of a window have, found exactly and range by range.

The keys of each span come sorted (`perennial.data.row_keys`). They are merged in ranges of at most
about a million keys, and only those that several spans have are kept, on disk: what is held in
memory grows neither with the window nor with what its spans have in common.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from perennial.data.row_keys import RowKeys, find_keys, read_row_keys

_KEYS_AT_ONCE = 1 << 20
_MOST_RANGES = 1 << 16
_SHARED = np.dtype([("high", "<u8"), ("low", "<u8"), ("values", "<u8"), ("span", "<i4")])
_NONE = np.iinfo(np.int32).max

Keep = Literal["oldest", "newest"]
_Kind = TypeVar("_Kind", bound=np.generic)


@dataclass(frozen=True)
class Overlap:
    """The rows of a span whose keys other spans have, by the number of the other span.

    `same` are those of `rows` whose values are the same, too.
    """

    rows: dict[int, int]
    same: dict[int, int]


@dataclass(frozen=True)
class Surplus:
    """Keys of a span that another span is to count, sorted by (`high`, `low`).

    `holder` is the number of the span that counts the row, and `same` tells whether its values are
    the same. Each is an array [keys] on disk.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    holder: NDArray[np.int32]
    same: NDArray[np.bool_]

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Finds the places of key digests, uint64 [keys, 2]; -1 where a key is not among these."""
        return find_keys(self.high, self.low, keys)


class SharedKeys:
    """The keys that more than one of some spans have.

    Args:
        spans: Folders of spans with their keys, oldest first; a span's number is its place here.
        scratch: A folder to work in.
    """

    def __init__(self, spans: Sequence[Path], scratch: Path) -> None:
        self._scratch, self._files = scratch, list[Path]()
        for number, shared in enumerate(_find_shared([read_row_keys(span) for span in spans])):
            if len(shared):
                self._files.append(scratch / f"shared-{number:05}.npy")
                np.save(self._files[-1], shared)

    def overlap(self, span: int, others: Collection[int]) -> Overlap:
        """Counts the rows of a span whose keys others have; each with the first of the others."""
        rows: dict[int, int] = {}
        same: dict[int, int] = {}
        for part in self._parts():
            mine = np.flatnonzero(part.spans == span)
            holder = part.choose(np.isin(part.spans, list(others)), "oldest")[part.groups[mine]]
            equal = part.equal_to(mine, np.isin(part.spans, list(others)))[part.groups[mine]]
            _add(rows, holder[holder != _NONE])
            _add(same, holder[(holder != _NONE) & equal])
        return Overlap(rows, same)

    def surplus(self, spans: Collection[int], keep: Keep) -> dict[int, Surplus]:
        """Gives for each span the keys that another of these spans is to count."""
        for part in self._parts():
            usable = np.isin(part.spans, list(spans))
            holder = part.choose(usable, keep)
            kept = np.flatnonzero(usable & (part.spans == holder[part.groups]))
            gone = usable & (part.spans != holder[part.groups])
            values = np.zeros(len(holder), np.uint64)
            values[part.groups[kept]] = part.shared["values"][kept]
            same = part.shared["values"] == values[part.groups]
            for span in np.unique(part.spans[gone]).tolist():
                chosen = gone & (part.spans == span)
                self._append(span, "high", part.shared["high"][chosen])
                self._append(span, "low", part.shared["low"][chosen])
                self._append(span, "holder", holder[part.groups[chosen]])
                self._append(span, "same", same[chosen])
        return {
            span: Surplus(
                self._open(span, "high", np.uint64),
                self._open(span, "low", np.uint64),
                self._open(span, "holder", np.int32),
                self._open(span, "same", np.bool_),
            )
            for span in sorted(spans)
            if self._place(span, "high").exists()
        }

    def _parts(self) -> Iterator[_Part]:
        for file in self._files:
            yield _Part(np.load(file))

    def _place(self, span: int, field: str) -> Path:
        return self._scratch / f"surplus-{span}.{field}"

    def _append(self, span: int, field: str, values: NDArray[np.generic]) -> None:
        with self._place(span, field).open("ab") as file:
            file.write(np.ascontiguousarray(values).tobytes())

    def _open(self, span: int, field: str, kind: type[_Kind]) -> NDArray[_Kind]:
        return np.memmap(self._place(span, field), kind, mode="r")


class _Part:
    """The keys of one range that several spans have: groups of rows with the same key."""

    def __init__(self, shared: NDArray[np.void]) -> None:
        self.shared = shared
        self.spans: NDArray[np.int32] = shared["span"]
        first = _firsts(shared["high"], shared["low"])
        self._starts = np.flatnonzero(first)
        self.groups: NDArray[np.int64] = np.cumsum(first) - 1

    def choose(self, usable: NDArray[np.bool_], keep: Keep) -> NDArray[np.int32]:
        """Chooses a span for each group among the usable rows: int32 [groups], or `_NONE`."""
        if keep == "oldest":
            return np.minimum.reduceat(np.where(usable, self.spans, _NONE), self._starts)
        newest = np.maximum.reduceat(np.where(usable, self.spans, -1), self._starts)
        return np.where(newest < 0, _NONE, newest)

    def equal_to(self, rows: NDArray[np.int64], usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tells for each group whether a usable row has the values of that among `rows`."""
        values = np.zeros(len(self._starts), np.uint64)
        values[self.groups[rows]] = self.shared["values"][rows]
        return np.logical_or.reduceat(
            usable & (self.shared["values"] == values[self.groups]), self._starts
        )


def _find_shared(spans: Sequence[RowKeys]) -> Iterator[NDArray[np.void]]:
    """Gives, range by range, the rows whose key several spans have, in the order of the keys."""
    total = sum(map(len, spans))
    ranges = 1
    while ranges < _MOST_RANGES and total > ranges * _KEYS_AT_ONCE:
        ranges *= 2
    starts = [0] * len(spans)
    for number in range(1, ranges + 1):
        ends = [len(keys) for keys in spans]
        if number < ranges:
            bound = number * (2**64 // ranges)
            ends = [
                bisect_left(keys, bound, start, key=lambda row: int(row["high"]))
                for keys, start in zip(spans, starts, strict=True)
            ]
        parts = [keys[a:b] for keys, a, b in zip(spans, starts, ends, strict=True)]
        starts = ends
        yield _shared_of(parts)


def _shared_of(parts: Sequence[RowKeys]) -> NDArray[np.void]:
    rows = np.empty(sum(map(len, parts)), _SHARED)
    start = 0
    for span, part in enumerate(parts):
        here = rows[start : start + len(part)]
        for field in ("high", "low", "values"):
            here[field] = part[field]
        here["span"] = span
        start += len(part)
    rows = rows[np.lexsort((rows["low"], rows["high"]))]  # stable: spans stay in their order
    first = _firsts(rows["high"], rows["low"])
    groups = np.cumsum(first) - 1
    shared: NDArray[np.void] = rows[np.bincount(groups)[groups] > 1] if len(rows) else rows
    return shared


def _firsts(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Marks the first row of each key: bool [rows]."""
    first = np.ones(len(high), bool)
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return first


def _add(counts: dict[int, int], spans: NDArray[np.int32]) -> None:
    numbers, rows = np.unique(spans, return_counts=True)
    for number, count in zip(numbers.tolist(), rows.tolist(), strict=True):
        counts[number] = counts.get(number, 0) + count
