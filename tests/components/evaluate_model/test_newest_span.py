"""The newest span beside the older ones, and single examples that make a metric."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from components.evaluate_model.measurements import Measured
from components.evaluate_model.newest_span import difference_of, measure_newest
from components.evaluate_model.outliers import find_outliers
from perennial.evaluation.bootstrap import Interval
from perennial.evaluation.prediction_table import KEY, LABEL, SPAN, VIEW, TaskTable
from perennial.tasks import METRICS, Task
from tests.perennial.folders import make_project

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]
ROWS = 300


def spans(rows=ROWS):
    days = np.repeat(DAYS, rows)
    return {
        SPAN: days,
        KEY: [f"key-{number}" for number in range(len(days))],
        f"{VIEW}newest span": days == DAYS[-1],
    }


def measured(tmp_path, kind, frame, metric, models=("champion",)):
    project = make_project(tmp_path / "project", gate={"metric": metric, "floors": {}})
    task = Task("prediction", kind, "label")
    table = TaskTable(task, pd.DataFrame(frame), list(models))
    return Measured(project, "instance-1", "digest", [table], {})


def flipped(share):
    """A champion that is right in 86% of the rows, and labels of which a share is flipped on the newest day."""
    rng = np.random.default_rng(4)
    frame = spans()
    truth = rng.integers(0, 2, len(frame[SPAN]))
    right = rng.random(len(truth)) < 0.86
    scores = np.where(right == (truth == 1), 0.8, 0.2)
    mixed = frame[f"{VIEW}newest span"] & (rng.random(len(truth)) < share)
    probabilities = list(np.stack([1 - scores, scores], axis=1))
    return frame | {LABEL: np.where(mixed, 1 - truth, truth), "champion": probabilities}


@pytest.mark.parametrize("metric", METRICS["binary"])
def test_flipped_labels_show_as_a_fall_of_the_champion_on_the_newest_span(tmp_path, metric):
    (row,) = measure_newest(measured(tmp_path, "binary", flipped(0.4), metric))
    assert (row.model, row.span, row.examples, row.older_examples) == (
        "champion",
        DAYS[-1],
        ROWS,
        2 * ROWS,
    )
    assert row.change < row.high < 0
    if metric == "accuracy":
        assert row.older == pytest.approx(0.86, abs=0.03)
        assert row.newest == pytest.approx(0.86 - 0.4 * 0.72, abs=0.05)
    if metric == "log_loss":
        assert row.newest > row.older > 0


@pytest.mark.parametrize("metric", METRICS["binary"])
def test_nothing_flipped_is_no_fall(tmp_path, metric):
    (row,) = measure_newest(measured(tmp_path, "binary", flipped(0.0), metric))
    assert row.low < 0 < row.high


def test_a_part_with_few_examples_has_no_interval(tmp_path):
    frame = {name: values[: 2 * ROWS + 10] for name, values in flipped(0.4).items()}
    (row,) = measure_newest(measured(tmp_path, "binary", frame, "accuracy"))
    assert row.examples == 10 and math.isnan(row.low) and math.isnan(row.high)


def test_without_the_view_nothing_is_measured(tmp_path):
    frame = flipped(0.4)
    del frame[f"{VIEW}newest span"]
    assert measure_newest(measured(tmp_path, "binary", frame, "accuracy")) == []


def test_a_difference_of_normal_means_has_their_common_interval():
    first, second = Interval(1.0, 0.7, 1.3), Interval(0.5, 0.1, 0.9)
    assert difference_of(first, second) == pytest.approx((0.5, 0.0, 1.0))


@pytest.mark.parametrize("metric", METRICS["regression"])
def test_one_outlier_that_makes_most_of_an_error_is_named_with_its_share(tmp_path, metric):
    rng = np.random.default_rng(5)
    frame = spans(40)
    labels = rng.normal(100, 5, len(frame[SPAN]))
    predicted = labels + rng.normal(0, 6, len(labels))
    labels[17] += 14_000
    found = measured(tmp_path, "regression", frame | {LABEL: labels, "champion": predicted}, metric)
    (outlier,) = find_outliers(found)
    assert (outlier.key, outlier.span, outlier.examples) == ("key-17", DAYS[0], 120)
    assert outlier.share > 0.9 and outlier.value > 10 * outlier.without
    assert outlier.value == pytest.approx(
        outlier.share * outlier.value + outlier.without * 119 / 120
    )


@pytest.mark.parametrize(
    ("kind", "metric"), [("binary", "accuracy"), ("binary", "auc"), ("binary", "log_loss")]
)
def test_no_example_of_many_stands_out(tmp_path, kind, metric):
    assert find_outliers(measured(tmp_path, kind, flipped(0.0), metric)) == []
