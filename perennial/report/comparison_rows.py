"""The judgement in rows and words: criteria, differences, groups, calibration, what the answers rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from perennial.report.formats import format_change, format_metric, format_number, format_p_value, unit_of
from perennial.report.tables import MetricRow
from perennial.tasks import LOWER_IS_BETTER, metric_words
from schemas.project import GateSettings
from schemas.records import (
    Calibration,
    CovariateProbe,
    Criterion,
    Decision,
    Difference,
    Evaluation,
    GroupTest,
    Probing,
)

OVERALL, SERVING = "overall", "serving distribution"
Verdict = Literal["passed", "failed", "warns", "not compared"]
# What must be seen first stands first.
_ORDER: tuple[Verdict, ...] = ("failed", "not compared", "warns", "passed")
_RATES = ("error_rate", "false_positive_rate", "false_negative_rate")


@dataclass(frozen=True)
class CriterionRow:
    """A criterion of the gate with its numbers as a person writes them; what it does not have is empty."""

    name: str
    verdict: Verdict
    value: str
    interval: str
    limit: str
    why: str
    blocking: bool


def criterion_rows(decision: Decision, gate: GateSettings | None) -> list[CriterionRow]:
    """The criteria of a decision, those that did not pass first."""
    rows = [_criterion_row(criterion, gate) for criterion in decision.criteria]
    return sorted(rows, key=lambda row: (_ORDER.index(row.verdict), not row.blocking))


def verdict_of(criterion: Criterion) -> Verdict:
    """What became of a criterion: what was not compared did not pass, and what does not block only warns."""
    if not criterion.compared:
        return "not compared"
    if criterion.passed:
        return "passed"
    return "failed" if criterion.blocking else "warns"


def why_failed(criterion: Criterion, gate: GateSettings | None) -> str | None:
    """Why a criterion keeps the champion, short enough for a headline; None where its numbers do not tell."""
    value, limit = _write(criterion, criterion.value, gate), _write(criterion, criterion.limit, gate)
    if not (criterion.compared and gate and value):
        return None
    measured = f"{value} {unit_of(gate.metric)}".strip()
    if criterion.kind == "floor" and limit:
        return f"{criterion.name} is {value}, and the floor is {limit}"
    if criterion.kind == "slice":
        place, lost = criterion.name.removeprefix("slice "), f"{measured.lstrip('−+')} of {metric_words(gate.metric)}"
        return f"on {place} the candidate loses {lost}, and {limit.lstrip('−+')} is tolerated"
    if criterion.kind == "difference":
        wanted = "be better" if gate.mode == "better" else "be good enough"
        return f"the candidate is not shown to {wanted} ({metric_words(gate.metric)} {measured})"
    return None


def deciding_slice(gate: GateSettings | None) -> str:
    """What the gate reads: all test examples as they are, or as serving sees them."""
    return SERVING if gate and gate.distribution == "serving" else OVERALL


def decides(row: Difference, gate: GateSettings | None) -> bool:
    """Whether the gate reads this difference (of the first task) against the champion."""
    wanted = ("candidate", gate.metric, deciding_slice(gate)) if gate else None
    return (row.model, row.metric, row.slice) == wanted


def leading_slice(rows: Sequence[MetricRow], gate: GateSettings | None) -> str:
    """The slice that the headline tells: the deciding one where it was measured, else overall."""
    wanted = deciding_slice(gate)
    return wanted if any(row.slice == wanted for row in rows) else OVERALL


def other_instances(evaluation: Evaluation) -> list[Difference]:
    """Overall differences of the first task between the champion and instances that are not the candidate."""
    first = evaluation.tasks[0].name
    rows = (row for row in evaluation.differences if row.model != "candidate" and row.slice == OVERALL)
    return [row for row in rows if row.task == first]


def has_interval(row: Difference) -> bool:
    """Whether a difference and its interval are numbers."""
    return all(map(math.isfinite, (row.value, row.low, row.high)))


def describe_intervals(rows: Sequence[Difference]) -> str:
    """How sure the intervals of these differences are, in plain words; empty where there is none."""
    told = [row for row in rows if has_interval(row)]
    if not told:
        return ""
    sure = f"{100 * told[0].confidence:.0f}%"
    overall = max((row.family for row in told if row.slice == OVERALL), default=0)
    others = max((row.family for row in told if row.slice != OVERALL), default=0)
    parts = [f"Intervals hold with {sure} confidence."]
    if overall == others > 1:
        parts.append(f"They are widened, so that all {overall} comparisons made hold together.")
    elif others > 1:
        parts.append(f"Those of slices and views are widened, so that all {others} of them hold together.")
        parts += [f"The overall one is widened for {overall} comparisons."] if overall > 1 else []
    elif overall > 1:
        parts.append(f"The overall one is widened, so that all {overall} comparisons made hold together.")
    groups = next((row.clusters for row in told if row.clusters is not None), None)
    if groups is not None:
        parts.append(f"They come from drawing whole groups of examples again and again ({groups:,} groups overall).")
    return " ".join(parts)


def describe_calibration(found: Calibration) -> str:
    """How far a model's confidence is from being right, in a sentence."""
    error, low, high = (format_metric(value, "accuracy") for value in (found.error, found.low, found.high))
    interval = f" [{low}, {high}]" if math.isfinite(found.low) and math.isfinite(found.high) else ""
    scaled = found.temperature
    softer = scaled is not None and scaled > 1
    temperature = (
        f" Its logits are divided by a temperature of {format_number(scaled)}, which makes it "
        f"{'less' if softer else 'more'} sure."
        if scaled is not None
        else ""
    )
    return f"expected calibration error {error}{interval}.{temperature}"


def describe_bias(found: Calibration) -> str:
    """Whether a model is too sure of itself: its mean confidence beside how often it is right; empty without bins."""
    told = [row for row in found.bins if math.isfinite(row.confidence) and math.isfinite(row.accuracy)]
    examples = sum(row.examples for row in told)
    if not examples:
        return ""
    sure = sum(row.confidence * row.examples for row in told) / examples
    right = sum(row.accuracy * row.examples for row in told) / examples
    if abs(sure - right) < 0.005:
        return "On average it is as sure as it is right."
    side = "too sure" if sure > right else "not sure enough"
    return f"On average it is {side}: {sure:.1%} sure, {right:.1%} right."


def flagged_first(tests: Sequence[GroupTest]) -> list[GroupTest]:
    """Comparisons of groups: flagged ones first, then the largest gap."""
    return sorted(tests, key=lambda test: (not test.flagged, not math.isfinite(test.gap), -test.gap))


def format_measure(value: float, measure: str) -> str:
    """A measure of a group: rates in percent, scores and errors as numbers."""
    return format_metric(value, "accuracy") if measure in _RATES else format_number(value)


def format_gap(test: GroupTest) -> str:
    """How far a group is from the rest: rates in percentage points, distributions from 0 to 1."""
    if test.measure in _RATES and math.isfinite(test.gap):
        return f"{100 * test.gap:.1f} points"
    return format_number(test.gap)


def describe_group(test: GroupTest) -> str:
    """A flagged comparison of a group with all other examples, in a sentence."""
    value, rest = format_measure(test.value, test.measure), format_measure(test.rest, test.measure)
    name = {"score": "score is on average", "absolute_error": "error is on average"}.get(
        test.measure, f"{test.measure.replace('_', ' ')} is"
    )
    return f"{test.feature}={test.group}: the {name} {value}, {rest} for all others ({format_p_value(test.p_value)})"


def suspects(probing: Probing) -> list[str]:
    """The suspect features, those that the answers rest on first."""
    flagged = {probe.feature for probe in probing.covariates if probe.flagged}
    names = dict.fromkeys(probe.feature for probe in probing.covariates)
    return sorted(names, key=lambda name: name not in flagged)


def flagged_suspects(probing: Probing) -> list[str]:
    """The suspect features that a probe found in the model."""
    return [name for name in suspects(probing) if any(p.flagged for p in probing.covariates if p.feature == name)]


def flagged_probes_first(probing: Probing) -> list[CovariateProbe]:
    """All probes, those of features that were found first."""
    order = suspects(probing)
    return sorted(probing.covariates, key=lambda probe: (order.index(probe.feature), not probe.flagged))


def describe_probe(probe: CovariateProbe) -> str:
    """What a probe means, in words."""
    if probe.probe == "latent":
        if probe.flagged:
            return "the latent vector tells it, beyond what the label explains"
        beyond = probe.value > probe.chance + 2 * probe.spread
        return "the latent vector tells it, but that alone does not decide" if beyond else "not told beyond chance"
    done = "shuffled" if probe.probe == "permute" else "turned into its opposite"
    return (
        f"answers get worse with it {done}" if probe.flagged else f"answers do not change beyond chance with it {done}"
    )


def probed_in_words(probing: Probing) -> str | None:
    """What was probed, in a few words; None where nothing was."""
    features, flagged = suspects(probing), flagged_suspects(probing)
    if features:
        return f"{len(flagged)} of {len(features)} suspect{'' if len(features) == 1 else 's'} found"
    explained = len(probing.importances) or len(probing.attributions)
    return f"{explained} feature{'' if explained == 1 else 's'} explained" if explained else None


def by_pixel(elements: Sequence[float], shape: Sequence[int]) -> bool:
    """Whether the elements of a feature are those of an image or matrix of one channel."""
    plane = len(shape) == 2 or (len(shape) == 3 and shape[2] == 1)
    return plane and min(shape) > 0 and shape[0] * shape[1] == len(elements)


def per_cost(contribution: float, cost: float | None, metric: str) -> str:
    """Contribution for each unit of cost, accuracy in points; a dash for what costs nothing or has no known cost."""
    if not cost:
        return "–"
    return format_number((100 if metric == "accuracy" else 1) * contribution / cost)


def _criterion_row(criterion: Criterion, gate: GateSettings | None) -> CriterionRow:
    ends = [criterion.low, criterion.high]
    shown = [_write(criterion, end, gate) for end in ends if end is not None and math.isfinite(end)]
    sure = f" at {100 * criterion.confidence:.0f}%" if criterion.confidence else ""
    metric = gate.metric if gate else ""
    unit = unit_of(metric) if criterion.kind in ("difference", "slice") else ""
    value = _write(criterion, criterion.value, gate)
    return CriterionRow(
        name=criterion.name,
        verdict=verdict_of(criterion),
        value=f"{value} {unit}".strip() if value else "",
        interval=f"[{', '.join(shown)}]{sure}" if len(shown) == len(ends) else "",
        limit=_limit(criterion, gate),
        why=criterion.explanation,
        blocking=criterion.blocking,
    )


def _limit(criterion: Criterion, gate: GateSettings | None) -> str:
    """What was asked for, as `at least 70.0%`."""
    limit = _write(criterion, criterion.limit, gate)
    if not limit:
        return ""
    if criterion.kind == "floor":
        return f"at most {limit}" if _metric_of(criterion, gate) in LOWER_IS_BETTER else f"at least {limit}"
    if criterion.kind == "difference" and not criterion.limit:
        return "above 0"
    return f"at least {limit}" if criterion.kind in ("difference", "slice") else f"at most {limit}"


def _write(criterion: Criterion, value: float | None, gate: GateSettings | None) -> str:
    """A number of a criterion in the unit of what it measures: of differences the gate's metric."""
    if value is None:
        return ""
    if criterion.kind in ("difference", "slice") and gate:
        return format_change(value, gate.metric)
    metric = _metric_of(criterion, gate)
    return format_metric(value, metric) if metric else format_number(value)


def _metric_of(criterion: Criterion, gate: GateSettings | None) -> str | None:
    """The metric of a floor, which its name tells."""
    if criterion.kind != "floor" or gate is None:
        return None
    return next((name for name in (*gate.floors, gate.metric) if criterion.name.endswith(metric_words(name))), None)
