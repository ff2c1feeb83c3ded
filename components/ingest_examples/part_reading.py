"""Reads one part of a span: every row becomes an example of one split, or is set aside with its reasons."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.ingest_examples.duplicates import Duplicate, KeyAt, by_shard, digest, explain
from components.ingest_examples.row_rules import RowRules
from components.ingest_examples.tallies import Counts, Fault
from perennial.errors import DataError
from perennial.examples import split_of, text_of, to_example
from perennial.reading.columns import Column, SeenKinds
from perennial.reading.conforming import Conformer, kind_of
from perennial.reading.read import read_rows
from perennial.reading.rows import BrokenFileError, Part, Reason, Row
from schemas.project import SplitSettings
from schemas.records import SetAside

SET_ASIDE, KEYS, TALLY = "set_aside", "keys", "tally"
_KEYS_AT_ONCE = 10_000
_LONGEST_TEXT, _LONGEST_LIST = 200, 20

Outcome = tuple[str, Any]
"""An output and what goes there: to a split a serialised example, to SET_ASIDE and TALLY a line, to KEYS a batch."""


@dataclass(frozen=True)
class Plan:
    """What reading goes by.

    Attributes:
        span: Name of the span.
        parts: All of them; a part is told by its index.
        rules: What a row needs to be an example.
        splits: The shares of the splits.
        max_value_mb: Largest value of a row, in megabytes.
        columns: The features of the schema, and those that were inferred.
        duplicates: What an earlier reading found, by the digest of the key; None: they are to be found.
    """

    span: str
    parts: list[Part]
    rules: RowRules
    splits: SplitSettings
    max_value_mb: float
    columns: Mapping[str, Column]
    duplicates: Mapping[bytes, Duplicate] | None = None


def read_part(plan: Plan, index: int) -> Iterator[Outcome]:
    """Reads a part to its end, or to the fault that ends it, which its tally then tells."""
    reading = _Reading(plan, index)
    try:
        for row in read_rows(plan.parts[index], plan.max_value_mb):
            yield reading.judge(row)
            if len(reading.keys) >= _KEYS_AT_ONCE:
                yield from reading.pop_keys()
    except DataError as error:
        reading.counts.fault = _fault_of(error)
    yield from reading.pop_keys()
    yield TALLY, reading.counts.tally(index).model_dump_json()


def infer_columns(parts: Iterable[Part], max_value_mb: float) -> dict[str, Column]:
    """The columns of rows without a schema: whole numbers, numbers, or text, whichever holds all values."""
    conformer, seen = Conformer({}, max_value_mb, guess=True), SeenKinds()
    for part in parts:
        try:
            for row in read_rows(part, max_value_mb):
                values, _ = conformer.conform({} if row.reason else row.values)
                for name, value in values.items():
                    seen.see(name, kind_of(value), not isinstance(value, list))
        except BrokenFileError:
            continue  # reading the part tells it
    return seen.columns()


class _Reading:
    """The reading of one part."""

    def __init__(self, plan: Plan, index: int) -> None:
        self._plan, self._index, self._part = plan, index, plan.parts[index]
        self._conformer = Conformer(plan.columns, plan.max_value_mb)
        self._kept: set[bytes] = set()
        self.counts = Counts(plan.columns, plan.rules.label)
        self.keys: list[KeyAt] = []

    def judge(self, row: Row) -> Outcome:
        """Makes an example of a row, or a line that tells why it is none."""
        if row.reason is not None:
            self.counts.see(row, {})
            return self._set_aside(row, [row.reason])
        values, reasons = self._conformer.conform(row.values)
        self.counts.see(row, values)
        reasons = reasons or self._plan.rules.check(values)
        if reasons:
            return self._set_aside(row, reasons)
        key = text_of(values[self._plan.rules.key])
        serialised: bytes = to_example(values).SerializeToString(deterministic=True)
        if reason := self._check_unique(row, key, serialised):
            return self._set_aside(row, [reason])
        split = split_of(key, self._plan.splits)
        self.counts.add_example(split, text_of(values[self._plan.rules.label]))
        return split, serialised

    def pop_keys(self) -> Iterator[Outcome]:
        """The keys since the last time, in batches."""
        for batch in by_shard(self.keys):
            yield KEYS, batch
        self.keys = []

    def _check_unique(self, row: Row, key: str, serialised: bytes) -> Reason | None:
        identity, plan = digest(key.encode()), self._plan
        if plan.duplicates is None:
            self.keys.append(KeyAt(identity, digest(serialised), self._index, row.number))
            return None
        duplicate = plan.duplicates.get(identity)
        if duplicate is None:
            return None
        if duplicate.same and duplicate.part == self._index and identity not in self._kept:
            self._kept.add(identity)
            return None
        first = plan.parts[duplicate.part].place(duplicate.number)
        return explain(plan.rules.key, key, duplicate, first)

    def _set_aside(self, row: Row, reasons: list[Reason]) -> Outcome:
        place = self._part.place(row.number)
        self.counts.add_set_aside(place, reasons)
        values = {name: _presentable(value) for name, value in row.values.items()}
        record = SetAside(span=self._plan.span, place=place, reasons=[str(reason) for reason in reasons], values=values)
        return SET_ASIDE, record.model_dump_json()


def _fault_of(error: DataError) -> Fault:
    return Fault(
        where=error.where,
        expected=error.expected,
        received=error.received,
        remedy=error.remedy,
        broken=isinstance(error, BrokenFileError),
    )


def _presentable(value: Any) -> Any:
    """A value as JSON, not longer than a person wants to read."""
    if isinstance(value, list | tuple):
        more = [f"… {len(value)} values"] if len(value) > _LONGEST_LIST else []
        return [_presentable(item) for item in value[:_LONGEST_LIST]] + more
    if isinstance(value, dict):
        return {str(name): _presentable(item) for name, item in list(value.items())[:_LONGEST_LIST]}
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    text = value[: _LONGEST_TEXT + 1] if isinstance(value, str | bytes) else str(value)
    text = text.decode("utf-8", errors="backslashreplace") if isinstance(text, bytes) else text
    text = text.encode("utf-8", errors="backslashreplace").decode()  # half a surrogate pair, which JSON may hold
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
