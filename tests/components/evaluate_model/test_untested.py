"""What the test split holds no example of is told, not passed over."""

from __future__ import annotations

import numpy as np
import pytest

from components.decide_promotion.step import decide_promotion
from components.evaluate_model.untested import untested_classes
from perennial.tasks import Task
from schemas.records import Evaluation

SPECIES = Task("species", "multi_class", "species")


def told(labels: list[int], predicted: list[int], classes: int) -> list[str]:
    return untested_classes(SPECIES, np.array(labels), np.eye(classes)[predicted])


@pytest.mark.parametrize(
    ("labels", "predicted", "classes", "notes"),
    [
        ([0, 1, 1], [0, 1, 0], 2, []),
        (
            [0, 1, 1],
            [3, 3, 2],
            5,
            ["task `species`: no test example is of class 3 (predicted 2 times), 2 (predicted 1 "
             "time), 4"],
        ),
        ([0, 7], [0, 1], 2, ["task `species`: no test example is of class 1 (predicted 1 time)"]),
    ],
    ids=["all are tested", "three are not", "a label beyond the model's classes"],
)  # fmt: skip
def test_classes_without_a_test_example(labels, predicted, classes, notes):
    assert told(labels, predicted, classes) == notes


def test_many_classes_are_counted():
    (note,) = told([0], [0], 30)
    assert note.endswith("class 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 19 more")


def test_a_class_and_a_slice_that_were_only_learned_are_listed_under_not_compared(leaking):
    evaluation = Evaluation.read(leaking.evaluation)
    notes = ("task `defect`: no test example is of class 2", "no test example is of view=top (12")
    for note in notes:
        assert any(line.startswith(note) for line in evaluation.not_compared), note
    decision = decide_promotion(evaluation, leaking.project.settings.gate)
    assert set(evaluation.not_compared) <= set(decision.not_compared)
