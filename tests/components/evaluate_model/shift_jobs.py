"""Re-weighting of a trained model's test split; runs in a process of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from perennial.errors import NotComparedError
from perennial.project import Project
from tests.components.evaluate_model.jobs import saved_model
from tests.kinds import Kind


def reweigh(project: Project, kind: Kind) -> dict[str, Any] | str:
    """What `estimate_weights` makes of the project's log, and the mean weights of some examples."""
    from components.evaluate_model.serving_distribution import estimate_weights
    from perennial.evaluation.prediction_table import read_examples, read_values
    from perennial.export.served_model import ServedModel

    task, model = project.tasks[0], ServedModel.load(saved_model(kind))
    examples = read_examples(kind.window, "id", [])
    labels = model.label_examples(examples.records)[task.name]
    predictions = model.predict_examples(examples.records)[task.name]
    try:
        found = estimate_weights(project, task, model, examples, labels, predictions)
    except NotComparedError as reason:
        return str(reason)
    heavy = np.array([row[0] > 28 for row in read_values(examples.records, ["bmi"])["bmi"]])
    severe = np.asarray(labels) > (0 if task.is_classes else 140)
    means = {"severe": severe, "other": ~severe, "heavy": heavy, "light": ~heavy}
    told = {name: float(found.weights[rows].mean()) for name, rows in means.items()}
    return {
        **found.record.model_dump(),
        **told,
        "mean": float(found.weights.mean()),
        "notes": list(found.notes),
    }
