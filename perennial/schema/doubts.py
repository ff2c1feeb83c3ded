"""Doubts that inference has of a column: a person may know better what its values are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from perennial.schema.description import printable
from perennial.schema.inference import features_of, statistics_of
from schemas.records import ColumnCounts, InferredColumns

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

_MOSTLY = 0.9  # share of numbers from which the other values are doubted
_MOST_WORDS = 5
_SHOWN = 3


def describe_doubts(spans: Sequence[InferredColumns]) -> list[str]:
    """Describes each doubt in one line: what was seen, and what could be set or landed instead."""
    names = dict.fromkeys(name for span in spans for name in span.columns)
    return [
        printable(f"`{name}`: {doubt}")
        for name in names
        for doubt in _doubts(_add([span.columns[name] for span in spans if name in span.columns]))
    ]


def describe_label(
    schema: Schema, statistics: DatasetFeatureStatisticsList, label: str
) -> list[str]:
    """Describes a label whose classes do not count from 0, as the tasks need them."""
    feature = features_of(schema).get(label)
    if feature is None or not feature.int_domain.is_categorical:
        return []
    numbers = statistics_of(statistics)[label].num_stats
    low, high = int(numbers.min), int(numbers.max)
    if low <= 0:
        return []
    classes = f"{high - low + 1} classes, {low} to {high}"
    return [
        f"`{label}`: {classes}, and classes count from 0: land it as 0 to {high - low}, "
        f"or the model gets {high + 1} classes of which the first never occurs"
    ]


def describe_line_breaks(schema: Schema) -> list[str]:
    """Describes each category with values that a vocabulary, a file of lines, cannot hold."""
    named = {domain.name: list(domain.value) for domain in schema.string_domain}
    lines = []
    for feature in schema.feature:
        values = with_line_breaks(named.get(feature.domain, []))
        if feature.HasField("domain") and values:
            lines.append(f"`{feature.name}`: {describe_left_out(values)}")
    return lines


def with_line_breaks(values: Iterable[str]) -> list[str]:
    """Chooses the values that a vocabulary, a file of lines, cannot hold."""
    return [value for value in values if "\n" in value or "\r" in value]


def describe_left_out(values: Sequence[str]) -> str:
    """Describes what becomes of values with line breaks, and what to do."""
    return printable(
        "a vocabulary of TensorFlow Transform leaves out values with line breaks, such as "
        f"{_show(dict.fromkeys(values, 1))}. Does the model need them? Then land them without, or "
        "hash them (features.hashed)"
    )


def _add(counts: Sequence[ColumnCounts]) -> ColumnCounts:
    def total(field: str) -> dict[str, int]:
        merged: Counter[str] = Counter()
        for each in counts:
            merged.update(getattr(each, field))
        return dict(merged)

    return ColumnCounts(
        numbers=sum(each.numbers for each in counts),
        codes=total("codes"),
        separated=total("separated"),
        decimal_commas=total("decimal_commas"),
        words=total("words"),
    )


def _doubts(counts: ColumnCounts) -> Iterator[str]:
    codes, separated, decimal, words = (
        sum(texts.values())
        for texts in (counts.codes, counts.separated, counts.decimal_commas, counts.words)
    )
    numbers = counts.numbers + separated + decimal
    total = numbers + codes + words
    if words and "" not in counts.words and len(counts.words) <= _MOST_WORDS:
        if numbers >= _MOSTLY * total:
            others = "the other is" if words == 1 else "the others are"
            listed = ", ".join(f'"{word}"' for word in counts.words)
            yield (
                f"{numbers} of {total} values are numbers; {others} {_show(counts.words)}, so it "
                f"is text. Is that no value? Then set `data.missing: [{listed}]` in project.yaml, "
                "and infer again"
            )
    elif words:
        return
    if decimal and numbers + words >= _MOSTLY * total:
        yield (
            f"{decimal + separated} of {total} values are numbers with a decimal comma, such as "
            f"{_show(counts.decimal_commas)}, so it is text. Is it a number? Then land it with a "
            "point, as 1.5, and without separators of thousands"
        )
    elif separated and numbers + words >= _MOSTLY * total:
        yield (
            f"{separated} of {total} values are numbers with separators, such as "
            f"{_show(counts.separated)}, so it is text. Is it a number? Then land it as 1234.5"
        )
    if codes and not words and not separated and not decimal:
        yield (
            f"{codes} of {total} values would not survive as numbers, such as "
            f"{_show(counts.codes)}, so it is text. Is it a number? Then say so in schema.pbtxt"
        )


def _show(texts: dict[str, int]) -> str:
    shown = [f"`{text}`" for text in texts if text][:_SHOWN]
    return ", ".join(shown) + (", …" if len(texts) > _SHOWN else "")
