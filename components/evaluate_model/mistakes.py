"""Finds confusions of classes, and the candidate's worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from perennial.evaluation.groups import Group
from perennial.evaluation.prediction_table import KEY, LABEL, SPAN, class_scores
from perennial.tasks import Task
from schemas.records import OVERALL, ConfusionMatrix, Mistake

if TYPE_CHECKING:
    import pandas as pd

_MISTAKES = 20
# A picture of more classes shows nothing, and the record would hold the square of their number.
MOST_CLASSES = 100
# A dashboard's record of more numbers is refused by some databases.
MOST_CELLS = 50_000
MOST_POINTS = 100


def confusion(table: pd.DataFrame, model: str, named: str) -> list[ConfusionMatrix]:
    """Counts true against predicted classes: those that the model can give or a label has.

    None where there are more than `MOST_CLASSES`.
    """
    everything = Group(OVERALL, np.arange(len(table)))
    return [matrix for _, matrix in confusion_by_group(table, model, named, [everything])]


def confusion_by_group(
    table: pd.DataFrame, model: str, named: str, groups: Sequence[Group]
) -> list[tuple[str, ConfusionMatrix]]:
    """Counts the confusions of each group of examples, by its name; all with the same classes.

    There are as many groups as `MOST_CELLS` allows.
    """
    labels, scores = table[LABEL].to_numpy(dtype=np.int64), class_scores(table, model)
    classes = max(scores.shape[1], int(labels.max()) + 1)
    if classes > MOST_CLASSES:
        return []
    predicted, names = scores.argmax(axis=1), [str(number) for number in range(classes)]
    matrices = []
    for group in groups[: MOST_CELLS // classes**2]:
        counts = np.zeros((classes, classes), dtype=int)
        np.add.at(counts, (labels[group.rows], predicted[group.rows]), 1)
        matrices.append(
            (group.name, ConfusionMatrix(model=named, labels=names, counts=counts.tolist()))
        )
    return matrices


def roc_points(table: pd.DataFrame, model: str) -> tuple[list[float], list[float], list[float]]:
    """Gives the ROC curve of a binary task: false and true positive rates, and thresholds.

    There are at most `MOST_POINTS` points. Empty where the examples are of one class: then there is
    no such curve.
    """
    from sklearn.metrics import roc_curve

    labels = table[LABEL].to_numpy()
    if len(np.unique(labels)) < 2:
        return [], [], []
    rates = np.stack(roc_curve(labels, class_scores(table, model)[:, 1]), axis=1)
    # The curve begins where nothing is called positive, at a threshold that scikit-learn calls
    # infinite.
    rates[:, 2] = np.minimum(rates[:, 2], 1.0)
    chosen = np.unique(
        np.linspace(0, len(rates) - 1, min(len(rates), MOST_POINTS)).round().astype(int)
    )
    false, true, thresholds = rates[chosen].T.tolist()
    return false, true, thresholds


def find_mistakes(table: pd.DataFrame, task: Task, model: str) -> list[Mistake]:
    """Lists the examples on which a model is most wrong, worst first.

    Of classes: those that it got wrong with the most certainty; of values: those with the largest
    errors.
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
