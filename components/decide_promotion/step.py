"""The gate: a pure function from evaluations and settings to a decision."""

from __future__ import annotations

import math

from components.decide_promotion.criteria import (
    judge_against_champion,
    judge_covariates,
    judge_fairness,
    judge_floors,
    judge_former,
    judge_leaks,
    judge_newest_span,
    judge_slices,
    judge_trivial,
    list_first,
)
from perennial.tasks import metric_words
from schemas.project import GateSettings, Metric
from schemas.records import CANDIDATE, OVERALL, Criterion, Decision, Difference, Evaluation, Probing

_LISTED_SLICES = 10


def decide_promotion(
    evaluation: Evaluation, gate: GateSettings, probing: Probing | None = None
) -> Decision:
    """Decides whether the candidate replaces the champion, on the first task.

    Every blocking criterion must pass; the others warn. Without a champion the candidate must reach
    the floors and be better than the best constant answer, and the decision says so. A champion
    that could not be compared keeps its place: what was not compared never passes. Other tasks are
    measured, not judged, and the decision says so.

    Args:
        evaluation: Of the candidate and the champion on the same examples.
        gate: The criteria.
        probing: Probes of the candidate's suspect features; None: nothing was probed.
    """
    criteria = [*judge_floors(evaluation, gate), judge_trivial(evaluation, gate)]
    if evaluation.champion is not None:
        criteria += [
            judge_against_champion(evaluation, gate),
            *judge_former(evaluation, gate),
            *judge_slices(evaluation, gate),
        ]
    criteria += [
        *judge_newest_span(evaluation, gate),
        *judge_fairness(evaluation, gate),
        *judge_covariates(probing, gate),
        *judge_leaks(probing),
    ]
    promote = all(criterion.passed for criterion in criteria if criterion.blocking)
    return Decision(
        promote=promote,
        criteria=criteria,
        reasons=_reasons(promote, criteria, evaluation),
        not_compared=_not_compared(evaluation, gate, probing),
    )


def _reasons(promote: bool, criteria: list[Criterion], evaluation: Evaluation) -> list[str]:
    """Says what decided; what only warns is told with the run's other warnings."""
    if not promote:
        return [c.explanation for c in criteria if c.blocking and not c.passed]
    floors = [c.explanation for c in criteria if c.kind == "floor"]
    if evaluation.champion is None:
        return [
            "there was no champion: the first candidate that reaches the floors serves",
            *floors,
        ]
    compared = [c.explanation for c in criteria if c.kind == "difference"]
    return [*floors, *compared]


def _not_compared(evaluation: Evaluation, gate: GateSettings, probing: Probing | None) -> list[str]:
    first, *others = [task.name for task in evaluation.tasks]
    unread = [f"task `{name}` is measured, but the gate reads `{first}` only" for name in others]
    unset = [] if gate.floors else ["no floor is set (gate.floors)"]
    champion = evaluation.champion is not None
    slices = (
        ["slices are shown, but do not decide (gate.slice_loss is not set)"]
        if _slices_unread(evaluation, gate)
        else []
    )
    probed = probing.not_probed if probing is not None else []
    unmeasured = [row for row in evaluation.differences if champion and _unmeasured(row, first)]
    return [
        *evaluation.not_compared,
        *_undefined(evaluation),
        *probed,
        *unread,
        *unset,
        *slices,
        *_too_small(unmeasured),
    ]


def _undefined(evaluation: Evaluation) -> list[str]:
    """Lists the candidate's metrics that are not defined on the test split, with the reason."""
    several = len(evaluation.tasks) > 1
    return [
        f"{metric_words(metric)}{f' of task `{row.task}`' if several else ''} is not defined: the "
        f"test split holds {reason}"
        for row in evaluation.slices
        if (row.model, row.slice) == (CANDIDATE, OVERALL)
        for metric, reason in row.undefined.items()
    ]


def _slices_unread(evaluation: Evaluation, gate: GateSettings) -> bool:
    return gate.slice_loss is None and any(row.slice != OVERALL for row in evaluation.differences)


def _unmeasured(row: Difference, task: str) -> bool:
    no_interval = not (math.isfinite(row.low) and math.isfinite(row.high))
    return row.task == task and row.slice != OVERALL and row.model == CANDIDATE and no_interval


def _too_small(rows: list[Difference]) -> list[str]:
    """Lists slices without an interval, in one line for each reason: there may be hundreds."""
    undefined: dict[tuple[Metric, str], list[str]] = {}
    for row in rows:
        if not math.isfinite(row.value):
            undefined.setdefault((row.metric, row.reason), []).append(row.slice)
    lines = [
        f"{metric_words(metric)} is not defined on {_slices(names)}"
        + (f": each holds {reason}" if reason else "")
        for (metric, reason), names in undefined.items()
    ]
    small = [f"{row.slice} ({row.examples})" for row in rows if math.isfinite(row.value)]
    return lines + ([f"too few examples for an interval on {_slices(small)}"] if small else [])


def _slices(names: list[str]) -> str:
    """Counts slices, and names the first ten; the others stand in the evaluation."""
    return f"{len(names)} slice{'s' * (len(names) > 1)}: {list_first(names, _LISTED_SLICES)}"
