"""The accuracy that is estimated before labels come, and the verdict on the estimator once they land."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from perennial.production.estimated_accuracy import (
    UNLABELLED,
    EstimatedDay,
    estimate_accuracy,
    estimate_day,
    judge_estimator,
    right_answers,
)
from tests.chain import Chain


def drawn(rng: np.random.Generator, rows: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities and their labels; with a shift, a share of the labels is of another class."""
    probabilities = rng.dirichlet([3, 1, 1], rows)
    labels = (rng.random((rows, 1)) > probabilities.cumsum(axis=1)[:, :2]).sum(axis=1)
    other = rng.random(rows) < shift
    return probabilities, np.where(other, (labels + 1) % 3, labels)


def days(shift: float, count: int = 60, rows: int = 80) -> list[EstimatedDay]:
    rng = np.random.default_rng(5)
    return [estimate_day(str(day), *drawn(rng, rows, shift), 0.9) for day in range(count)]


def test_equal_chances_are_the_binomial_distribution() -> None:
    for count, chance in ((1, 0.7), (50, 0.7), (400, 0.95), (1000, 0.5)):
        low, high = right_answers(np.full(count, chance), 0.95)
        distribution = stats.binom(count, chance)
        assert distribution.cdf(low - 1) <= 0.025 + 1e-9 < distribution.cdf(low) + 1e-6
        assert distribution.sf(high) <= 0.025 + 1e-9 < distribution.sf(high - 1) + 1e-6


def test_many_rows_have_about_the_same_interval_by_the_normal_distribution() -> None:
    chances = np.random.default_rng(0).uniform(0.5, 1, 1000)
    exact, normal = right_answers(chances, 0.95), right_answers(np.append(chances, 1.0), 0.95)
    assert normal == pytest.approx((exact[0] + 1, exact[1] + 1), abs=1.5)


def test_an_estimator_that_is_calibrated_holds_as_often_as_it_says_and_is_used() -> None:
    verdict = judge_estimator(days(shift=0.0), 0.9)
    assert verdict.used and verdict.status == "trusted"
    assert verdict.held >= stats.binom.ppf(0.001, verdict.days, 0.9)


def test_an_estimator_whose_intervals_do_not_hold_says_so_and_is_not_used() -> None:
    verdict = judge_estimator(days(shift=0.3), 0.9)
    assert verdict.status == "not_trusted" and not verdict.used
    assert f"held on {verdict.held} of 60 days, 90% promised" in verdict.reason


def test_before_enough_labels_come_nothing_is_promised() -> None:
    assert judge_estimator(days(0.0, count=6), 0.9).status == "unknown"
    assert judge_estimator(days(0.0, rows=19), 0.9).days == 0


def test_only_rows_with_labels_are_held_against_them() -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = drawn(rng, 200)
    late = np.where(np.arange(200) < 50, labels, UNLABELLED)
    day = estimate_day("2026-01-01", probabilities, late, 0.9)
    assert (day.all_rows.rows, day.labelled.rows) == (200, 50)
    assert day.accuracy == pytest.approx((probabilities[:50].argmax(axis=1) == labels[:50]).mean())
    none = estimate_day("2026-01-01", probabilities, np.full(200, UNLABELLED), 0.9)
    assert math.isnan(none.accuracy) and not none.judged


def test_a_calibration_on_few_examples_widens_the_interval() -> None:
    probabilities, _ = drawn(np.random.default_rng(0), 500)
    sure, unsure = (estimate_accuracy(probabilities, 0.9, error) for error in (0.0, 0.05))
    assert unsure.low < sure.low < sure.value < sure.high < unsure.high


def test_a_real_model_estimates_its_accuracy_on_digits_it_never_saw(chain: Chain) -> None:
    """The registered model of the digits: its calibrated scores of the test split, beside the labels."""
    import pandas as pd

    from perennial.evaluation.prediction_table import TABLE_FILE

    table = pd.read_parquet(chain.folder / "evaluation" / TABLE_FILE)
    probabilities = np.stack(table["champion"].to_list())
    day = estimate_day("test", probabilities, table["label"].to_numpy(), 0.99)
    assert day.labelled.rows == len(table) > 50
    assert day.held, day
