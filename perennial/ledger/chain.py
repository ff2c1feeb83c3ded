"""The chain of events: each carries the digest of the one before, so that no change goes unseen.

An event's digest is SHA-256 over its columns, and the digest of the event before, as canonical
JSON: one object, its names in order, no spaces, ASCII alone. Whoever changes, removes or inserts an
event would have to write all later ones anew; then the newest digest is another one than every
report since shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from perennial.ledger.table import ChainedRow, NewRow

# Stands for the digest before the first event.
ORIGIN = ""
Fault = Literal["changed", "removed", "inserted"]


class ChainFault(NamedTuple):
    """The first event that is not as it was appended.

    `numbers` are the first and the last number that are concerned: of several removed events all.
    """

    fault: Fault
    numbers: tuple[int, int]
    row: ChainedRow | None


def digest_row(row: ChainedRow) -> str:
    """Computes the digest that a row must have, in hexadecimal."""
    columns = row._asdict()
    del columns["digest"]
    text = json.dumps(columns, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def chain_rows(rows: Sequence[NewRow], newest: ChainedRow | None) -> list[ChainedRow]:
    """Numbers new rows and chains them to the newest that there is."""
    chained: list[ChainedRow] = []
    for row in rows:
        newest = chain_row((newest.number if newest else 0) + 1, row, newest)
        chained.append(newest)
    return chained


def chain_row(number: int, row: NewRow, before: ChainedRow | None) -> ChainedRow:
    """Chains one row, with a number of its own, to the one before."""
    previous = before.digest if before else ORIGIN
    unsigned = ChainedRow(number, *row, previous=previous, digest="")
    return unsigned._replace(digest=digest_row(unsigned))


def find_fault(rows: Iterable[ChainedRow]) -> ChainFault | None:
    """Finds the first event that was changed, removed or inserted; None: there is none.

    Args:
        rows: All events, by their numbers. What was removed at the end leaves no trace among them:
            an earlier head tells that (`perennial ledger verify --head`).
    """
    before: ChainedRow | None = None  # as it was appended
    doubtful: ChainedRow | None = None  # the row after it, which does not fit
    earlier = ORIGIN  # the digest before `before`
    for row in rows:
        expected = before.digest if before else ORIGIN
        if doubtful is not None:
            return _explain(doubtful, row, before, expected, earlier)
        if row.previous == expected and row.digest == digest_row(row):
            earlier, before = expected, row
        else:
            doubtful = row
    if doubtful is not None:
        return _explain(doubtful, None, before, before.digest if before else ORIGIN, earlier)
    return None


def _explain(
    row: ChainedRow,
    following: ChainedRow | None,
    before: ChainedRow | None,
    expected: str,
    earlier: str,
) -> ChainFault:
    """Explains why a row does not fit behind the one before.

    `expected` is the digest of the row before, and `earlier` that of the one before it.
    """
    if following is not None and following.previous == expected:
        return ChainFault("inserted", (row.number, row.number), row)
    if row.digest != digest_row(row):
        return ChainFault("changed", (row.number, row.number), row)
    first = (before.number if before else 0) + 1
    if row.number > first:
        return ChainFault("removed", (first, row.number - 1), None)
    if before is not None and row.previous == earlier:
        return ChainFault("inserted", (before.number, before.number), before)
    # Its contents and its digest were both written anew, which the next row does not follow.
    changed = before or row
    return ChainFault("changed", (changed.number, changed.number), changed)
