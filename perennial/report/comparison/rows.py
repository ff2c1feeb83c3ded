"""The candidate beside the champion: metrics, differences, calibration and groups in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from perennial.report.formats import format_metric, format_number, format_p_value
from perennial.tasks import METRICS
from schemas.project import GateSettings
from schemas.records import (
    CANDIDATE,
    CHAMPION,
    OVERALL,
    SERVING_DISTRIBUTION,
    Calibration,
    Difference,
    EvaluatedTask,
    Evaluation,
    GroupTest,
    Mistake,
)

_RATES = ("error_rate", "false_positive_rate", "false_negative_rate")


@dataclass(frozen=True)
class MetricRow:
    """One metric of one task on one slice or view: both models and their difference."""

    task: str
    metric: str
    slice: str
    examples: int
    candidate: float | None
    champion: float | None
    difference: Difference | None
    view: bool = False


def metric_rows(evaluation: Evaluation) -> list[MetricRow]:
    """Gives all metrics by task and slice: overall, then views, then slices."""
    rows = [row for task in evaluation.tasks for row in _task_rows(evaluation, task)]
    known = [
        row for row in rows if (row.candidate, row.champion, row.difference) != (None, None, None)
    ]
    order = {task.name: number for number, task in enumerate(evaluation.tasks)}
    return sorted(known, key=lambda row: (order[row.task], row.slice != OVERALL, not row.view))


def worst_first(evaluation: Evaluation) -> list[Mistake]:
    """Sorts the candidate's mistakes: the most certain first, or of values those furthest off.

    What is not a number comes first of all.
    """

    def size(mistake: Mistake) -> float:
        value = (
            abs(mistake.predicted - mistake.label)
            if mistake.probability is None
            else mistake.probability
        )
        return math.inf if math.isnan(value) else value

    return sorted(evaluation.mistakes, key=size, reverse=True)


def deciding_slice(gate: GateSettings | None) -> str:
    """Gives the slice that the gate reads: all examples as they are, or as serving sees them."""
    return SERVING_DISTRIBUTION if gate and gate.distribution == "serving" else OVERALL


def decides(row: Difference, gate: GateSettings | None) -> bool:
    """Tells whether the gate reads this difference, if it is of the first task."""
    if gate is None:
        return False
    return (row.model, row.metric, row.slice) == (CANDIDATE, gate.metric, deciding_slice(gate))


def leading_slice(rows: Sequence[MetricRow], gate: GateSettings | None) -> str:
    """Gives the headline's slice: the deciding one where it was measured, else overall."""
    deciding = deciding_slice(gate)
    return deciding if any(row.slice == deciding for row in rows) else OVERALL


def other_instances(evaluation: Evaluation) -> list[Difference]:
    """Gives what the other instances gain over the champion, overall on the first task."""
    first = evaluation.tasks[0].name
    rows = (
        row for row in evaluation.differences if row.model != CANDIDATE and row.slice == OVERALL
    )
    return [row for row in rows if row.task == first]


def describe_intervals(rows: Sequence[Difference]) -> str:
    """Says how sure the intervals of these differences are; nothing where there is none."""
    rows = [row for row in rows if row.has_interval]
    if not rows:
        return ""
    sure = f"{100 * rows[0].confidence:.0f}%"
    overall = max((row.family for row in rows if row.slice == OVERALL), default=0)
    others = max((row.family for row in rows if row.slice != OVERALL), default=0)
    parts = [f"Intervals hold with {sure} confidence."]
    if overall == others > 1:
        parts.append(f"They are widened, so that all {overall} comparisons made hold together.")
    elif others > 1:
        parts.append(
            f"Those of slices and views are widened, so that all {others} of them hold together."
        )
        parts += [f"The overall one is widened for {overall} comparisons."] if overall > 1 else []
    elif overall > 1:
        parts.append(
            f"The overall one is widened, so that all {overall} comparisons made hold together."
        )
    groups = next((row.clusters for row in rows if row.clusters is not None), None)
    if groups is not None:
        drawn = "They come from drawing whole groups of examples again and again"
        parts.append(f"{drawn} ({groups:,} groups overall).")
    return " ".join(parts)


def describe_calibration(calibration: Calibration) -> str:
    """Says how far a model's confidence is from being right."""
    numbers = (calibration.error, calibration.low, calibration.high)
    error, low, high = (format_metric(value, "accuracy") for value in numbers)
    interval = f" [{low}, {high}]" if all(map(math.isfinite, numbers[1:])) else ""
    scaled = calibration.temperature
    softer = scaled is not None and scaled > 1
    temperature = (
        f" Its logits are divided by a temperature of {format_number(scaled)}, which makes it "
        f"{'less' if softer else 'more'} sure."
        if scaled is not None
        else ""
    )
    return f"expected calibration error {error}{interval}.{temperature}"


def describe_bias(calibration: Calibration) -> str:
    """Says whether a model is too sure of itself; nothing where there are no bins."""
    bins = [
        row
        for row in calibration.bins
        if math.isfinite(row.confidence) and math.isfinite(row.accuracy)
    ]
    examples = sum(row.examples for row in bins)
    if not examples:
        return ""
    sure = sum(row.confidence * row.examples for row in bins) / examples
    right = sum(row.accuracy * row.examples for row in bins) / examples
    if abs(sure - right) < 0.005:
        return "On average it is as sure as it is right."
    side = "too sure" if sure > right else "not sure enough"
    return f"On average it is {side}: {sure:.1%} sure, {right:.1%} right."


def flagged_first(tests: Sequence[GroupTest]) -> list[GroupTest]:
    """Sorts comparisons of groups: flagged ones first, then by the gap."""
    return sorted(
        tests, key=lambda test: (not test.flagged, not math.isfinite(test.gap), -test.gap)
    )


def format_measure(value: float, measure: str) -> str:
    """Writes a measure of a group: rates in percent, scores and errors as numbers."""
    return format_metric(value, "accuracy") if measure in _RATES else format_number(value)


def format_gap(test: GroupTest) -> str:
    """Writes how far a group is from the rest: rates in percentage points, else from 0 to 1."""
    if test.measure in _RATES and math.isfinite(test.gap):
        return f"{100 * test.gap:.1f} points"
    return format_number(test.gap)


def describe_group(test: GroupTest) -> str:
    """Says what a flagged comparison found: the group beside all other examples."""
    value, rest = format_measure(test.value, test.measure), format_measure(test.rest, test.measure)
    name = {"score": "score is on average", "absolute_error": "error is on average"}.get(
        test.measure, f"{test.measure.replace('_', ' ')} is"
    )
    chance = format_p_value(test.p_value)
    return f"{test.feature}={test.group}: the {name} {value}, {rest} for all others ({chance})"


def _task_rows(evaluation: Evaluation, task: EvaluatedTask) -> list[MetricRow]:
    compared = (CANDIDATE, CHAMPION)
    slices = {
        (row.model, row.slice): row
        for row in evaluation.slices
        if (row.task, row.model in compared) == (task.name, True)
    }
    gains = [
        row for row in evaluation.differences if (row.task, row.model) == (task.name, CANDIDATE)
    ]
    differences = {(row.metric, row.slice): row for row in gains}
    views = {row.slice for row in slices.values() if row.view} | {
        row.slice for row in gains if row.view
    }
    measured = (metric for row in slices.values() for metric in row.values)
    metrics = dict.fromkeys(
        [*METRICS[task.kind], *measured, *(metric for metric, _ in differences)]
    )
    names = dict.fromkeys(
        [OVERALL, *(name for _, name in slices), *(name for _, name in differences)]
    )
    rows = []
    for name in names:
        both = [slices.get((model, name)) for model in compared]
        for metric in metrics:
            difference = differences.get((metric, name))
            examples = max(
                (row.examples for row in both if row),
                default=difference.examples if difference else 0,
            )
            candidate, champion = (row.values.get(metric) if row else None for row in both)
            rows.append(
                MetricRow(
                    task.name,
                    metric,
                    name,
                    examples,
                    candidate,
                    champion,
                    difference,
                    name in views,
                )
            )
    return rows
