"""Spans that hold numbers and text in the same column, so that no schema fits both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from components.ingest_examples.sources import open_source
from perennial.errors import DataError
from perennial.project import Project
from perennial.readers.convert import Conformer, kind_of
from perennial.readers.read import read_rows
from perennial.readers.rows import shorten
from perennial.schema.inference import Seen
from schemas.records import Span


class _Texts(NamedTuple):
    """The texts among the values of a column: how many, of how many, and where the first is."""

    texts: int
    values: int
    first: str


def find_disagreement(
    project: Project, spans: Sequence[Span], seen: Sequence[Mapping[str, Seen]]
) -> DataError | None:
    """Finds a column that holds numbers in one span and text in another.

    The error names the span with the fewest texts, and the first of them with its row. None: there
    is no such column.

    Args:
        project: The project.
        spans: The spans.
        seen: What was seen of the features of each.
    """
    from tensorflow_metadata.proto.v0 import schema_pb2

    for name in dict.fromkeys(name for features in seen for name in features):
        with_text, with_numbers = list[Span](), list[Span]()
        for span, features in zip(spans, seen, strict=True):
            if name in features:
                is_text = features[name].type == schema_pb2.BYTES
                (with_text if is_text else with_numbers).append(span)
        if not with_text or not with_numbers:
            continue
        counted = {span.name: _count_texts(project, span, name) for span in with_text}
        odd = min(counted, key=lambda span: counted[span].texts)
        texts = counted[odd]
        return DataError(
            f"column `{name}`",
            "must hold numbers in every span, or text in every span",
            f"numbers in span {with_numbers[0].name}, and text in {texts.texts} of {texts.values} "
            f"values of span {odd}, the first at {texts.first}",
            "Correct it and land it again, name such a word in data.missing, or name the spans to "
            "infer from with --span.",
        )
    return None


def _count_texts(project: Project, span: Span, name: str) -> _Texts:
    largest = project.settings.data.max_value_mb
    conformer = Conformer({}, largest, guess=True)
    kinds: Counter[bool] = Counter()
    first = ""
    for part in open_source(project, span, [name]).parts:
        for row in read_rows(part, largest):
            values, _ = conformer.conform({name: row.values.get(name)})
            if name in values:
                is_text = kind_of(values[name]) == "bytes"
                kinds[is_text] += 1
                if is_text and not first:
                    first = f"{part.place(row.number)}: {shorten(row.values[name])}"
    return _Texts(kinds[True], kinds.total(), first)
