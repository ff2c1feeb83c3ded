"""Keys that stand in several rows of a span.

Every example has one key. Rows that are the same in everything are one example landed twice: the first is kept. Of rows
that differ nobody knows which is right: none is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from perennial.reading.rows import Reason, shorten

SHARDS = 64
_DIGEST_BYTES = 16


class KeyAt(NamedTuple):
    """Where a key stands: digests of the key and of its example, and the part and number of its row."""

    key: bytes
    example: bytes
    part: int
    number: int


PlainKeyAt = tuple[bytes, bytes, int, int]


class Duplicate(NamedTuple):
    """A key of several rows: how many, whether all are the same, and the first of them."""

    rows: int
    same: bool
    part: int
    number: int


def digest(data: bytes) -> bytes:
    """A short digest, by which keys and examples are told apart."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def by_shard(keys: Iterable[KeyAt]) -> Iterator[tuple[int, list[PlainKeyAt]]]:
    """Shares keys out, so that all rows of a key come together and no more than a share has to be held at once."""
    shards: dict[int, list[PlainKeyAt]] = {}
    for key in keys:
        shards.setdefault(key.key[0] % SHARDS, []).append((*key,))  # Beam writes plain tuples fast
    yield from shards.items()


def find_duplicates(batches: Iterable[Sequence[PlainKeyAt]]) -> Iterator[tuple[bytes, Duplicate]]:
    """The keys of a share that stand in several rows."""
    first: dict[bytes, KeyAt] = {}
    found: dict[bytes, Duplicate] = {}
    for place in (KeyAt(*place) for batch in batches for place in batch):
        known = first.setdefault(place.key, place)
        if known is place:
            continue
        before = found.get(place.key, Duplicate(1, True, known.part, known.number))
        part, number = min((before.part, before.number), (place.part, place.number))
        found[place.key] = Duplicate(before.rows + 1, before.same and known.example == place.example, part, number)
    yield from found.items()


def explain(setting: str, key: str, duplicate: Duplicate, first: str) -> Reason:
    """Why a row of a duplicate key is set aside; `first` is the place of the first such row."""
    kind = "that are the same" if duplicate.same else "that differ"
    received = f"{shorten(key)} in {duplicate.rows} rows {kind}, the first at {first}"
    return Reason(f"`{setting}` (data.key) must be unique in a span", received)
