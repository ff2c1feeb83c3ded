"""Comparison of design spaces by all errors of their sampled models, not by the best of them.

Source: Radosavovic et al. 2019, "On Network Design Spaces for Visual Recognition", section 3:
empirical distribution functions of the errors, compared by a two-sample Kolmogorov-Smirnov test.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import median

from perennial.evaluation.multiple_testing import holm
from schemas.records import SpaceTest

SIGNIFICANCE = 0.05


def compare_spaces(errors: Mapping[str, Sequence[float | None]]) -> list[SpaceTest]:
    """Compares every pair of spaces; the p-values are corrected for the number of pairs (Holm).

    Args:
        errors: Space -> the errors of its samples. None is a sample that failed; it counts as an
            infinite error, so that a space half of whose models fail is not judged by the others.

    Returns:
        A test for each pair, in the order of the spaces. `better` is the space with the lower
        median, where the corrected p-value is below 5% and the medians differ.
    """
    counted = {space: [_counted(error) for error in of_space] for space, of_space in errors.items()}
    pairs = list(itertools.combinations(counted, 2))
    tests = [kolmogorov_smirnov(counted[first], counted[second]) for first, second in pairs]
    corrected = holm([p_value for _, p_value in tests])
    return [
        SpaceTest(
            first=first,
            second=second,
            statistic=statistic,
            p_value=p_value,
            better=_better(first, second, counted) if p_value < SIGNIFICANCE else None,
        )
        for (first, second), (statistic, _), p_value in zip(pairs, tests, corrected, strict=True)
    ]


def kolmogorov_smirnov(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Gives the greatest distance of two distribution functions (0 to 1), and its p-value.

    Infinite values are greater than all others, and equal to each other.
    """
    from scipy.stats import ks_2samp

    # The test sees only the order of the values, so their ranks give the same: those are always
    # finite.
    ranks = {value: float(rank) for rank, value in enumerate(sorted({*first, *second}))}
    test = ks_2samp([ranks[value] for value in first], [ranks[value] for value in second])
    return float(test.statistic), float(test.pvalue)


def distribution(errors: Sequence[float | None]) -> list[tuple[float, float]]:
    """Gives each finite error with the share of all samples whose error is at most that.

    Samples that failed (None, or an error that is not finite) count among all: where there are
    some, the last share is below 1.
    """
    finite = sorted(error for error in errors if error is not None and math.isfinite(error))
    return [(error, rank / len(errors)) for rank, error in enumerate(finite, start=1)]


def _counted(error: float | None) -> float:
    return error if error is not None and not math.isnan(error) else math.inf


def _better(first: str, second: str, errors: Mapping[str, Sequence[float]]) -> str | None:
    one, two = median(errors[first]), median(errors[second])
    if one == two:
        return None
    return first if one < two else second
