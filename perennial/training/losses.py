"""Losses, which training minimises, and scores, which metrics average, by kind of task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perennial.tasks import LATENT, Task

if TYPE_CHECKING:
    import tensorflow as tf

# Below this probability a log loss says how it is clipped, not how wrong it is. Source: Keras's
# epsilon.
_LEAST = 1e-7


def task_outputs(outputs: Any, tasks: Sequence[Task]) -> dict[str, tf.Tensor]:
    """Gives a model's outputs by task.

    A model gives a tensor for one task, or a dictionary with the tasks' names.

    Raises:
        ValueError: The outputs are of another form, or lack a task.
    """
    import tensorflow as tf

    if isinstance(outputs, dict):
        missing = [task.name for task in tasks if task.name not in outputs]
        if missing:
            given = ", ".join(name for name in outputs if name != LATENT) or "none"
            raise ValueError(f"outputs named {given}, without {', '.join(missing)}")
        return {task.name: outputs[task.name] for task in tasks}
    if not tf.is_tensor(outputs) or len(tasks) > 1:
        raise ValueError(f"one output of type {type(outputs).__name__} for {len(tasks)} tasks")
    return {tasks[0].name: outputs}


def example_losses(task: Task, label: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Computes the loss of each example, float32 [n].

    It is the cross-entropy in nats for classes, the squared error for values.

    Args:
        task: Whose kind decides.
        label: int64 [n] or float32 [n].
        output: As the model gives it: [n, classes] or [n, 1].
    """
    import tensorflow as tf

    output = tf.cast(output, tf.float32)
    if task.kind == "regression":
        return tf.square(tf.reshape(output, [-1]) - label)
    if task.kind == "binary":
        one = tf.clip_by_value(tf.reshape(output, [-1]), _LEAST, 1 - _LEAST)
        truth = tf.cast(label, tf.float32)
        return -(truth * tf.math.log(one) + (1 - truth) * tf.math.log(1 - one))
    right = tf.gather(output, label, axis=1, batch_dims=1)
    return -tf.math.log(tf.clip_by_value(right, _LEAST, 1.0))


def example_scores(task: Task, label: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Computes what the task's metric averages: 1 for a right class, or the absolute error.

    It is float32 [n].
    """
    import tensorflow as tf

    if task.kind == "regression":
        return tf.abs(tf.reshape(tf.cast(output, tf.float32), [-1]) - label)
    return tf.cast(tf.equal(predicted_classes(task, output), label), tf.float32)


def example_weights(task: Task, labels: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Gives how much each example counts in a task, float32 [n]; 1 where nothing says so."""
    import tensorflow as tf

    if task.weights in labels:
        return labels[task.weights]
    return tf.ones_like(labels[task.name], tf.float32)


def predicted_classes(task: Task, output: tf.Tensor) -> tf.Tensor:
    """Gives the most probable class, int64 [n]; of two equally probable ones the first."""
    import tensorflow as tf

    if task.kind == "binary":
        return tf.cast(tf.reshape(output, [-1]) > 0.5, tf.int64)
    return tf.argmax(output, axis=-1, output_type=tf.int64)


def total_losses(
    tasks: Sequence[Task],
    labels: Mapping[str, tf.Tensor],
    outputs: Any,
    weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Computes the tasks' weighted loss of each example, float32 [n].

    Each task's counts by the weights of examples that stand beside its labels. `weights` are those
    of the first task's classes.
    """
    import tensorflow as tf

    by_task = task_outputs(outputs, tasks)
    losses = [
        task.weight
        * example_weights(task, labels)
        * example_losses(task, labels[task.name], by_task[task.name])
        for task in tasks
    ]
    if weights is not None:
        losses[0] *= tf.gather(
            weights, tf.minimum(labels[tasks[0].name], tf.shape(weights, tf.int64)[0] - 1)
        )
    return tf.add_n(losses)
