"""The criteria of the gate: each with what was measured, what was required, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence

from perennial.tasks import LOWER_IS_BETTER, metric_words
from schemas.project import GateSettings, Metric
from schemas.records import (
    CANDIDATE,
    CHAMPION,
    OVERALL,
    SERVING_DISTRIBUTION,
    CovariateProbe,
    Criterion,
    Difference,
    Evaluation,
    GroupTest,
    NewestSpan,
    Probing,
    SuspectFeature,
)
from schemas.records.judgement import CriterionKind

_LEAST_SHOWN = 0.00005
# More than these are counted, not listed.
_LISTED = 3


def judge_floors(evaluation: Evaluation, gate: GateSettings) -> list[Criterion]:
    """Judges each floor of the candidate.

    The primary metric must be a number, also where it has no floor.
    """
    metrics = dict.fromkeys([gate.metric, *gate.floors])
    return [_floor(evaluation, metric, gate.floors.get(metric)) for metric in metrics]


def judge_trivial(evaluation: Evaluation, gate: GateSettings) -> Criterion:
    """Judges whether the candidate is shown to be better than the best constant answer.

    It blocks where there is no champion: the first one must have learned something. A champion is
    worth comparing with by itself, so beside one it only warns.
    """
    name, trivial = "against the best constant answer", evaluation.trivial
    blocking = evaluation.champion is None and gate.trivial == "block"
    if trivial is None or not trivial.gain.has_interval:
        why = "this evaluation has no such comparison; run with --retrain"
        if trivial is not None:
            why = f"the test split holds {trivial.gain.reason or 'too few examples'}"
        return Criterion(
            name=name,
            kind="trivial",
            metric=gate.metric,
            passed=False,
            compared=False,
            blocking=blocking,
            limit=0.0,
            explanation=f"not compared with the best constant answer: {why}",
        )
    gain = trivial.gain
    passed = gain.low > 0
    interval = f"{_show(gain.value, '+')}, {gain.confidence:.0%} interval {_show(gain.low, '+')} to"
    verdict = "is better than" if passed else "is not shown to be better than"
    explanation = (
        f"it {verdict} the best constant answer ({trivial.answer}: {metric_words(gate.metric)} "
        f"{_show(trivial.value)}): gain {interval} {_show(gain.high, '+')} on {gain.examples} "
        "examples"
    )
    return _of_difference(name, gain, passed, 0.0, explanation, "trivial", blocking)


def judge_against_champion(evaluation: Evaluation, gate: GateSettings) -> Criterion:
    """Judges the difference in the primary metric.

    The candidate is `better` with an interval above zero, `not_worse` with one that does not reach
    below `-gate.margin`.
    """
    assert evaluation.champion is not None
    name = f"against champion version {evaluation.champion.version}"
    difference = _deciding_difference(evaluation, gate)
    limit = 0.0 if gate.mode == "better" else -gate.margin
    if difference is None or not difference.has_interval:
        why = "; ".join(evaluation.not_compared) or "the difference could not be measured"
        if difference is not None and difference.reason:
            why = f"the test split holds {difference.reason}"
        elif not any(row.slice == OVERALL for row in evaluation.differences):
            why += (
                ". Where the data or the task was changed on purpose, `perennial promote PROJECT "
                "VERSION` makes this candidate the champion"
            )
        return Criterion(
            name=name,
            metric=gate.metric,
            passed=False,
            compared=False,
            limit=limit,
            explanation=f"not compared: {why}",
        )
    passed = difference.low > limit if gate.mode == "better" else difference.low >= limit
    return _of_difference(name, difference, passed, limit, _explain(difference, gate, passed))


def judge_former(evaluation: Evaluation, gate: GateSettings) -> list[Criterion]:
    """Judges whether the champion is worse than an earlier one; gives nothing where there is none.

    It only warns: what to do about a champion that became worse is for a person to say.
    """
    measured = [each for each in evaluation.former if each.gain.has_interval]
    if evaluation.champion is None or not measured:
        return []
    best = min(measured, key=lambda each: each.gain.value)
    gain, champion = best.gain, f"champion version {evaluation.champion.version}"
    passed = gain.high >= 0
    interval = f"{gain.confidence:.0%} interval {_show(gain.low, '+')} to {_show(gain.high, '+')}"
    verdict = (
        f"is not shown to be worse than version {best.version}, the best of {len(measured)} "
        "earlier ones"
        if passed
        else f"is worse than version {best.version}, which served before"
    )
    remedy = "" if passed else f"; `perennial promote PROJECT {best.version}` goes back to it"
    explanation = (
        f"{champion} {verdict}: {metric_words(gate.metric)} {_show(gain.value, '+')}, {interval} "
        f"on {gain.examples} examples{remedy}"
    )
    name = "champion against earlier ones"
    return [_of_difference(name, gain, passed, None, explanation, "former", blocking=False)]


def judge_slices(evaluation: Evaluation, gate: GateSettings) -> list[Criterion]:
    """Judges slices and views: gives the slices that lose too much, or one criterion for all.

    A slice fails when it lost more than `gate.slice_loss` and its interval, widened for the number
    of slices, lies below zero. So neither chance on a small slice nor a small loss on a large one
    keeps the champion.
    """
    if gate.slice_loss is None:
        return []
    first, limit = evaluation.tasks[0].name, -gate.slice_loss
    rows = [row for row in evaluation.differences if _is_slice(row, first, gate.metric)]
    measured = [row for row in rows if row.has_interval]
    lost = sorted(
        (row for row in measured if row.value < limit and row.high < 0), key=lambda row: row.value
    )
    if not rows:
        return []
    if not measured:
        return [_too_few_examples(len(rows), gate)]
    if lost:
        return [
            _of_difference(f"slice {row.slice}", row, False, limit, _lost(row, limit), "slice")
            for row in lost
        ]
    worst = min(measured, key=lambda row: row.value)
    doubt = sum(row.low < limit for row in measured)
    unsure = f"; for {doubt} of them such a loss cannot be ruled out" if doubt else ""
    loss = f"more than {_show(gate.slice_loss)} of {metric_words(gate.metric)}"
    most = f"(most: {worst.slice}, {_show(worst.value, '+')})"
    explanation = f"none of {len(measured)} slices is shown to lose {loss} {most}{unsure}"
    return [_of_difference("slices", worst, True, limit, explanation, "slice")]


def judge_newest_span(evaluation: Evaluation, gate: GateSettings) -> list[Criterion]:
    """Judges whether the champion, or without one the candidate, fell on the newest span.

    It fell where the interval of its change lies below zero and the fall is more than
    `gate.newest_fall`: labels that were mixed up, or a world that changed. Gives nothing where the
    newest span could not be measured apart.
    """
    rows = {row.model: row for row in evaluation.newest}
    row = rows.get(CHAMPION) or rows.get(CANDIDATE)
    if row is None or not (math.isfinite(row.low) and math.isfinite(row.high)):
        return []
    fall = -row.change
    if row.metric in LOWER_IS_BETTER:
        fall = fall / row.older if row.older > 0 else math.inf
    fell = row.high < 0 and fall > gate.newest_fall
    return [
        Criterion(
            name="newest span",
            kind="newest_span",
            metric=row.metric,
            passed=not fell,
            blocking=gate.newest_span == "block",
            value=row.change,
            low=row.low,
            high=row.high,
            confidence=row.confidence,
            explanation=_on_newest(row, evaluation, fell),
        )
    ]


def judge_fairness(evaluation: Evaluation, gate: GateSettings) -> list[Criterion]:
    """Judges whether the candidate treats groups alike; gives nothing where none are named."""
    fairness = evaluation.fairness
    if fairness is None:
        return []
    blocking = gate.fairness == "block"
    if not fairness.tests:
        return [
            Criterion(
                name="fairness",
                kind="fairness",
                passed=False,
                compared=False,
                blocking=blocking,
                explanation="groups could not be compared: each has too few examples",
            )
        ]
    flagged = sorted(fairness.flagged, key=lambda test: -test.gap)
    explanation = f"{len(fairness.tests)} comparisons of groups found no difference that matters"
    if flagged:
        explanation = f"groups differ: {list_first([_group(test) for test in flagged])}"
    return [
        Criterion(
            name="fairness",
            kind="fairness",
            passed=not flagged,
            blocking=blocking,
            explanation=explanation,
        )
    ]


def judge_covariates(probing: Probing | None, gate: GateSettings) -> list[Criterion]:
    """Judges whether the candidate learned a suspect feature; gives nothing where none is named.

    Suspect features that could not be probed are a criterion that did not pass.
    """
    if probing is None or not probing.suspects:
        return []
    blocking, name = gate.covariates == "block", "hidden covariates"
    probed = [suspect for suspect in probing.suspects if suspect.not_compared is None]
    criteria = []
    if probed:
        criteria.append(
            Criterion(
                name=name,
                kind="covariate",
                passed=not probing.learned,
                blocking=blocking,
                explanation=_learned(probing) if probing.learned else _innocent(probed),
            )
        )
    unknown = [
        f"the suspect feature `{suspect.name}`: {suspect.not_compared}"
        for suspect in probing.suspects
        if suspect.not_compared is not None
    ]
    if unknown:
        criteria.append(
            Criterion(
                name=name,
                kind="covariate",
                passed=False,
                compared=False,
                blocking=blocking,
                explanation=f"not compared: {list_first(unknown)}",
            )
        )
    return criteria


def judge_leaks(probing: Probing | None) -> list[Criterion]:
    """Warns of features that alone give the label away; gives nothing where there is none."""
    if probing is None or not probing.leaks:
        return []
    names = list_first([f"`{leak.name}`" for leak in probing.leaks])
    several = len(probing.leaks) > 1
    advice = (
        "If that is not known when the model is asked, leave it out in preprocessing_fn; name it "
        "in evaluate.covariates.features and set gate.covariates to block to keep such models out"
    )
    return [
        Criterion(
            name="leaks",
            kind="leak",
            passed=False,
            blocking=False,
            explanation=f"{names} alone {'each give' if several else 'gives'} the label of all "
            f"{probing.leaks[0].examples} examples away. {advice}",
        )
    ]


def _floor(evaluation: Evaluation, metric: Metric, floor: float | None) -> Criterion:
    measured = evaluation.overall(CANDIDATE)
    value = math.nan if measured is None else measured.values.get(metric, math.nan)
    name = f"candidate's {metric_words(metric)}"
    if not math.isfinite(value):
        reason = None if measured is None else measured.undefined.get(metric)
        return Criterion(
            name=name,
            kind="floor",
            metric=metric,
            passed=False,
            compared=False,
            limit=floor,
            explanation=f"{name} is not defined: the test split holds {reason}"
            if reason
            else f"{name} could not be measured",
        )
    if floor is None:
        passed, explanation = True, f"{name} is {_show(value)}; no floor is set"
    else:
        lower = metric in LOWER_IS_BETTER
        passed = value <= floor if lower else value >= floor
        if passed:
            required = "at most" if lower else "at least"
        else:
            required = "above the limit of" if lower else "below the floor of"
        explanation = f"{name} is {_show(value)}, {required} {_show(floor)}"
    return Criterion(
        name=name,
        kind="floor",
        metric=metric,
        passed=passed,
        value=value,
        limit=floor,
        explanation=explanation,
    )


def _deciding_difference(evaluation: Evaluation, gate: GateSettings) -> Difference | None:
    where = SERVING_DISTRIBUTION if gate.distribution == "serving" else OVERALL
    deciding = (CANDIDATE, evaluation.tasks[0].name, where, gate.metric)
    return next(
        (d for d in evaluation.differences if (d.model, d.task, d.slice, d.metric) == deciding),
        None,
    )


def _is_slice(row: Difference, task: str, metric: Metric) -> bool:
    return (row.model, row.task, row.metric) == (CANDIDATE, task, metric) and row.slice != OVERALL


def _of_difference(
    name: str,
    row: Difference,
    passed: bool,
    limit: float | None,
    explanation: str,
    kind: CriterionKind = "difference",
    blocking: bool = True,
) -> Criterion:
    return Criterion(
        name=name,
        kind=kind,
        metric=row.metric,
        passed=passed,
        blocking=blocking,
        explanation=explanation,
        value=row.value,
        low=row.low,
        high=row.high,
        limit=limit,
        confidence=row.confidence,
    )


def _too_few_examples(slices: int, gate: GateSettings) -> Criterion:
    """Warns that no slice was compared; if this blocked, little data could never promote."""
    assert gate.slice_loss is not None
    return Criterion(
        name="slices",
        kind="slice",
        metric=gate.metric,
        passed=False,
        blocking=False,
        compared=False,
        limit=-gate.slice_loss,
        explanation=f"none of {slices} slices has enough examples to tell whether it loses "
        f"more than {_show(gate.slice_loss)}",
    )


def _explain(difference: Difference, gate: GateSettings, passed: bool) -> str:
    value, low, high = (
        _show(number, "+") for number in (difference.value, difference.low, difference.high)
    )
    interval = f"{value}, {gate.confidence:.0%} interval {low} to {high}"
    interval += f" (widened for {difference.family} chances)" if difference.family > 1 else ""
    where = " as serving sees them" if difference.slice == SERVING_DISTRIBUTION else ""
    measured = (
        f"gain in {metric_words(gate.metric)} {interval} on {difference.examples} examples{where}"
    )
    return f"{measured}, so it {_verdict(difference, gate, passed)}"


def _verdict(difference: Difference, gate: GateSettings, passed: bool) -> str:
    if gate.mode == "better":
        return (
            "is better than the champion"
            if passed
            else "is not shown to be better than the champion"
        )
    if difference.low >= 0:
        return "is at least as good as the champion"
    allowed = f"(allowed: {_show(gate.margin)})"
    return f"may be worse than the champion by up to {_show(-difference.low)} {allowed}"


def _lost(row: Difference, limit: float) -> str:
    low, high = _show(row.low, "+"), _show(row.high, "+")
    lost = f"{_show(-row.value)} of {metric_words(row.metric)} on {row.examples} examples"
    interval = f"({row.confidence:.0%} interval {low} to {high}, for all slices together)"
    return f"{row.slice} loses {lost} {interval}, more than {_show(-limit)}"


def _on_newest(row: NewestSpan, evaluation: Evaluation, fell: bool) -> str:
    """Describes a model on the newest span, and where it fell also the candidate."""
    serves = evaluation.champion
    named = f"champion version {serves.version}" if serves and row.model == CHAMPION else row.model
    words = metric_words(row.metric)
    place = f"on the newest span, {row.span} ({row.examples} examples)"
    verdict = "rises" if row.metric in LOWER_IS_BETTER else "falls"
    if not fell:
        return f"{named}'s {words} is not shown to fall {place}"
    text = f"{named}'s {words} {verdict} from {_show(row.older)} to {_show(row.newest)} {place}"
    other = next((each for each in evaluation.newest if each.model != row.model), None)
    return f"{text}; the candidate's is {_show(other.newest)} there" if other else text


def _group(test: GroupTest) -> str:
    words = test.measure.replace("_", " ")
    return f"{words} of {test.feature}={test.group} {_show(test.value)} beside {_show(test.rest)}"


def _learned(probing: Probing) -> str:
    """Names what was learned: features that the answers rest on, and those that are not read."""
    read = [suspect.name for suspect in probing.suspects if suspect.is_read]
    rests = [_covariate(name, probing.covariates) for name in probing.learned if name in read]
    known = [f"`{name}`" for name in probing.learned if name not in read]
    parts = [f"the answers rest on {list_first(rests)}"] if rests else []
    if known:
        parts.append(
            f"the latent vector tells the suspect feature{'s' * (len(known) > 1)} "
            f"{list_first(known)}, which the model does not read"
        )
    return "; ".join(parts)


def _innocent(probed: Sequence[SuspectFeature]) -> str:
    read = [f"`{suspect.name}`" for suspect in probed if suspect.is_read]
    unread = [f"`{suspect.name}`" for suspect in probed if not suspect.is_read]
    parts = [f"the answers do not rest on {list_first(read)} more than by chance"] if read else []
    if unread:
        parts.append(
            f"the model does not read {list_first(unread)}, and its latent vector tells no more "
            f"of {'them' if len(unread) > 1 else 'it'} than chance"
        )
    return "; ".join(parts)


def _covariate(feature: str, probes: Sequence[CovariateProbe]) -> str:
    how = " and ".join(
        probe.probe for probe in probes if probe.feature == feature and probe.flagged
    )
    return f"the suspect feature `{feature}` ({how})"


def list_first(items: Sequence[str], most: int = _LISTED) -> str:
    """Lists the first items, and says how many more there are."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def _show(value: float, sign: str = "-") -> str:
    """Writes a metric's value; one that four decimals would show as 0 in powers of ten."""
    return f"{value:{sign}.1e}" if 0 < abs(value) < _LEAST_SHOWN else f"{value:{sign}.4f}"
