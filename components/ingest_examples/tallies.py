"""Counts from reading one part of a span, and from all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import pyarrow as pa

from perennial.data.examples import text_of
from perennial.errors import BrokenFileError, DataError
from perennial.readers.columns import Column, Kind, SeenKinds
from perennial.readers.convert import Conformed, kind_of
from perennial.readers.rows import Reason, Row
from schemas.records import Record

MOST_LABELS = 1000
"""With more different labels than these only rows are counted: they are no classes."""
_MOST_VALUES = 3  # shown of those that rows were set aside for


class Fault(Record):
    """The reason why a part could not be read to its end; `broken`: its contents are damaged."""

    where: str
    expected: str
    received: str
    remedy: str
    broken: bool

    def error(self) -> DataError:
        """Makes the error with the fault's message."""
        kind = BrokenFileError if self.broken else DataError
        return kind(self.where, self.expected, self.received, self.remedy)


class Tally(Record):
    """The result of reading one part. `labels` is None when there are too many.

    `first` is the first row set aside; `unfit` are some of the values of each cause.
    """

    part: int
    columns: list[str]
    rows: dict[str, int]
    labels: dict[str, int] | None
    labelled: int
    set_aside: int
    causes: dict[str, int]
    unfit: dict[str, list[str]]
    kinds: dict[str, list[Kind]]
    alone: list[str]
    first: str | None
    fault: Fault | None


class Counts:
    """Counts while a part is read; `known` are the columns of the schema."""

    def __init__(self, known: Iterable[str], label: str) -> None:
        self._known, self._label = frozenset(known), label
        self._columns: dict[str, None] = {}
        self._rows: Counter[str] = Counter()
        self._labels: Counter[str] = Counter()
        self._causes: Counter[str] = Counter()
        self._unfit: dict[str, dict[str, None]] = {}
        self._seen = SeenKinds()
        self._set_aside = self._labelled = 0
        self._first: str | None = None
        self.fault: Fault | None = None

    def see(self, row: Row, conformed: Conformed) -> None:
        """Counts a row before it is judged."""
        if row.reason is None and not row.values.keys() <= self._columns.keys():
            self._columns.update(dict.fromkeys(row.values))
        self._labelled += row.values.get(self._label) is not None
        for name in conformed.keys() - self._known:
            self._seen.see(name, kind_of(conformed[name]), not isinstance(conformed[name], list))

    def see_columns(self, names: Iterable[str], typed: Mapping[str, pa.Array], rows: int) -> None:
        """Counts rows that are all examples; `typed` are those of their columns with values."""
        self._columns.update(dict.fromkeys(names))
        self._labelled += rows
        for name in typed.keys() - self._known:
            several = pa.types.is_large_list(typed[name].type)
            items = typed[name].flatten() if several else typed[name]
            kind: Kind = "int" if pa.types.is_int64(items.type) else "float"
            kind = "bytes" if pa.types.is_large_binary(items.type) else kind
            self._seen.see(name, kind if len(items) else None, not several)

    def add_examples(self, splits: Mapping[str, int], labels: pa.Array) -> None:
        """Counts examples: how many each split gets, and their labels."""
        self._rows.update({split: count for split, count in splits.items() if count})
        if len(self._labels) <= MOST_LABELS:
            for item in labels.value_counts().to_pylist():
                self._labels[text_of(item["values"])] += item["counts"]

    def add_example(self, split: str, label: str) -> None:
        """Counts an example."""
        self._rows[split] += 1
        if len(self._labels) <= MOST_LABELS:
            self._labels[label] += 1

    def add_set_aside(self, place: str, reasons: list[Reason]) -> None:
        """Counts a row that was set aside."""
        self._set_aside += 1
        self._causes.update({reason.expected for reason in reasons})
        for reason in reasons:
            values = self._unfit.setdefault(reason.expected, {})
            if reason.of_value and len(values) <= _MOST_VALUES:
                values[reason.received] = None
        self._first = self._first or f"{place}: {reasons[0]}"

    def tally(self, part: int) -> Tally:
        """Gives the counts."""
        return Tally(
            part=part,
            columns=list(self._columns),
            rows=dict(self._rows),
            labels=dict(self._labels) if len(self._labels) <= MOST_LABELS else None,
            labelled=self._labelled,
            set_aside=self._set_aside,
            causes=dict(self._causes),
            unfit={cause: list(values) for cause, values in self._unfit.items() if values},
            kinds={name: sorted(kinds) for name, kinds in self._seen.kinds.items()},
            alone=sorted(self._seen.alone),
            first=self._first,
            fault=self.fault,
        )


class Total:
    """The tallies of all parts, added up."""

    def __init__(self, tallies: Iterable[Tally]) -> None:
        self._tallies = sorted(tallies, key=lambda tally: tally.part)

    @property
    def rows(self) -> Counter[str]:
        """Counts examples per split."""
        return _add(tally.rows for tally in self._tallies)

    @property
    def labels(self) -> dict[str, int]:
        """Counts examples per label, numeric ones in order; empty when labels are too many."""
        if any(tally.labels is None for tally in self._tallies):
            return {}
        total = _add(tally.labels or {} for tally in self._tallies)
        if len(total) > MOST_LABELS:
            return {}
        return dict(
            sorted(total.items(), key=lambda item: (not item[0].isdecimal(), len(item[0]), item[0]))
        )

    @property
    def causes(self) -> dict[str, int]:
        """Counts rows set aside per reason, the most frequent first.

        A reason is told in general terms, with some of the values that it is about.
        """
        counts = _add(tally.causes for tally in self._tallies).most_common()
        return {f"{cause}{self._show_unfit(cause)}": rows for cause, rows in counts}

    def _show_unfit(self, cause: str) -> str:
        values = list(
            dict.fromkeys(value for tally in self._tallies for value in tally.unfit.get(cause, []))
        )
        more = ", …" if len(values) > _MOST_VALUES else ""
        return f", not {', '.join(values[:_MOST_VALUES])}{more}" if values else ""

    @property
    def set_aside(self) -> int:
        """Counts rows set aside."""
        return sum(tally.set_aside for tally in self._tallies)

    @property
    def labelled(self) -> int:
        """Counts rows that have any label."""
        return sum(tally.labelled for tally in self._tallies)

    @property
    def columns(self) -> list[str]:
        """Gives the columns in the order in which they appeared."""
        return list(dict.fromkeys(name for tally in self._tallies for name in tally.columns))

    @property
    def fault(self) -> Fault | None:
        """Gives the first fault; one of reading comes before one of the data."""
        faults = [tally.fault for tally in self._tallies if tally.fault]
        return min(faults, key=lambda fault: fault.broken, default=None)

    @property
    def first(self) -> str | None:
        """Gives the first row set aside, with its place and reason."""
        return next((tally.first for tally in self._tallies if tally.first), None)

    def mixed(self) -> dict[str, Column]:
        """Gives columns outside the schema with mixed values, and the kind that holds them all."""
        seen = SeenKinds()
        for tally in self._tallies:
            for name, kinds in tally.kinds.items():
                for kind in kinds:
                    seen.see(name, kind, name in tally.alone)
        return {name: column for name, column in seen.columns().items() if column.mixed}


def _add(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return total
