"""The gate: a pure function from an evaluation to a decision."""

from __future__ import annotations

import math
from pathlib import Path

from perennial.publishing import publish_text
from perennial.tasks import LOWER_IS_BETTER, metric_words
from schemas.project import GateSettings, Metric
from schemas.records import Criterion, Decision, Difference, Evaluation

RECORD_FILE = "decision.json"
_OVERALL = "overall"
_LEAST_SHOWN = 0.00005


def decide_promotion(evaluation: Evaluation, gate: GateSettings) -> Decision:
    """Decides whether the candidate replaces the champion, on the first task.

    Every criterion must pass. Without a champion the floor alone decides. A champion that exists but could not be
    compared keeps its place: what was not compared is never passed. Other tasks are measured, not judged, and the
    decision says so.
    """
    criteria = [_floor(evaluation, gate)]
    if evaluation.champion is not None:
        criteria.append(_against_champion(evaluation, gate))
    promote = all(criterion.passed for criterion in criteria)
    return Decision(
        promote=promote,
        criteria=criteria,
        reasons=_reasons(promote, criteria, evaluation),
        not_compared=_not_compared(evaluation, gate),
    )


def write_decision(decision: Decision, folder: Path) -> None:
    """Writes `folder/decision.json`."""
    publish_text(decision.model_dump_json(indent=2), folder / RECORD_FILE)


def read_decision(folder: Path) -> Decision:
    """The record that `write_decision` left in a folder."""
    return Decision.model_validate_json((folder / RECORD_FILE).read_text(encoding="utf-8"))


def _floor(evaluation: Evaluation, gate: GateSettings) -> Criterion:
    measured = evaluation.overall("candidate")
    value = math.nan if measured is None else measured.values.get(gate.metric, math.nan)
    name = f"candidate's {metric_words(gate.metric)}"
    if not math.isfinite(value):
        return Criterion(name=name, passed=False, explanation=f"{name} could not be measured")
    if gate.floor is None:
        return Criterion(name=name, passed=True, explanation=f"{name} is {_show(value)}; no floor is set")
    passed = value <= gate.floor if gate.metric in LOWER_IS_BETTER else value >= gate.floor
    side = "within" if passed else "beyond"
    return Criterion(
        name=name, passed=passed, explanation=f"{name} is {_show(value)}, {side} the floor of {_show(gate.floor)}"
    )


def _against_champion(evaluation: Evaluation, gate: GateSettings) -> Criterion:
    assert evaluation.champion is not None
    name = f"against champion version {evaluation.champion.version}"
    found = _overall_difference(evaluation, gate.metric)
    if found is None or not all(map(math.isfinite, (found.value, found.low, found.high))):
        why = "; ".join(evaluation.not_compared) or "the difference could not be measured"
        return Criterion(name=name, passed=False, explanation=f"not compared: {why}")
    threshold = 0.0 if gate.mode == "better" else -gate.margin
    passed = found.low > threshold if gate.mode == "better" else found.low >= threshold
    return Criterion(name=name, passed=passed, explanation=_explain(found, gate, threshold, passed))


def _overall_difference(evaluation: Evaluation, metric: Metric) -> Difference | None:
    wanted = (evaluation.tasks[0].name, _OVERALL, metric)
    return next((d for d in evaluation.differences if (d.task, d.slice, d.metric) == wanted), None)


def _explain(found: Difference, gate: GateSettings, threshold: float, passed: bool) -> str:
    value, low, high = (_show(number, "+") for number in (found.value, found.low, found.high))
    interval = f"{value}, {gate.confidence:.0%} interval {low} to {high}"
    wanted = "better than the champion" if gate.mode == "better" else f"not worse by more than {_show(-threshold)}"
    verdict = "so it is" if passed else "so it is not shown to be"
    return f"gain in {metric_words(gate.metric)} {interval} on {found.examples} examples, {verdict} {wanted}"


def _reasons(promote: bool, criteria: list[Criterion], evaluation: Evaluation) -> list[str]:
    if promote and evaluation.champion is None:
        return ["there was no champion: the first candidate that reaches the floor serves", criteria[0].explanation]
    return [criterion.explanation for criterion in criteria if criterion.passed == promote]


def _not_compared(evaluation: Evaluation, gate: GateSettings) -> list[str]:
    first, *others = [task.name for task in evaluation.tasks]
    unread = [f"task `{name}` is measured, but the gate reads `{first}` only" for name in others]
    unset = ["no floor is set (gate.floor)"] if gate.floor is None else []
    return [*evaluation.not_compared, *unread, *unset]


def _show(value: float, sign: str = "-") -> str:
    """A metric's value; one that four decimals would show as 0 in powers of ten."""
    return f"{value:{sign}.1e}" if 0 < abs(value) < _LEAST_SHOWN else f"{value:{sign}.4f}"
