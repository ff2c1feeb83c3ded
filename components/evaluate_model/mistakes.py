"""Where the models are wrong: the confusion of classes, and the examples on which the candidate is most wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from components.evaluate_model.tables import KEY, LABEL, SPAN, class_scores
from perennial.tasks import Task
from schemas.records import ConfusionMatrix, Mistake

if TYPE_CHECKING:
    import pandas as pd

_MISTAKES = 20
# A picture of more classes shows nothing, and the record would hold the square of their number.
MOST_CLASSES = 100


def confusion(table: pd.DataFrame, model: str, named: str) -> list[ConfusionMatrix]:
    """Counts of true against predicted classes; the classes are those that the model can give or a label has.

    None where there are more than `MOST_CLASSES`.
    """
    labels, scores = table[LABEL].to_numpy(dtype=np.int64), class_scores(table, model)
    classes = max(scores.shape[1], int(labels.max()) + 1)
    if classes > MOST_CLASSES:
        return []
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (labels, scores.argmax(axis=1)), 1)
    return [ConfusionMatrix(model=named, labels=[str(i) for i in range(classes)], counts=counts.tolist())]


def find_mistakes(table: pd.DataFrame, task: Task, model: str) -> list[Mistake]:
    """The examples on which a model is most wrong, worst first.

    Of classes: those that it got wrong with the most certainty; of values: those with the largest errors.
    """
    labels, keys = table[LABEL].to_numpy(), table[KEY].astype(str).to_numpy()
    if task.is_classes:
        scores = class_scores(table, model)
        predicted = scores.argmax(axis=1)
        badness = np.where(predicted == labels, 0.0, scores.max(axis=1))
    else:
        predicted = table[model].to_numpy(dtype=float)
        badness = np.abs(predicted - labels)
    worst = [row for row in np.lexsort((keys, -badness))[:_MISTAKES] if badness[row] > 0]
    return [
        Mistake(
            key=str(keys[row]),
            span=str(table[SPAN].iloc[row]),
            label=labels[row].item(),
            predicted=predicted[row].item(),
            probability=float(badness[row]) if task.is_classes else None,
        )
        for row in worst
    ]
