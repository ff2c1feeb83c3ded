"""Where models are wrong: confusions, of everything and of groups; the ROC curve.

The worst mistakes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import auc, roc_auc_score

from components.evaluate_model.mistakes import (
    MOST_CELLS,
    MOST_CLASSES,
    MOST_POINTS,
    confusion,
    confusion_by_group,
    find_mistakes,
    roc_points,
)
from perennial.evaluation.groups import Group
from perennial.tasks import Task

LABELS = np.array([0, 1, 2, 1])
RIGHT = np.eye(3)[LABELS] * 0.8 + 0.1 * (1 - np.eye(3)[LABELS])
WRONG = np.roll(RIGHT, 1, axis=1)
DIGIT, FARE = Task("digit", "multi_class", "l"), Task("fare", "regression", "l")


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "span": "2026-01-01",
            "key": [f"digit-{row}" for row in range(4)],
            "label": LABELS,
            "slice:label": [str(label) for label in LABELS],
            "new": list(RIGHT),
            "champion": list(np.vstack([WRONG[:1], RIGHT[1:]])),
        }
    )


def test_confusion_counts_every_example_once(table):
    (matrix,) = confusion(table, "champion", "champion")
    assert matrix.labels == ["0", "1", "2"] and matrix.counts == [[0, 1, 0], [0, 2, 0], [0, 0, 1]]


def test_confusion_has_room_for_a_class_that_the_model_does_not_know(table):
    table["label"] = [0, 1, 4, 1]
    (matrix,) = confusion(table, "new", "candidate")
    assert matrix.labels == ["0", "1", "2", "3", "4"] and matrix.counts[4] == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("label", [MOST_CLASSES, 2**60])
def test_confusion_of_too_many_classes_is_left_out(table, label):
    table["label"] = [0, 1, label, 1]
    assert confusion(table, "new", "candidate") == []


def test_mistakes_are_the_wrong_answers_most_certain_first(table):
    table["new"] = [WRONG[0], RIGHT[1], np.array([0.95, 0.05, 0.0]), RIGHT[3]]
    found = [
        (m.key, m.label, m.predicted, m.probability) for m in find_mistakes(table, DIGIT, "new")
    ]
    assert found == [("digit-2", 2, 0, 0.95), ("digit-0", 0, 1, pytest.approx(0.8))]


def test_mistakes_of_values_are_the_largest_errors_first(table):
    table["label"], table["new"] = np.float32([3, 8, 20, 5]), np.float32([4, 8, 10.5, 5.25])
    found = [
        (m.key, m.label, m.predicted, m.probability) for m in find_mistakes(table, FARE, "new")
    ]
    assert found == [
        ("digit-2", 20.0, 10.5, None),
        ("digit-0", 3.0, 4.0, None),
        ("digit-3", 5.0, 5.25, None),
    ]


def test_confusion_of_groups_sums_to_the_whole(table):
    groups = [Group("span=1", np.array([0, 2])), Group("span=2", np.array([1, 3]))]
    found = dict(confusion_by_group(table, "champion", "champion", groups))
    (whole,) = confusion(table, "champion", "champion")
    assert found["span=1"].counts == [[0, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert np.array_equal(sum(np.array(matrix.counts) for matrix in found.values()), whole.counts)
    assert all(matrix.labels == whole.labels for matrix in found.values())


def test_confusions_of_many_groups_are_as_many_as_a_dashboard_takes(table):
    groups = [Group(f"g={number}", np.array([0])) for number in range(MOST_CELLS // 9 + 5)]
    assert len(confusion_by_group(table, "new", "candidate", groups)) == MOST_CELLS // 9


def tips(labels, scores):
    """A table of a binary task."""
    return pd.DataFrame({"label": labels, "new": list(np.stack([1 - scores, scores], axis=1))})


def test_roc_curve_has_the_area_of_the_scores_and_finite_thresholds():
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 2, 3000), random.uniform(size=3000)
    scores = np.clip(scores + 0.2 * labels, 0, 1)
    false, true, thresholds = roc_points(tips(labels, scores), "new")
    assert 50 < len(false) == len(true) == len(thresholds) <= MOST_POINTS
    assert np.isfinite(thresholds).all() and max(thresholds) <= 1
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert auc(false, true) == pytest.approx(roc_auc_score(labels, scores), abs=2e-3)


def test_there_is_no_roc_curve_of_one_class():
    assert roc_points(tips(np.ones(5, dtype=int), np.linspace(0, 1, 5)), "new") == ([], [], [])
