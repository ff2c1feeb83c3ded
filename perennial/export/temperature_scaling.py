"""Temperature scaling: probabilities that are as often right as they say.

A model's logits are divided by one number T, which makes all probabilities more even (T > 1) or
less (T < 1) and leaves every predicted class as it is. Of probabilities p the logits are log p, but
for a constant that softmax ignores.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perennial.tasks import Task

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from perennial.project import Project
    from perennial.training.transformed_features import TransformedFeatures

    Array = np.ndarray[Any, np.dtype[Any]]

LEAST_EXAMPLES = 50
"""With fewer, the temperature would tell of these examples more than of the model."""
COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of the temperature.

Beyond them probabilities are 0 and 1, or all equal, whatever the model says.
"""
_MOST_EXAMPLES = 50_000  # one number is known well enough then
_BATCH = 512
# A probability of 0 has no logarithm. Source: Keras's epsilon, which the training losses clip at,
# too.
_LEAST_PROBABILITY = 1e-7
# A minimum is at the bound when it is as near as the search tells points apart.
_AT_BOUND = 1.01

Temperatures = Mapping[str, float | None]
"""The temperature of each task with classes; None.

Its probabilities stay as the model gives them.
"""


@dataclass(frozen=True)
class Fitted:
    """Temperatures by task, and what a person should know of them."""

    temperatures: Temperatures = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def fit_temperatures(
    project: Project, answers: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> Fitted:
    """Fits the temperature of each task with classes.

    Of none where the settings ask for no calibration.

    Args:
        project: Its `model.calibration` and tasks decide.
        answers: Batches of the eval split: what the model gives by task, [n, 1], [n] or [n,
            classes], and the labels by task, int [n]. Only the first 50,000 examples are read, and
            nothing where there is nothing to fit.
    """
    tasks = [task for task in project.tasks if task.is_classes]
    if project.settings.model.calibration == "none" or not tasks:
        return Fitted()
    read = _gather(tasks, answers)
    temperatures, notes = {}, []
    for task in tasks:
        temperatures[task.name], note = _fit_task(task, *read[task.name])
        notes += [note] if note else []
    return Fitted(temperatures, notes)


def fit_temperature(probabilities: Array, labels: Array) -> float:
    """Fits the temperature with the lowest mean log loss, from 0.05 to 20.

    Args:
        probabilities: float [n, classes], of uncalibrated predictions.
        labels: The true classes, int [n].
    """
    import numpy as np
    from scipy.optimize import minimize_scalar

    logits = np.log(np.clip(probabilities.astype(np.float64), _LEAST_PROBABILITY, 1.0))
    logits -= logits.max(axis=1, keepdims=True)  # then no exponential overflows
    right = logits[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        sharpness = math.exp(-log_temperature)
        return float((np.log(np.exp(logits * sharpness).sum(axis=1)) - right * sharpness).mean())

    # The loss is convex in 1/T, so that it has one minimum in log T, too.
    minimum = minimize_scalar(loss, bounds=(math.log(COLDEST), math.log(HOTTEST)), method="bounded")
    return math.exp(float(minimum.x))


def scale(probabilities: tf.Tensor, temperature: float | None) -> tf.Tensor:
    """Gives probabilities float32 [n, classes] with their logits divided by a temperature.

    As they are where it is None.
    """
    import tensorflow as tf

    if temperature is None:
        return probabilities
    return tf.nn.softmax(
        tf.math.log(tf.maximum(probabilities, _LEAST_PROBABILITY)) / temperature, axis=-1
    )


def both_classes(output: tf.Tensor) -> tf.Tensor:
    """Gives the probabilities of 0 and of 1, float32 [n, 2], from that of 1, [n, 1] or [n]."""
    import tensorflow as tf

    one = tf.reshape(tf.cast(output, tf.float32), [-1, 1])
    return tf.concat([1 - one, one], axis=1)


def eval_answers(
    model: keras.Model, features: TransformedFeatures
) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Predicts the eval split with a model of transformed features.

    Gives outputs and labels, in batches by task.
    """
    import tensorflow as tf

    from perennial.training.losses import task_outputs
    from perennial.training.model_call import call_model

    def answer(records: tf.Tensor) -> Any:
        inputs, labels = features.parse(records)
        return task_outputs(call_model(model, inputs, training=False), features.tasks), labels

    function = tf.function(answer, autograph=False).get_concrete_function(
        tf.TensorSpec([None], tf.string)
    )
    for records in features.records("eval").batch(_BATCH):
        yield function(records)


def _gather(
    tasks: Sequence[Task], answers: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> dict[str, tuple[Array, Array]]:
    """Gives the probabilities, float [n, classes], and the labels, int [n], of each task."""
    import numpy as np

    read: dict[str, list[tuple[Array, Array]]] = {task.name: [] for task in tasks}
    count = 0
    for outputs, labels in answers:
        for task in tasks:
            given = np.asarray(outputs[task.name]).astype(np.float32)
            if task.kind == "binary":
                given = np.stack([1 - given.reshape(-1), given.reshape(-1)], axis=1)
            read[task.name].append((given, np.asarray(labels[task.name]).reshape(-1)))
        count += len(read[tasks[0].name][-1][1])
        if count >= _MOST_EXAMPLES:
            break
    empty = (np.zeros((0, 1)), np.zeros(0, np.int64))
    return {
        name: (np.concatenate([p for p, _ in batches]), np.concatenate([n for _, n in batches]))
        if batches
        else empty
        for name, batches in read.items()
    }


def _fit_task(task: Task, probabilities: Array, labels: Array) -> tuple[float | None, str | None]:
    """Fits a task's temperature; also gives what a person should know of it."""
    import numpy as np

    known = (
        (labels >= 0) & (labels < probabilities.shape[1]) & np.isfinite(probabilities).all(axis=1)
    )
    probabilities, labels = probabilities[known], labels[known]
    why = None
    if len(labels) < LEAST_EXAMPLES:
        why = f"the eval split has {len(labels)} examples to fit it on, fewer than {LEAST_EXAMPLES}"
    elif len(np.unique(labels)) < 2:
        why = f"the eval split has only the class {labels[0]}"
    if why:
        return None, f"`{task.name}` was not calibrated: {why}"
    temperature = fit_temperature(probabilities, labels)
    if COLDEST * _AT_BOUND < temperature < HOTTEST / _AT_BOUND:
        return temperature, None
    return (
        temperature,
        f"the temperature of `{task.name}` is at its bound ({temperature:.3g}): the eval split "
        "tells no better one",
    )
