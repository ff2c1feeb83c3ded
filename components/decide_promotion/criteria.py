"""The criteria of the gate: each says what was measured, what it was held against, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence

from perennial.tasks import LOWER_IS_BETTER, metric_words
from schemas.project import GateSettings, Metric
from schemas.records import CovariateProbe, Criterion, Difference, Evaluation, GroupTest, Probing

SERVING = "serving distribution"
_OVERALL = "overall"
_LEAST_SHOWN = 0.00005
# More than these are counted, not listed.
_LISTED = 3


def judge_floors(evaluation: Evaluation, gate: GateSettings) -> list[Criterion]:
    """Each hard floor of the candidate; the primary metric must be a number, also where it has no floor."""
    metrics = dict.fromkeys([gate.metric, *gate.floors])
    return [_floor(evaluation, metric, gate.floors.get(metric)) for metric in metrics]


def judge_against_champion(evaluation: Evaluation, gate: GateSettings) -> Criterion:
    """The primary metric's difference: `better` is an interval above zero, `not_worse` one that reaches to -margin."""
    assert evaluation.champion is not None
    name = f"against champion version {evaluation.champion.version}"
    found = _deciding_difference(evaluation, gate)
    limit = 0.0 if gate.mode == "better" else -gate.margin
    if found is None or not _has_interval(found):
        why = "; ".join(evaluation.not_compared) or "the difference could not be measured"
        return Criterion(name=name, passed=False, compared=False, limit=limit, explanation=f"not compared: {why}")
    passed = found.low > limit if gate.mode == "better" else found.low >= limit
    return _of_difference(name, found, passed, limit, _explain(found, gate, limit, passed))


def judge_slices(evaluation: Evaluation, gate: GateSettings) -> list[Criterion]:
    """No slice or view may lose more than is tolerated: the slices that do, or one criterion that none does.

    A slice fails when it lost more than `gate.slice_loss` and its interval, widened for the number of slices, lies
    below zero: both matter, so that neither noise on a small slice nor a trifle on a large one keeps the champion.
    """
    if gate.slice_loss is None:
        return []
    first, limit = evaluation.tasks[0].name, -gate.slice_loss
    rows = [row for row in evaluation.differences if _is_slice(row, first, gate.metric)]
    told = [row for row in rows if _has_interval(row)]
    lost = sorted((row for row in told if row.value < limit and row.high < 0), key=lambda row: row.value)
    if not told:
        return [] if not rows else [_none_told(len(rows), limit)]
    if lost:
        return [_of_difference(f"slice {row.slice}", row, False, limit, _lost(row, limit), "slice") for row in lost]
    worst = min(told, key=lambda row: row.value)
    doubt = sum(row.low < limit for row in told)
    unsure = f"; for {doubt} of them such a loss cannot be ruled out" if doubt else ""
    said = (
        f"none of {len(told)} slices is shown to lose more than {_show(gate.slice_loss)} of {metric_words(gate.metric)}"
    )
    found = _of_difference(
        "slices", worst, True, limit, f"{said} (most: {worst.slice}, {_show(worst.value, '+')}){unsure}"
    )
    return [found.model_copy(update={"kind": "slice"})]


def judge_fairness(evaluation: Evaluation, gate: GateSettings) -> list[Criterion]:
    """Whether the candidate treats the groups of the named features alike; nothing where none is named."""
    fairness = evaluation.fairness
    if fairness is None:
        return []
    blocking = gate.fairness == "block"
    if not fairness.tests:
        said = "groups could not be compared: each has too few examples"
        return [
            Criterion(
                name="fairness", kind="fairness", passed=False, compared=False, blocking=blocking, explanation=said
            )
        ]
    flagged = sorted(fairness.flagged, key=lambda test: -test.gap)
    said = f"{len(fairness.tests)} comparisons of groups found no difference that matters"
    if flagged:
        said = f"groups differ: {list_first([_group(test) for test in flagged])}"
    return [Criterion(name="fairness", kind="fairness", passed=not flagged, blocking=blocking, explanation=said)]


def judge_covariates(probing: Probing | None, gate: GateSettings) -> list[Criterion]:
    """Whether the candidate learned a suspect feature; nothing where none is named.

    A suspect feature that could not be probed is a criterion that did not pass.
    """
    if probing is None or not probing.suspects:
        return []
    blocking, name = gate.covariates == "block", "hidden covariates"
    features = list(dict.fromkeys(probe.feature for probe in probing.covariates))
    flagged = list(dict.fromkeys(probe.feature for probe in probing.covariates if probe.flagged))
    criteria = []
    if features:
        said = f"the answers do not rest on {list_first([f'`{name}`' for name in features])} more than by chance"
        if flagged:
            said = f"the answers rest on {list_first([_covariate(feature, probing.covariates) for feature in flagged])}"
        criteria = [Criterion(name=name, kind="covariate", passed=not flagged, blocking=blocking, explanation=said)]
    if unseen := [feature for feature in probing.suspects if feature not in features]:
        said = f"not compared: {list_first([f'`{feature}`' for feature in unseen])} could not be probed"
        criteria.append(
            Criterion(name=name, kind="covariate", passed=False, compared=False, blocking=blocking, explanation=said)
        )
    return criteria


def _floor(evaluation: Evaluation, metric: Metric, floor: float | None) -> Criterion:
    measured = evaluation.overall("candidate")
    value = math.nan if measured is None else measured.values.get(metric, math.nan)
    name = f"candidate's {metric_words(metric)}"
    if not math.isfinite(value):
        said = f"{name} could not be measured"
        return Criterion(name=name, kind="floor", passed=False, compared=False, limit=floor, explanation=said)
    if floor is None:
        said = f"{name} is {_show(value)}; no floor is set"
        return Criterion(name=name, kind="floor", passed=True, value=value, explanation=said)
    passed = value <= floor if metric in LOWER_IS_BETTER else value >= floor
    said = f"{name} is {_show(value)}, {'within' if passed else 'beyond'} the floor of {_show(floor)}"
    return Criterion(name=name, kind="floor", passed=passed, value=value, limit=floor, explanation=said)


def _deciding_difference(evaluation: Evaluation, gate: GateSettings) -> Difference | None:
    where = SERVING if gate.distribution == "serving" else _OVERALL
    wanted = ("candidate", evaluation.tasks[0].name, where, gate.metric)
    return next((d for d in evaluation.differences if (d.model, d.task, d.slice, d.metric) == wanted), None)


def _is_slice(row: Difference, task: str, metric: Metric) -> bool:
    return (row.model, row.task, row.metric) == ("candidate", task, metric) and row.slice != _OVERALL


def _has_interval(row: Difference) -> bool:
    return all(map(math.isfinite, (row.value, row.low, row.high)))


def _of_difference(
    name: str, row: Difference, passed: bool, limit: float, said: str, kind: str = "difference"
) -> Criterion:
    return Criterion.model_validate(
        {
            "name": name,
            "kind": kind,
            "passed": passed,
            "explanation": said,
            "value": row.value,
            "low": row.low,
            "high": row.high,
            "limit": limit,
            "confidence": row.confidence,
        }
    )


def _none_told(count: int, limit: float) -> Criterion:
    """Nothing was compared, so nothing passed; it warns, or a project with little data could never promote."""
    said = f"none of {count} slices has enough examples to tell whether it loses more than {_show(-limit)}"
    return Criterion(
        name="slices", kind="slice", passed=False, blocking=False, compared=False, limit=limit, explanation=said
    )


def _explain(found: Difference, gate: GateSettings, limit: float, passed: bool) -> str:
    value, low, high = (_show(number, "+") for number in (found.value, found.low, found.high))
    interval = f"{value}, {gate.confidence:.0%} interval {low} to {high}"
    interval += f" (widened for {found.family} chances)" if found.family > 1 else ""
    wanted = "better than the champion" if gate.mode == "better" else f"not worse by more than {_show(-limit)}"
    verdict = "so it is" if passed else "so it is not shown to be"
    where = " as serving sees them" if found.slice == SERVING else ""
    return f"gain in {metric_words(gate.metric)} {interval} on {found.examples} examples{where}, {verdict} {wanted}"


def _lost(row: Difference, limit: float) -> str:
    low, high = _show(row.low, "+"), _show(row.high, "+")
    loses = f"{row.slice} loses {_show(-row.value)} of {metric_words(row.metric)} on {row.examples} examples"
    return (
        f"{loses} ({row.confidence:.0%} interval {low} to {high}, for all slices together), more than {_show(-limit)}"
    )


def _group(test: GroupTest) -> str:
    words = test.measure.replace("_", " ")
    return f"{words} of {test.feature}={test.group} {_show(test.value)} beside {_show(test.rest)}"


def _covariate(feature: str, probes: Sequence[CovariateProbe]) -> str:
    how = " and ".join(probe.probe for probe in probes if probe.feature == feature and probe.flagged)
    return f"the suspect feature `{feature}` ({how})"


def list_first(items: Sequence[str], most: int = _LISTED) -> str:
    """The first items, and how many more there are."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def _show(value: float, sign: str = "-") -> str:
    """A metric's value; one that four decimals would show as 0 in powers of ten."""
    return f"{value:{sign}.1e}" if 0 < abs(value) < _LEAST_SHOWN else f"{value:{sign}.4f}"
