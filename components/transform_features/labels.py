"""Checks the labels that models are to be trained on: those that `preprocessing_fn` gave."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from perennial.errors import DataError
from perennial.evaluation.prediction_table import Array
from perennial.project import Project
from perennial.tasks import Task, refuse_bounds
from perennial.training.transformed_features import TransformedFeatures
from perennial.user_module import function_line

_SHOWN = 3


def check_labels(project: Project, features: TransformedFeatures) -> None:
    """Checks that each task takes its labels, and that there is something to learn from them.

    Raises:
        DataError: A task does not take some of them, or all of the train split are the same.
    """
    for name in features.weight_features():
        if not features.mean_weight(name) > 0:
            raise DataError(
                f"`{name}`, which weights examples",
                "must be above 0 in some example of the train split",
                "0 in all of them",
                "Land other weights, or take it out of model.tasks[].example_weight.",
            )
    for number, task in enumerate(project.tasks):
        labels = {split: features.label_values(task, split) for split in ("train", "eval")}
        _check_values(project, number, task, labels)
        train = labels["train"]
        if not len(train):
            continue  # which training says
        expected = refuse_bounds(task.kind, float(train.min()), float(train.max()))
        if expected is not None:
            received = f"{_brief(train)} in all {len(train)} examples of the train split"
            raise _error(project, number, f"must be {expected}", received)


def _check_values(project: Project, number: int, task: Task, labels: Mapping[str, Array]) -> None:
    every = np.concatenate(list(labels.values())).astype(np.float64)
    expected, taken = {
        "binary": ("0 or 1", (every == 0) | (every == 1)),
        "multi_class": ("class numbers from 0", (every >= 0) & (every == np.floor(every))),
        "regression": ("finite numbers", np.isfinite(every)),
    }[task.kind]
    refused = ~(taken & np.isfinite(every))
    if refused.any():
        received = f"{_brief(every[refused])} in {int(refused.sum())} of {len(every)} examples"
        raise _error(project, number, f"must be {expected}", received)


def _error(project: Project, number: int, expected: str, received: str) -> DataError:
    task = project.tasks[number]
    remedy = f"Correct the labels in {function_line(project.module().preprocessing_fn)}."
    if task.reads_landed(project.settings.label):
        remedy = (
            "Land other labels, or make a label of them in preprocessing_fn under another name "
            f"and set model.tasks[{number}].label to it."
        )
    return DataError(
        f"labels `{task.label}` of the {task.kind} task `{task.name}`", expected, received, remedy
    )


def _brief(labels: Array) -> str:
    values = np.unique(labels)
    shown = ", ".join(f"{value:g}" for value in values[:_SHOWN].tolist())
    return f"{shown} and {len(values) - _SHOWN} others" if len(values) > _SHOWN else shown
