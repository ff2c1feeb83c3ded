"""Gathers the warnings of a run from what its steps left. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from perennial.report.facts import RunFacts
from perennial.report.formats import format_metric
from perennial.tasks import metric_words
from schemas.records import (
    Check,
    Criterion,
    Decision,
    Evaluation,
    Outlier,
    Probing,
    RunWarning,
    SpanValidation,
    Validation,
    WarningKind,
)

_TOLD = 3
# What is most likely to hurt comes first; what could not be compared comes last.
ORDER: tuple[WarningKind, ...] = (
    "newest_span",
    "difference",
    "floor",
    "former",
    "trivial",
    "class_gone",
    "label_drift",
    "leak",
    "slice",
    "fairness",
    "covariate",
    "future",
    "duplicates",
    "features",
    "splits",
    "outlier",
    "drift",
    "skew",
    "columns",
    "schema",
    "expectation",
    "readable",
    "rows",
    "training",
    "not_compared",
)
# One subject may have several of these in a span (from two baselines, of two models): one is told.
_ONCE = ("drift", "label_drift", "skew", "outlier")


def list_warnings(facts: RunFacts) -> list[RunWarning]:
    """Lists the warnings of a run, the most telling first.

    A feature that drifted in a span from both baselines is one warning.
    """
    warnings = [
        *_of_spans(facts.validation),
        *_of_decision(facts.decision, facts.evaluation, facts.probing),
        *map(_of_outlier, facts.evaluation.outliers if facts.evaluation else []),
        *_of_training(facts),
        *_not_compared(facts),
    ]
    first: dict[tuple[str, ...], RunWarning] = {}
    for warning in sorted(warnings, key=_place):
        message = "" if warning.kind in _ONCE else warning.message
        first.setdefault((warning.kind, warning.subject, warning.span or "", message), warning)
    return list(first.values())


def count_warnings(warnings: Sequence[RunWarning]) -> tuple[int, int]:
    """Counts the warnings, and what could not be compared."""
    unknown = sum(warning.kind == "not_compared" for warning in warnings)
    return len(warnings) - unknown, unknown


def choose_told(warnings: Sequence[RunWarning]) -> list[RunWarning]:
    """Chooses the warnings that are told where there is no room for all.

    What could not be compared is counted there, and stands on the page.
    """
    return [warning for warning in warnings if warning.kind != "not_compared"][:_TOLD]


def _place(warning: RunWarning) -> tuple[int, float]:
    """Gives the place of a warning: by its kind, then by how far beyond its limit it is."""
    numbers = warning.numbers
    limit = max(numbers.get("threshold", 1.0), 1e-9)
    return ORDER.index(warning.kind), -numbers.get("distance", numbers.get("share", 0.0)) / limit


def _of_spans(validation: Validation | None) -> Iterator[RunWarning]:
    for span in validation.spans if validation else []:
        if span.new:
            checks = [check for check in span.checks if check.verdict == "set_aside"]
            yield from (_of_check(check, span) for check in [*span.warnings, *checks])
    yield from map(_of_check, validation.window_warnings if validation else [])


def _of_check(check: Check, span: SpanValidation | None = None) -> RunWarning:
    kind: WarningKind = "rows" if check.kind == "readable" else check.kind
    return RunWarning(
        kind=kind if check.verdict != "not_compared" else "not_compared",
        subject=check.subject,
        feature=_feature(check),
        span=span.span.name if span else None,
        message=check.message,
        numbers=_numbers(distance=check.distance, threshold=check.threshold),
    )


def _feature(check: Check) -> str | None:
    """Gives the feature that a check is about; None where it is about all, or about a rule."""
    known = check.distance is not None or check.kind in ("schema", "class_gone")
    return check.subject if known else None


def _of_decision(
    decision: Decision | None, evaluation: Evaluation | None, probing: Probing | None
) -> Iterator[RunWarning]:
    for criterion in decision.warnings if decision else []:
        flagged = list(_flagged(criterion, evaluation, probing))
        yield from flagged or [_of_criterion(criterion)]


def _of_criterion(criterion: Criterion) -> RunWarning:
    return RunWarning(
        kind=criterion.kind if criterion.compared else "not_compared",
        subject=criterion.name,
        message=criterion.explanation,
        numbers=_numbers(
            value=criterion.value, low=criterion.low, high=criterion.high, limit=criterion.limit
        ),
    )


def _flagged(
    criterion: Criterion, evaluation: Evaluation | None, probing: Probing | None
) -> Iterator[RunWarning]:
    """Gives a warning for each group or feature behind a criterion that counts several."""
    if criterion.kind == "fairness" and evaluation and evaluation.fairness:
        for test in sorted(evaluation.fairness.flagged, key=lambda test: -test.gap):
            words = test.measure.replace("_", " ")
            yield RunWarning(
                kind="fairness",
                subject=f"{test.feature}={test.group}",
                feature=test.feature,
                message=f"{words} {test.value:.3g} beside {test.rest:.3g} of all others",
                numbers=_numbers(
                    value=test.value, rest=test.rest, gap=test.gap, p_value=test.p_value
                ),
            )
    if criterion.kind == "covariate" and criterion.compared and probing:
        for probe in probing.covariates:
            if probe.flagged:
                yield RunWarning(
                    kind="covariate",
                    subject=probe.feature,
                    feature=probe.feature,
                    message=f"the answers rest on this suspect feature (probe: {probe.probe})",
                    numbers=_numbers(value=probe.value, chance=probe.chance, p_value=probe.p_value),
                )

    for leak in probing.leaks if criterion.kind == "leak" and probing else []:
        yield RunWarning(
            kind="leak",
            subject=leak.name,
            feature=leak.name,
            message=f"this feature alone gives the label of all {leak.examples} examples away",
            numbers=_numbers(examples=leak.examples, parts=leak.parts),
        )


def _of_outlier(outlier: Outlier) -> RunWarning:
    words = metric_words(outlier.metric)
    value, without = (
        format_metric(number, outlier.metric) for number in (outlier.value, outlier.without)
    )
    message = (
        f"this one of {outlier.examples:,} test examples makes {outlier.share:.0%} of the "
        f"{outlier.model}'s {words}: {value}, without it {without} (label {outlier.label:g})"
    )
    return RunWarning(
        kind="outlier",
        subject=outlier.key,
        span=outlier.span,
        message=message,
        numbers=_numbers(
            share=outlier.share, value=outlier.value, without=outlier.without, label=outlier.label
        ),
    )


def _of_training(facts: RunFacts) -> Iterator[RunWarning]:
    trainings = facts.evaluation.trainings if facts.evaluation else []
    notes = [(training.instance.name, note) for training in trainings for note in training.notes]
    notes += (
        [("pretraining", note) for note in facts.pretraining.notes] if facts.pretraining else []
    )
    yield from (RunWarning(kind="training", subject=name, message=note) for name, note in notes)


def _not_compared(facts: RunFacts) -> Iterator[RunWarning]:
    for span in facts.validation.spans if facts.validation else []:
        unknown = [check for check in span.checks if check.verdict == "not_compared"]
        if span.new:
            yield from (_of_check(check, span) for check in unknown if not check.exempt)
    yield from (
        RunWarning(kind="not_compared", subject="the comparison", message=line)
        for line in _lines_not_compared(facts)
    )


def _lines_not_compared(facts: RunFacts) -> Iterable[str]:
    """Lists what the decision says was not compared; without one, what evaluation says."""
    if facts.decision:
        return facts.decision.not_compared
    return facts.evaluation.not_compared if facts.evaluation else []


def _numbers(**numbers: float | None) -> dict[str, float]:
    return {
        name: float(number)
        for name, number in numbers.items()
        if number is not None and math.isfinite(number)
    }
