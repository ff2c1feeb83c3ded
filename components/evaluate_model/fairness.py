"""Tests whether the candidate treats groups alike: each group beside all others.

Source: scores and errors of values by the two-sample Kolmogorov-Smirnov test; rates by Pearson's
chi-square test of two proportions, or Fisher's exact test where a cell is expected to hold fewer
than 5 (Cochran 1954); false positive and false negative rates as in Hardt et al. 2016, "Equality of
Opportunity in Supervised Learning"; corrected by Holm 1979.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perennial.evaluation.multiple_testing import holm
from perennial.evaluation.prediction_table import LABEL, SLICE, Array, class_scores
from perennial.tasks import Task
from schemas.project import FairnessSettings
from schemas.records import Fairness, GroupMeasure, GroupTest, ScoreDistribution

if TYPE_CHECKING:
    import pandas as pd

_QUANTILES = 21
_LEAST_EXPECTED = 5
# More groups than these are counted, not listed.
_LISTED = 5
_RARE: dict[GroupMeasure, str] = {
    "false_positive_rate": "examples of class 0",
    "false_negative_rate": "examples of class 1",
}


@dataclass(frozen=True)
class _Measured:
    """The candidate's results on each example, [n]: `errors` are 0 or 1, or absolute errors."""

    scores: Array
    errors: Array
    labels: Array
    task: Task


@dataclass(frozen=True)
class _Raw:
    """A test before its p-value is corrected for the others."""

    feature: str
    group: str
    examples: int
    measure: GroupMeasure
    value: float
    rest: float
    gap: float
    p_value: float


def compare_groups(
    frame: pd.DataFrame, task: Task, model: str, settings: FairnessSettings
) -> tuple[Fairness | None, list[str]]:
    """Compares each group of each named feature with all other examples; None: no feature is named.

    Scores are the probability of 1 (binary), of the true class (several classes), or the value.
    Groups are the values of the column `slice:<feature>`; that a value is missing makes a group,
    too.

    Returns:
        The tests, and in sentences what was not compared.
    """
    if not settings.features:
        return None, []
    measured, raw, scores, notes = (
        _measure(frame, task, model),
        list[_Raw](),
        list[ScoreDistribution](),
        list[str](),
    )
    for feature in dict.fromkeys(settings.features):
        groups = frame[f"{SLICE}{feature}"].astype(str).to_numpy()
        large, left_out = _large_groups(feature, groups, settings.least_examples)
        notes += left_out
        for group in large:
            inside = groups == group
            scores.append(_distribution(feature, group, measured.scores[inside]))
            tests, missing = _test_group(measured, inside, feature, group, settings.least_examples)
            raw += tests
            notes += missing
    return Fairness(score=_score_words(task), tests=_correct(raw, settings), scores=scores), notes


def _measure(frame: pd.DataFrame, task: Task, model: str) -> _Measured:
    labels = frame[LABEL].to_numpy()
    if not task.is_classes:
        values = frame[model].to_numpy(dtype=np.float64)
        return _Measured(values, np.abs(values - labels), labels, task)
    probabilities = class_scores(frame, model)
    if task.kind == "binary":
        scores = probabilities[:, 1]
    else:  # a label that the model does not know has the probability 0
        known = labels < probabilities.shape[1]
        scores = np.where(
            known, probabilities[np.arange(len(labels)), np.where(known, labels, 0)], 0.0
        )
    return _Measured(scores, probabilities.argmax(axis=1) != labels, labels, task)


def _score_words(task: Task) -> str:
    names = {"binary": "probability of class 1", "multi_class": "probability of the true class"}
    return names.get(task.kind, "predicted value")


def _large_groups(feature: str, groups: Array, least: int) -> tuple[list[str], list[str]]:
    """Lists the groups that can be compared, and why others cannot."""
    names, counts = np.unique(groups, return_counts=True)
    if len(names) < 2:
        return [], [f"fairness by `{feature}`: all test examples are in the group `{names[0]}`"]
    small = [
        (name, count)
        for name, count in zip(names.tolist(), counts.tolist(), strict=True)
        if count < least
    ]
    large = [
        name for name, count in zip(names.tolist(), counts.tolist(), strict=True) if count >= least
    ]
    # Of a group that is nearly everything the rest is as small as a small group.
    alone = [name for name in large if len(groups) - counts[names == name][0] < least]
    notes = []
    if small:
        listed = ", ".join(f"`{name}` ({count})" for name, count in small[:_LISTED])
        more = f" and {len(small) - _LISTED} more" if len(small) > _LISTED else ""
        notes.append(
            f"fairness by `{feature}`: groups with fewer than {least} test examples were not "
            f"compared: {listed}{more}"
        )
    if alone:
        notes.append(
            f"fairness by `{feature}`: fewer than {least} test examples are outside the group "
            f"`{alone[0]}`"
        )
    return [name for name in large if name not in alone], notes


def _distribution(feature: str, group: str, scores: Array) -> ScoreDistribution:
    quantiles = np.quantile(scores, np.linspace(0, 1, _QUANTILES))
    return ScoreDistribution(
        feature=feature, group=group, examples=len(scores), quantiles=quantiles.tolist()
    )


def _test_group(
    measured: _Measured, inside: Array, feature: str, group: str, least: int
) -> tuple[list[_Raw], list[str]]:
    """Tests one group beside the rest; also names the tests that had too few examples."""
    tests, notes, count = [], [], int(inside.sum())
    tests.append(
        _Raw(feature, group, count, "score", *_kolmogorov_smirnov(measured.scores, inside))
    )
    for measure, among in _rates(measured):
        mine, others = measured.errors[inside & among], measured.errors[~inside & among]
        if min(len(mine), len(others)) < least:
            where = (
                f"fairness by `{feature}`, group `{group}`: {measure.replace('_', ' ')} was not "
                "compared"
            )
            notes.append(
                f"{where}: {len(mine)} {_RARE[measure]} in the group, {len(others)} outside, of "
                f"{least}"
            )
            continue
        tests.append(_Raw(feature, group, len(mine), measure, *_two_proportions(mine, others)))
    if not measured.task.is_classes:
        result = _kolmogorov_smirnov(measured.errors, inside)
        tests.append(_Raw(feature, group, count, "absolute_error", *result))
    return tests, notes


def _rates(measured: _Measured) -> Iterator[tuple[GroupMeasure, Array]]:
    """Lists the error rates to compare, each with the examples [n] that it is measured on."""
    if measured.task.is_classes:
        yield "error_rate", np.ones(len(measured.labels), dtype=bool)
    if measured.task.kind == "binary":
        yield "false_positive_rate", measured.labels == 0
        yield "false_negative_rate", measured.labels == 1


def _kolmogorov_smirnov(values: Array, inside: Array) -> tuple[float, float, float, float]:
    """Gives the means of a group and of the rest, the distributions' distance and its p-value."""
    from scipy.stats import ks_2samp

    mine, others = values[inside], values[~inside]
    # The exact p-value takes minutes for thousands of examples; from 50 on the asymptotic one is as
    # good.
    result = ks_2samp(mine, others, method="asymp")
    return float(mine.mean()), float(others.mean()), float(result.statistic), float(result.pvalue)


def _two_proportions(mine: Array, others: Array) -> tuple[float, float, float, float]:
    """Gives the error shares of a group and of the rest, their distance and its p-value."""
    from scipy.stats import chi2_contingency, fisher_exact
    from scipy.stats.contingency import expected_freq

    wrong, other_wrong = int(mine.sum()), int(others.sum())
    table = np.array([[wrong, other_wrong], [len(mine) - wrong, len(others) - other_wrong]])
    value, rest = float(mine.mean()), float(others.mean())
    if expected_freq(table).min() < _LEAST_EXPECTED:
        p_value = float(fisher_exact(table).pvalue)
    else:
        p_value = float(chi2_contingency(table, correction=False).pvalue)
    return value, rest, abs(value - rest), p_value


def _correct(raw: Sequence[_Raw], settings: FairnessSettings) -> list[GroupTest]:
    """Corrects the tests' p-values for the number of all of them."""
    corrected = holm([test.p_value for test in raw])
    return [
        GroupTest(
            feature=test.feature,
            group=test.group,
            examples=test.examples,
            measure=test.measure,
            value=test.value,
            rest=test.rest,
            gap=test.gap,
            p_value=p_value,
            flagged=p_value < settings.false_alarms and test.gap > settings.gap,
        )
        for test, p_value in zip(raw, corrected, strict=True)
    ]
