"""The criteria of the decision, with their numbers as a person writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from perennial.report.formats import format_change, format_metric, format_number, unit_of
from perennial.tasks import LOWER_IS_BETTER, metric_words
from schemas.project import GateSettings, Metric
from schemas.records import Criterion, Decision

Verdict = Literal["passed", "failed", "warns", "not compared"]
# What must be seen first stands first.
_ORDER: tuple[Verdict, ...] = ("failed", "not compared", "warns", "passed")
# Their numbers are differences: from the champion, the best constant answer, or the older spans.
_CHANGES = ("difference", "slice", "trivial", "former", "newest_span")


@dataclass(frozen=True)
class CriterionRow:
    """A criterion of the gate with its numbers as a person writes them; what it lacks is empty."""

    name: str
    verdict: Verdict
    value: str
    interval: str
    limit: str
    why: str
    blocking: bool


def criterion_rows(decision: Decision, gate: GateSettings | None) -> list[CriterionRow]:
    """Gives the criteria of a decision, those that did not pass first."""
    rows = [_criterion_row(criterion, gate) for criterion in decision.criteria]
    return sorted(rows, key=lambda row: (_ORDER.index(row.verdict), not row.blocking))


def verdict_of(criterion: Criterion) -> Verdict:
    """Gives the verdict on a criterion: one that does not block only warns."""
    if not criterion.compared:
        return "not compared"
    if criterion.passed:
        return "passed"
    return "failed" if criterion.blocking else "warns"


def why_failed(criterion: Criterion, gate: GateSettings | None) -> str | None:
    """Says in short why a criterion keeps the champion; None where its numbers do not tell."""
    metric = _metric_of(criterion, gate)
    value, limit = (
        _write(criterion, criterion.value, gate),
        _write(criterion, criterion.limit, gate),
    )
    if not (criterion.compared and gate and metric and value):
        return None
    if criterion.kind == "floor" and limit:
        missed = "above the limit of" if metric in LOWER_IS_BETTER else "below the floor of"
        return f"{criterion.name} is {value}, {missed} {limit}"
    measured = f"{value} {unit_of(metric)}".strip()
    if criterion.kind == "slice":
        place, lost = (
            criterion.name.removeprefix("slice "),
            f"{measured.lstrip('−+')} of {metric_words(metric)}",
        )
        return f"on {place} the candidate loses {lost}, and {limit.lstrip('−+')} is tolerated"
    if criterion.kind == "trivial":
        return (
            "the candidate is not shown to be better than the best constant answer "
            f"({metric_words(metric)} {measured})"
        )
    if criterion.kind == "difference":
        required = "be better" if gate.mode == "better" else "be good enough"
        return f"the candidate is not shown to {required} ({metric_words(metric)} {measured})"
    return None


def _criterion_row(criterion: Criterion, gate: GateSettings | None) -> CriterionRow:
    ends = [criterion.low, criterion.high]
    shown = [_write(criterion, end, gate) for end in ends if end is not None and math.isfinite(end)]
    confidence = f" at {100 * criterion.confidence:.0f}%" if criterion.confidence else ""
    unit = unit_of(_metric_of(criterion, gate) or "") if criterion.kind in _CHANGES else ""
    value = _write(criterion, criterion.value, gate)
    return CriterionRow(
        name=criterion.name,
        verdict=verdict_of(criterion),
        value=f"{value} {unit}".strip() if value else "",
        interval=f"[{', '.join(shown)}]{confidence}" if len(shown) == len(ends) else "",
        limit=_limit(criterion, gate),
        why=criterion.explanation,
        blocking=criterion.blocking,
    )


def _limit(criterion: Criterion, gate: GateSettings | None) -> str:
    """Writes what was required, as `at least 70.0%`."""
    limit, metric = _write(criterion, criterion.limit, gate), _metric_of(criterion, gate)
    if not limit:
        return ""
    if criterion.kind in _CHANGES:
        return (
            "above 0" if criterion.kind != "slice" and not criterion.limit else f"at least {limit}"
        )
    if criterion.kind == "floor" and metric is None:
        return limit  # an older record, which does not say whether more is better
    return (
        f"at least {limit}"
        if criterion.kind == "floor" and metric not in LOWER_IS_BETTER
        else f"at most {limit}"
    )


def _write(criterion: Criterion, value: float | None, gate: GateSettings | None) -> str:
    """Writes a number of a criterion in the unit of what it measures."""
    if value is None:
        return ""
    metric = _metric_of(criterion, gate)
    if metric is None:
        return format_number(value)
    return (
        format_change(value, metric) if criterion.kind in _CHANGES else format_metric(value, metric)
    )


def _metric_of(criterion: Criterion, gate: GateSettings | None) -> Metric | None:
    """Gives the criterion's metric; in older records, that of differences is the gate's."""
    if criterion.metric is None and criterion.kind in _CHANGES and gate:
        return gate.metric
    return criterion.metric
