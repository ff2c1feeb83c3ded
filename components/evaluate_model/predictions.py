"""What a SavedModel says of examples: its predictions and its labels, task by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perennial.errors import TrainingError
from perennial.evaluation.prediction_table import KEY, Array, Examples, check_labels
from perennial.export.contract import read_contract
from perennial.export.saved_model import EXAMPLES_SIGNATURE, LABELS_SIGNATURE
from perennial.tasks import PARTS, Task, output_name
from schemas.records import ServedTask
from serving.causes import tensorflow_cause

_BATCH = 1024


class Contender:
    """A SavedModel in memory.

    Args:
        name: What it is called in messages.
        saved_model: Its folder, with the contract that says what it predicts.
    """

    def __init__(self, name: str, saved_model: Path) -> None:
        import tensorflow as tf

        self._name = name
        contract = read_contract(saved_model)
        self.tasks: dict[str, ServedTask] = {task.name: task for task in contract.tasks}
        self._loaded = tf.saved_model.load(str(saved_model))

    def predict(self, records: Sequence[bytes]) -> dict[str, Array]:
        """Predictions of serialised examples by task, through the served graph.

        Gives class probabilities, float32 [n, classes] (two of a binary task), or values, float32 [n].

        Raises:
            TrainingError: The model does not take an example.
        """
        names = list(self.tasks)
        # The last part is what the others follow from: the class is the most probable one.
        outputs = {name: output_name(names, name, PARTS[task.kind][-1]) for name, task in self.tasks.items()}
        found = self._ask(EXAMPLES_SIGNATURE, records)
        return {name: found[output] for name, output in outputs.items()}

    def labels(self, records: Sequence[bytes]) -> dict[str, Array]:
        """Labels of serialised examples by task, as the model learned them: int64 [n], or float32 [n] of values.

        Raises:
            TrainingError: The model does not take an example.
        """
        return {name: found.reshape(-1) for name, found in self._ask(LABELS_SIGNATURE, records).items()}

    def _ask(self, signature: str, records: Sequence[bytes]) -> dict[str, Array]:
        import tensorflow as tf

        serve = self._loaded.signatures[signature]
        batches = [records[start : start + _BATCH] for start in range(0, len(records), _BATCH)]
        try:
            answers = [serve(examples=tf.constant(batch)) for batch in batches]
        except tf.errors.OpError as error:
            cause, remedy = tensorflow_cause(str(error.message)), "Correct schema.pbtxt or preprocessing_fn."
            raise TrainingError(self._name, "must take every test example", cause, remedy) from error
        return {name: np.concatenate([answer[name].numpy() for answer in answers]) for name in answers[0]}


@dataclass(frozen=True)
class Instances:
    """What the instances say of the examples.

    `predictions` are by model and task: class probabilities, float32 [n, classes], or values, float32 [n]; `labels`
    by task, [n], are the candidate's, whose model is in memory. `not_measured` says which instances are left out, and
    why.
    """

    candidate: Contender
    labels: dict[str, Array]
    predictions: dict[str, dict[str, Array]]
    not_measured: list[str]


def predict_instances(
    tasks: Sequence[Task], models: Mapping[str, Path], candidate: str, examples: Examples
) -> Instances:
    """Predicts the examples with every instance.

    Args:
        tasks: What is predicted.
        models: SavedModel of each instance.
        candidate: The instance that faces the champion.
        examples: What to predict.

    Raises:
        ProjectError: A label cannot be measured by.
        TrainingError: The candidate's predictions are not finite, or a model does not take an example.
    """
    contender = Contender(f"model of {candidate}", models[candidate])
    labels = contender.labels(examples.records)
    for task in tasks:
        check_labels(task, labels[task.name], examples)
    found = Instances(contender, labels, {}, [])
    for name, model in models.items():
        chosen = name == candidate
        predictions = (contender if chosen else Contender(f"model of {name}", model)).predict(examples.records)
        bad = not_finite(predictions, examples)
        if bad and chosen:
            remedy = "Check the range of that example's features in preprocessing_fn, or lower train.learning_rate."
            raise TrainingError(f"model of {name}", "must give finite predictions", bad, remedy)
        if bad:
            found.not_measured.append(f"{name} was not measured: it gives {bad}")
        else:
            found.predictions[name] = predictions
    return found


def not_finite(predictions: Mapping[str, Array], examples: Examples) -> str | None:
    """Says which of a model's predictions are NaN or infinite; None where all are finite."""
    for task, found in predictions.items():
        finite = np.isfinite(found).reshape(len(found), -1).all(axis=1)
        if not finite.all():
            count, key = int((~finite).sum()), examples.named[KEY][int(np.argmin(finite))]
            return f"NaN or infinity for {count} of {len(found)} test examples of task `{task}`, such as {key}"
    return None
