"""The predictions of every instance for the test examples, and the candidate's labels of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perennial.errors import TrainingError
from perennial.evaluation.prediction_table import KEY, Array, Examples, check_labels
from perennial.export.served_model import ServedModel
from perennial.tasks import Task


@dataclass(frozen=True)
class Instances:
    """Predictions of the instances.

    Attributes:
        candidate: The model that faces the champion, in memory.
        labels: Its labels of the examples by task, int64 [n] or float32 [n].
        predictions: By instance and task: class probabilities, float32 [n, classes], or values,
            float32 [n].
        not_measured: Which instances are left out, and why.
    """

    candidate: ServedModel
    labels: dict[str, Array]
    predictions: dict[str, dict[str, Array]]
    not_measured: list[str]


def predict_instances(
    tasks: Sequence[Task], models: Mapping[str, Path], candidate: str, examples: Examples
) -> Instances:
    """Predicts the examples with every instance; each is loaded once.

    Args:
        tasks: What is predicted.
        models: SavedModel of each instance.
        candidate: The instance that faces the champion.
        examples: What to predict.

    Raises:
        ProjectError: A label cannot be measured by.
        TrainingError: The candidate's predictions are not finite, or a model does not take an
            example.
    """
    chosen = _load(candidate, models[candidate])
    labels = chosen.label_examples(examples.records)
    for task in tasks:
        check_labels(task, labels[task.name], examples)
    instances = Instances(chosen, labels, {}, [])
    for name, folder in models.items():
        model = chosen if name == candidate else _load(name, folder)
        predictions = model.predict_examples(examples.records)
        bad = not_finite(predictions, examples)
        if bad and name == candidate:
            remedy = (
                "Check the range of that example's features in preprocessing_fn, or lower "
                "train.learning_rate."
            )
            raise TrainingError(model.name, "must give finite predictions", bad, remedy)
        if bad:
            instances.not_measured.append(f"{name} was not measured: it gives {bad}")
        else:
            instances.predictions[name] = predictions
    return instances


def not_finite(predictions: Mapping[str, Array], examples: Examples) -> str | None:
    """Names what of a model's predictions is NaN or infinite; None where all are finite."""
    for task, values in predictions.items():
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            count, key = int((~finite).sum()), examples.named[KEY][int(np.argmin(finite))]
            return (
                f"NaN or infinity for {count} of {len(values)} test examples of task `{task}`, "
                f"such as {key}"
            )
    return None


def _load(instance: str, folder: Path) -> ServedModel:
    return ServedModel.load(folder, name=f"model of {instance}")
