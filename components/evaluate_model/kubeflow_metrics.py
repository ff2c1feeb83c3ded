"""Gives an evaluation to Kubeflow's dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from components.evaluate_model.mistakes import confusion_by_group, roc_points
from perennial.evaluation.groups import make_groups
from perennial.evaluation.prediction_table import read_table
from perennial.project import Project
from schemas.records import CANDIDATE, ConfusionMatrix, Evaluation


class ClassificationLog(Protocol):
    """The part of Kubeflow's `ClassificationMetrics` that is used."""

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None:
        """Logs counts of true against predicted classes."""

    def log_roc_curve(self, fpr: list[float], tpr: list[float], threshold: list[float]) -> None:
        """Logs the points of an ROC curve."""


def show_confusion(folder: Path, evaluation: Evaluation, log: ClassificationLog) -> None:
    """Logs the candidate's confusion of the first task's classes, and a binary one's ROC curve."""
    if evaluation.confusion:
        log.log_confusion_matrix(evaluation.confusion[0].labels, evaluation.confusion[0].counts)
    first = evaluation.tasks[0]
    if first.kind == "binary":
        log.log_roc_curve(
            *roc_points(read_table(folder, evaluation, first.name), evaluation.candidate)
        )


def show_slices(project: Project, folder: Path, evaluation: Evaluation) -> dict[str, Any]:
    """Makes the metadata of Kubeflow's `SlicedClassificationMetrics`: confusion by slice and view.

    The methods of that class do not work in kfp 2.17: they look for an attribute that nothing sets.
    Slices that are too small to be judged are left out.
    """
    if evaluation.tasks[0].kind == "regression":
        return {}
    table, settings = (
        read_table(folder, evaluation, evaluation.tasks[0].name),
        project.settings.evaluate,
    )
    groups = [
        group
        for group in make_groups(table, settings)
        if len(group.rows) >= settings.least_examples
    ]
    matrices = confusion_by_group(table, evaluation.candidate, CANDIDATE, groups)
    return {
        "evaluationSlices": [
            {"slice": name, "sliceClassificationMetrics": {"confusionMatrix": _matrix(matrix)}}
            for name, matrix in matrices
        ]
    }


def _matrix(matrix: ConfusionMatrix) -> dict[str, Any]:
    return {
        "annotationSpecs": [{"displayName": label} for label in matrix.labels],
        "rows": [{"row": row} for row in matrix.counts],
    }
