"""Outputs of a user's SavedModel, and the task that each belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.errors import ProjectError, TrainingError
from perennial.tasks import LATENT, Task

if TYPE_CHECKING:
    import tensorflow as tf

Arrays = Mapping[str, "np.ndarray[Any, Any]"]

# How far 16-bit rounding may take a probability, or a softmax's sum.
_ROUNDING = 0.02


@dataclass(frozen=True)
class TaskOutput:
    """The output of a user's model for a task.

    Attributes:
        task: The task.
        name: Name of the output.
        size: How many values it has for a row.
        logits: Its values become probabilities by a sigmoid, or by a softmax if there are several.
    """

    task: Task
    name: str
    size: int
    logits: bool = False

    def read(self, outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Gives its values as the served model does: float32 [n, 1], or [n, classes] of several."""
        import tensorflow as tf

        values = tf.reshape(tf.cast(outputs[self.name], tf.float32), [-1, self.size])
        if self.logits:
            values = tf.sigmoid(values) if self.size == 1 else tf.nn.softmax(values)
        return values[:, 1:] if self.task.kind == "binary" and self.size > 1 else values


def choose_outputs(
    outputs: Arrays, rows: int, tasks: Sequence[Task], where: str
) -> list[TaskOutput]:
    """Chooses the output of each task: the one with its name, or with that of its label.

    The only output belongs to a single task, whatever its name.

    Args:
        outputs: What the model gave for some rows, by name.
        rows: How many rows those were.
        tasks: What it should predict.
        where: Where the `run_fn` stands, for messages.

    Raises:
        ProjectError: A task has no output, or one that is not of its kind.
        TrainingError: An output is not finite.
    """
    return [_check(_choose(outputs, task, tasks, where), outputs, rows, where) for task in tasks]


def _choose(outputs: Arrays, task: Task, tasks: Sequence[Task], where: str) -> TaskOutput:
    others = [name for name in outputs if name != LATENT]
    names = [name for name in (task.name, task.label) if name in others]
    if not names and len(tasks) == len(others) == 1:
        names = others
    if not names:
        expected = f"must save a model with an output for the task `{task.name}`"
        remedy = (
            f"Name an output `{task.name}` as the task, or `{task.label}` as its label, in the "
            "signature serving_default, or correct model.tasks in project.yaml."
        )
        raise ProjectError(where, expected, _describe(outputs), remedy)
    name = names[0]
    values = outputs[name]
    return TaskOutput(task, name, int(np.prod(values.shape[1:], dtype=int)))


def _check(output: TaskOutput, outputs: Arrays, rows: int, where: str) -> TaskOutput:
    values, task = outputs[output.name], output.task
    fits = {
        "binary": output.size in (1, 2),
        "multi_class": output.size > 1,
        "regression": output.size == 1,
    }[task.kind]
    required = {
        "binary": "a probability or a logit for each row, or one for each of two classes",
        "multi_class": "a probability or a logit for each class",
        "regression": "a number for each row",
    }[task.kind]
    expected = (
        f"must save a model whose output `{output.name}` is {required}, as the task `{task.name}` "
        f"is {task.kind}"
    )
    if not (
        fits
        and values.ndim in (1, 2)
        and len(values) == rows
        and np.issubdtype(values.dtype, np.number)
    ):
        remedy = "Correct the signature serving_default, or the task's kind in project.yaml."
        raise ProjectError(where, expected, _describe(outputs), remedy)
    known = values[np.isfinite(values).reshape(rows, -1).all(axis=1)].reshape(-1, output.size)
    if not len(known):
        remedy = (
            "Check the features' range in preprocessing_fn, or lower the learning rate in run_fn."
        )
        raise TrainingError(
            where, f"must save a model whose output `{output.name}` is finite", values[0], remedy
        )
    return output


def decide_forms(
    chosen: Sequence[TaskOutput], answers: Iterable[Arrays], where: str
) -> tuple[list[TaskOutput], list[str]]:
    """Decides which outputs are logits: those of the settings, or by what the model answers.

    Args:
        chosen: The outputs of the tasks.
        answers: What the model gave for some rows, by output, [n] or [n, size].
        where: Where the `run_fn` stands, for messages.

    Returns:
        The outputs, and what a person should know of them.

    Raises:
        ProjectError: An output is not what `model.tasks[].output` says.
    """
    read = list(answers) if any(output.task.is_classes for output in chosen) else []
    decided: list[TaskOutput] = []
    notes: list[str] = []
    for output in chosen:
        if not output.task.is_classes:
            decided.append(output)
            continue
        values = np.concatenate([answer[output.name].reshape(-1, output.size) for answer in read])
        deviation = _not_probabilities(values[np.isfinite(values).all(axis=1)])
        _require_form(output, deviation, where)
        logits = output.task.output == "logits" or bool(deviation)
        decided.append(replace(output, logits=logits))
        if logits and output.task.output == "auto":
            notes.append(
                f"run_fn's output `{output.name}` gives logits ({deviation}): the served model "
                f"makes probabilities of them by a {'sigmoid' if output.size == 1 else 'softmax'}"
            )
    return decided, notes


def _require_form(output: TaskOutput, deviation: str, where: str) -> None:
    """Checks an output beside `model.tasks[].output`."""
    setting = f"as model.tasks[].output of `{output.task.name}` says"
    if output.task.output == "probabilities" and deviation:
        raise ProjectError(
            where,
            f"must save a model whose output `{output.name}` is probabilities, {setting}",
            deviation,
            "Set it to logits, or end the model with a sigmoid or a softmax.",
        )
    # A single logit may lie between 0 and 1; those of several classes do not sum to 1 in each row.
    if output.task.output == "logits" and output.size > 1 and not deviation:
        raise ProjectError(
            where,
            f"must save a model whose output `{output.name}` is logits, {setting}",
            "rows from 0 to 1 that all sum to 1",
            "Set it to probabilities, or leave it out.",
        )


def check_classes(chosen: Sequence[TaskOutput], highest: Mapping[str, int], where: str) -> None:
    """Checks that there is a probability for every label.

    Args:
        chosen: The outputs of the tasks.
        highest: Task -> its highest label.
        where: Where the `run_fn` stands, for messages.

    Raises:
        ProjectError: A label lies beyond the classes of an output.
    """
    for output in chosen:
        classes = 2 if output.task.kind == "binary" else output.size
        if output.task.is_classes and highest[output.task.name] >= classes:
            expected = (
                f"must save a model with a probability for each class of `{output.task.label}`"
            )
            received = f"{classes} classes for labels up to {highest[output.task.name]}"
            raise ProjectError(
                where, expected, received, "Correct the model's last layer, or the label."
            )


def _not_probabilities(values: np.ndarray[Any, Any]) -> str:
    """Says why rows of values [n, size] are no probabilities; empty when they may be."""
    low, high = float(values.min()), float(values.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        return f"values from {low:.3g} to {high:.3g}"
    totals = values.sum(axis=1)
    total = float(totals[np.argmax(np.abs(totals - 1))])
    return (
        f"a row that sums to {total:.3g}"
        if values.shape[1] > 1 and abs(total - 1) > _ROUNDING
        else ""
    )


def _describe(outputs: Arrays) -> str:
    shapes = {
        name: ", ".join(["n", *map(str, values.shape[1:])]) for name, values in outputs.items()
    }
    return (
        ", ".join(f"`{name}` {outputs[name].dtype} [{shape}]" for name, shape in shapes.items())
        or "no output"
    )
