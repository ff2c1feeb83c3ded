"""Reads one part of a span: a row becomes an example of one split, or is set aside with reasons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from components.ingest_examples.duplicates import Duplicate, by_shard, explain, pack_keys
from components.ingest_examples.row_rules import RowRules
from components.ingest_examples.tallies import Counts, Fault
from perennial.data.example_encoder import encode_examples
from perennial.data.examples import split_of, splits_of, text_of, to_example
from perennial.data.row_keys import digest
from perennial.errors import BrokenFileError, DataError
from perennial.readers.blocks import Block, Columns
from perennial.readers.columns import Column, SeenKinds
from perennial.readers.convert import Conformer, kind_of
from perennial.readers.convert_columns import to_typed_columns
from perennial.readers.read import columns_of, read_blocks, read_rows, rows_of
from perennial.readers.rows import Part, Reason, Row, presentable
from perennial.readers.value_counts import ValueCounts
from schemas.project import SPLITS, SplitSettings
from schemas.records import InferredColumns, SetAside

SET_ASIDE, KEYS, TALLY = "set_aside", "keys", "tally"
_BYTES_AT_ONCE = 1 << 20
_ROWS_ONE_BY_ONE = 64  # in so few rows the one at fault is found by looking at each

Outcome = tuple[str, Any]
"""An output and what goes there.

To a split serialised examples, to SET_ASIDE and TALLY a line, to KEYS a batch.
"""


@dataclass(frozen=True)
class Plan:
    """Everything that reading depends on.

    Attributes:
        span: Name of the span.
        parts: All of them; a part is told by its index.
        rules: What a row needs to be an example.
        splits: The shares of the splits.
        max_value_mb: Largest value of a row, in megabytes.
        columns: The features of the schema, and those that were inferred.
        duplicates: What an earlier reading found, by the digest of the key; None: they are to be
            found.
    """

    span: str
    parts: list[Part]
    rules: RowRules
    splits: SplitSettings
    max_value_mb: float
    columns: Mapping[str, Column]
    duplicates: Mapping[bytes, Duplicate] | None = None


def read_part(plan: Plan, index: int) -> Iterator[Outcome]:
    """Reads a part to its end, or to the fault that ends it, which its tally records."""
    reading = _Reading(plan, index)
    try:
        for block in read_blocks(plan.parts[index], plan.max_value_mb):
            yield from reading.read(block)
    except DataError as error:
        reading.counts.fault = _fault_of(error)
    yield TALLY, reading.counts.tally(index).model_dump_json()


def infer_columns(
    parts: Iterable[Part], max_value_mb: float
) -> tuple[dict[str, Column], InferredColumns]:
    """Infers the columns of rows without a schema: the kind that holds all values.

    Gives what the values look like, too.
    """
    conformer, seen = Conformer({}, max_value_mb, guess=True), SeenKinds()
    counts = ValueCounts()
    for part in parts:
        try:
            for row in read_rows(part, max_value_mb):
                values, _ = conformer.conform({} if row.reason else row.values)
                for name, value in values.items():
                    seen.see(name, kind_of(value), not isinstance(value, list))
                    counts.see(name, row.values[name], value)
        except BrokenFileError:
            continue  # reading the part tells it
    return seen.columns(), counts.record()


class _Reading:
    """The reading of one part."""

    def __init__(self, plan: Plan, index: int) -> None:
        self._plan, self._index, self._part = plan, index, plan.parts[index]
        self._conformer = Conformer(plan.columns, plan.max_value_mb)
        self._kept: set[bytes] = set()
        self.counts = Counts(plan.columns, plan.rules.label)

    def read(self, block: Block) -> Iterator[Outcome]:
        """Reads a block as columns.

        Where a row is at fault, finds it in smaller and smaller pieces.
        """
        columns = columns_of(block, self._part)
        outcomes = self._read_columns(columns) if columns is not None else None
        if outcomes is not None:
            yield from outcomes
        elif block.size > _ROWS_ONE_BY_ONE:
            for piece in block.divide():
                yield from self.read(piece)
        else:
            yield from self._read_rows(block)

    def _read_columns(self, columns: Columns) -> list[Outcome] | None:
        """Reads rows that are all examples; gives None where one of them may be none."""
        plan, rows = self._plan, columns.batch.num_rows
        typed = to_typed_columns(columns.batch, plan.columns, plan.max_value_mb)
        if typed is None or not plan.rules.all_met(typed, rows):
            return None
        keys = _texts(typed[plan.rules.key])
        identities = [digest(key) for key in keys]
        if plan.duplicates is not None and not plan.duplicates.keys().isdisjoint(identities):
            return None
        splits = splits_of(keys, plan.splits)
        serialised = encode_examples(typed, rows)
        self.counts.see_columns(columns.batch.schema.names, typed, rows)
        self.counts.add_examples(
            {split: int((splits == place).sum()) for place, split in enumerate(SPLITS)},
            typed[plan.rules.label],
        )
        outcomes: list[Outcome] = []
        for place, split in enumerate(SPLITS):
            if chosen := serialised.filter(pa.array(splits == place)).to_pylist():
                outcomes.append((split, chosen))
        examples = [digest(example) for example in serialised.to_pylist()]
        packed = pack_keys(identities, examples, self._index, columns.numbers)
        return outcomes + [(KEYS, shard) for shard in by_shard(packed)]

    def _read_rows(self, block: Block) -> Iterator[Outcome]:
        """Reads rows one by one."""
        batch = _Batch()
        for row in rows_of(block, self._part):
            judged = self._judge(row)
            if isinstance(judged, SetAside):
                yield SET_ASIDE, judged.model_dump_json()
                continue
            batch.add(judged, row.number)
            if batch.size >= _BYTES_AT_ONCE:
                yield from batch.outcomes(self._index)
                batch = _Batch()
        yield from batch.outcomes(self._index)

    def _judge(self, row: Row) -> _Example | SetAside:
        """Makes an example of a row, or says why it cannot be one."""
        if row.reason is not None:
            self.counts.see(row, {})
            return self._set_aside(row, [row.reason])
        values, reasons = self._conformer.conform(row.values)
        self.counts.see(row, values)
        reasons = reasons or self._plan.rules.check(values)
        if reasons:
            return self._set_aside(row, reasons)
        key = text_of(values[self._plan.rules.key])
        identity = digest(key.encode())
        if reason := self._check_unique(row, key, identity):
            return self._set_aside(row, [reason])
        split = split_of(key, self._plan.splits)
        self.counts.add_example(split, text_of(values[self._plan.rules.label]))
        return _Example(split, identity, to_example(values).SerializeToString(deterministic=True))

    def _check_unique(self, row: Row, key: str, identity: bytes) -> Reason | None:
        plan = self._plan
        duplicate = plan.duplicates.get(identity) if plan.duplicates else None
        if duplicate is None:
            return None
        if duplicate.same and duplicate.part == self._index and identity not in self._kept:
            self._kept.add(identity)
            return None
        first = plan.parts[duplicate.part].place(duplicate.number)
        return explain(plan.rules.key, key, duplicate, first)

    def _set_aside(self, row: Row, reasons: list[Reason]) -> SetAside:
        place = self._part.place(row.number)
        self.counts.add_set_aside(place, reasons)
        values = {name: presentable(value) for name, value in row.values.items()}
        return SetAside(
            span=self._plan.span,
            place=place,
            reasons=[str(reason) for reason in reasons],
            values=values,
        )


class _Example(NamedTuple):
    """An example: its split, the digest of its key, and the example itself."""

    split: str
    identity: bytes
    serialised: bytes


class _Batch:
    """Examples of rows that were read one by one, until there are enough to pass on."""

    def __init__(self) -> None:
        self.size = 0
        self._examples: list[_Example] = []
        self._numbers: list[int] = []

    def add(self, example: _Example, number: int) -> None:
        """Adds the example of the row with this number."""
        self._examples.append(example)
        self._numbers.append(number)
        self.size += len(example.serialised)

    def outcomes(self, part: int) -> Iterator[Outcome]:
        """Gives the examples by split, and where their keys stand."""
        for split in SPLITS:
            if chosen := [
                example.serialised for example in self._examples if example.split == split
            ]:
                yield split, chosen
        if self._examples:
            identities = [example.identity for example in self._examples]
            digests = [digest(example.serialised) for example in self._examples]
            for shard in by_shard(
                pack_keys(identities, digests, part, np.array(self._numbers, np.int64))
            ):
                yield KEYS, shard


def _texts(column: pa.Array) -> list[bytes]:
    """Gives the keys of a column as `text_of` does, in UTF-8."""
    values = column.to_pylist()
    if not pa.types.is_large_binary(column.type):
        return [str(value).encode() for value in values]
    try:
        column.cast(pa.large_string())  # then text_of() would only decode what is encoded again
    except pa.ArrowInvalid:
        return [text_of(value).encode() for value in values]
    checked: list[bytes] = values
    return checked


def _fault_of(error: DataError) -> Fault:
    return Fault(
        where=error.where,
        expected=error.expected,
        received=error.received,
        remedy=error.remedy,
        broken=isinstance(error, BrokenFileError),
    )
