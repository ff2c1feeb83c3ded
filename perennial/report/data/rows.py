"""The spans that the run looked at, and their checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from perennial.report.facts import RunFacts
from schemas.records import Check, Span, SpanValidation


@dataclass(frozen=True)
class SpanRow:
    """A span of the window; `judged` is None where this run did not look into it."""

    span: Span
    new: bool
    judged: SpanValidation | None

    def count(self, verdict: str) -> int:
        """Counts the checks with a verdict: `warned` are those that failed and only warn."""
        if not self.judged:
            return 0
        counted = {"failed": self.judged.failures, "warned": self.judged.warnings}
        return len(
            counted.get(
                verdict, [check for check in self.judged.checks if check.verdict == verdict]
            )
        )

    @property
    def fate(self) -> str:
        """Says in a few words what became of the span in this run."""
        if self.judged and self.judged.unusable and not self.judged.new:
            return "left out"
        if not (self.judged and self.judged.new):
            return "known"
        if self.judged.quarantined:
            return "quarantined"
        return "released by a person" if self.judged.released else "accepted"


def span_rows(facts: RunFacts) -> list[SpanRow]:
    """Gives the spans that the run looked at, newest first."""
    judged = (
        {row.span.fingerprint: row for row in facts.validation.spans} if facts.validation else {}
    )
    window = facts.selection.window if facts.selection else [row.span for row in judged.values()]
    new = facts.selection.new_spans if facts.selection else []
    rows = [(span, judged.get(span.fingerprint)) for span in reversed(window)]
    return [SpanRow(span, row.new if row else span.name in new, row) for span, row in rows]


def label_counts(rows: Sequence[SpanRow]) -> dict[str, int]:
    """Counts examples by label, over the spans whose labels this run counted."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.judged.labels if row.judged else {})
    return dict(counts)


def group_checks(rows: Sequence[SpanRow], verdict: str) -> list[tuple[Check, list[str]]]:
    """Gives each check with a verdict once, with the names of the spans that had it.

    `warned` are those that failed and only warn.
    """
    groups: dict[Check, list[str]] = {}
    for row in rows:
        for check in row.judged.checks if row.judged else []:
            warned = check.verdict == "failed" and check.severity == "warn"
            if verdict == ("warned" if warned else check.verdict):
                groups.setdefault(check, []).append(row.span.name)
    return list(groups.items())
