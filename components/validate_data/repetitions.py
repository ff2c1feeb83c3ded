"""Rows that several spans of a window have: told of each new span, and counted once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from components.validate_data.counted_once import leave_out
from components.validate_data.duplicates import Repetition, check_duplicates, not_compared
from components.validate_data.gather import Measured
from components.validate_data.shared_keys import SharedKeys
from perennial.data.row_keys import read_row_keys
from perennial.project import Project
from perennial.schema.inference import features_of
from schemas.records import Check


class Repetitions:
    """The rows that more than one span of a window has.

    Args:
        project: Names the key, and says what becomes of such rows.
        spans: The spans of the window, oldest first; a span's number is its place here.
        scratch: A folder to work in.
        known_rows: Digests of the rows of spans that are not in the window, each with the name of
            its span.
    """

    def __init__(
        self,
        project: Project,
        spans: Sequence[Measured],
        scratch: Path,
        known_rows: Mapping[str, str],
    ) -> None:
        self._project, self._spans, self._scratch = project, spans, scratch
        self._known_rows = known_rows
        self._shared = SharedKeys([span.checked for span in spans], scratch)

    def check(self, number: int, others: Collection[int]) -> Check:
        """Makes the check of a span against others."""
        settings, span = self._project.settings, self._spans[number]
        key, severity = settings.data.key, settings.checks.duplicates
        copy_of = span.record.span.same_as
        rows_of = self._find_known(span)
        reason = self._obstacle(span, others)
        if reason is not None and copy_of is None and rows_of is None:
            return not_compared(key, reason, severity)
        overlap = self._shared.overlap(number, others)
        names = [other.name for other in self._spans]
        repetition = Repetition(
            span_rows=sum(span.record.rows.values()),
            rows={names[other]: count for other, count in overlap.rows.items()},
            same={names[other]: count for other, count in overlap.same.items()},
            copy_of=copy_of,
            rows_of=rows_of,
        )
        limit = settings.checks.set_aside
        return check_duplicates(key, repetition, settings.data.duplicates, limit, severity)

    def count_once(self, good: Collection[int]) -> dict[int, Measured]:
        """Leaves the rows of good spans out that another of them counts; gives what changed."""
        policy = self._project.settings.data.duplicates
        if policy == "keep" or self._key_is_decimal():
            return {}
        surplus = self._shared.surplus(good, "oldest" if policy == "set_aside" else "newest")
        names = [span.name for span in self._spans]
        folder = self._scratch / "counted"
        return {
            number: leave_out(
                self._project, self._spans[number], keys, names, folder / names[number]
            )
            for number, keys in surplus.items()
        }

    def _find_known(self, span: Measured) -> str | None:
        """Names the span that had the same rows and is not in the window."""
        digest = span.rows_digest
        name = None if digest is None else self._known_rows.get(digest)
        return name if name != span.name else None

    def _obstacle(self, span: Measured, others: Collection[int]) -> str | None:
        """Says why a span cannot be compared with others."""
        if not others:
            return "there is no other span in the window"
        if len(read_row_keys(span.checked)) != sum(span.record.rows.values()):
            return "the keys of its rows were not kept"
        if self._key_is_decimal():
            return "its key is a decimal number, which is not exact"
        return None

    def _key_is_decimal(self) -> bool:
        from tensorflow_metadata.proto.v0 import schema_pb2

        key = features_of(self._project.schema).get(self._project.settings.data.key)
        return key is not None and key.type == schema_pb2.FLOAT
