"""The user's model: built, tried on examples, and its parts found."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perennial.errors import ProjectError, describe_error
from perennial.project import Project
from perennial.tasks import LATENT, Task
from perennial.training.finite_values import check_finite
from perennial.training.keras_internals import is_functional, reset_layer_names, tensor_below_head
from perennial.training.losses import task_outputs
from perennial.training.model_call import call_model
from perennial.training.transformed_features import Features, TransformedFeatures
from perennial.user_module import call_line, function_line, user_line

if TYPE_CHECKING:
    import keras
    import keras_tuner
    import tensorflow as tf

Values = Mapping[str, int | float | str | bool]
_PROBED = 64
_SAY_LOGITS = "set model.tasks[].output to logits in project.yaml"
# Methods of a Keras model that its `fit` calls, and the training loop does not.
_OWN_TRAINING = ("train_step", "compute_loss")
# How far 16-bit rounding may take a softmax's sum from 1.
_ROUNDING = 0.02


@dataclass(frozen=True)
class ModelBuilder:
    """Builds the project's model, always with the same weight paths for the same code."""

    project: Project
    features: TransformedFeatures

    @property
    def takes_hp(self) -> bool:
        """Tells whether `build_model` takes hyperparameters beside the transform graph."""
        return len(inspect.signature(self.project.module().build_model).parameters) > 1

    def declared(self) -> keras_tuner.HyperParameters:
        """Gives what `build_model` asks its `hp` for; empty where it takes none.

        Raises:
            ProjectError: The model does not build.
        """
        import keras_tuner

        hp = keras_tuner.HyperParameters()
        if self.takes_hp:
            self._call(self.features.transform_output(), hp)
        return hp

    def build(self, values: Values | None = None) -> keras.Model:
        """Builds the model with these hyperparameters.

        Those without a value have the default that `build_model` gives.

        Raises:
            ProjectError: `build_model` fails, with the user's line, or gives no Keras model with
                weights to train, or one that is to be trained in a way of its own.
        """
        import keras
        import keras_tuner

        reset_layer_names()
        hp = keras_tuner.HyperParameters()
        hp.values = dict(values or {})
        model = self._call(self.features.transform_output(), *([hp] if self.takes_hp else []))
        where = function_line(self.project.module().build_model)
        if not isinstance(model, keras.Model):
            raise ProjectError(
                where=where,
                expected="must return a Keras model",
                received=type(model).__name__,
                remedy="Return keras.Model(inputs, outputs).",
            )
        refuse_own_training(self.project, model, where)
        if not model.built:
            self._try(model, self.features.sample("train", 1)[0])
        if not model.trainable_variables:
            raise ProjectError(
                where=where,
                expected="must return a model with weights to train",
                received=f"a {type(model).__name__} without trainable weights",
                remedy="Add a layer with weights, or unfreeze one.",
            )
        if any(task.output == "logits" for task in self.project.tasks):
            return with_probabilities(model, self.project.tasks, where)
        return model

    def check(self, model: keras.Model) -> None:
        """Tries a model on some examples.

        Raises:
            ProjectError: It does not take the transformed features, its output does not fit the
                tasks, or there are NaN or infinite values that it cannot be trained on.
        """
        check_finite(self.project, self.features, lambda features: self._try(model, features))
        features, _ = self.features.sample("train", _PROBED)
        outputs = self._try(model, features)
        where = function_line(self.project.module().build_model)
        names = ", ".join(f"`{task.name}` ({task.kind})" for task in self.project.tasks)
        try:
            by_task = task_outputs(outputs, self.project.tasks)
        except ValueError as error:
            raise ProjectError(
                where=where,
                expected=f"must give an output for each task: {names}",
                received=error,
                remedy="Return keras.Model(inputs, {task name: output, ...}), or correct "
                "model.tasks in project.yaml.",
            ) from None
        for task in self.project.tasks:
            classes = self.features.classes(task) if task.is_classes else None
            check_output(where, task, by_task[task.name], classes)

    def _call(self, *arguments: Any) -> Any:
        return self._naming_line(self.project.module().build_model, *arguments)

    def _try(self, model: keras.Model, features: Features) -> Any:
        return self._naming_line(
            lambda: call_model(model, features, training=False), names=sorted(features)
        )

    def _naming_line(self, function: Any, *arguments: Any, names: list[str] | None = None) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # whatever the user's code raises
            raise ProjectError(
                where=f"{user_line(self.project.module_path, error)}: build_model",
                expected=f"must build a model that takes the features {', '.join(names)}"
                if names
                else "must build a model",
                received=describe_error(error),
                remedy="Correct it.",
            ) from error


def with_probabilities(model: keras.Model, tasks: Sequence[Task], where: str) -> keras.Model:
    """Gives a model that makes probabilities of the logits of the tasks that say `logits`.

    Raises:
        ProjectError: It is no graph of layers; `where` names the user's line.
    """
    import keras

    if not is_functional(model):
        raise ProjectError(
            where=where,
            expected="must return a graph of layers where model.tasks[].output is logits",
            received=f"a {type(model).__name__}, whose layers are not a graph",
            remedy="Build it as keras.Model(inputs, outputs), or end it with a sigmoid or softmax.",
        )
    outputs = dict(model.output) if isinstance(model.output, dict) else model.output
    for task in tasks:
        if task.output != "logits":
            continue
        activation = "sigmoid" if task.kind == "binary" else "softmax"
        layer = keras.layers.Activation(
            activation, dtype="float32", name=f"{task.name}_probabilities"
        )
        if not isinstance(outputs, dict):
            outputs = layer(outputs)
        elif task.name in outputs:  # one that lacks is told by `ModelBuilder.check`
            outputs[task.name] = layer(outputs[task.name])
    return keras.Model(model.input, outputs)


def refuse_own_training(project: Project, model: keras.Model, where: str) -> None:
    """Refuses a model that brings what the training loop does not use: a loss, a training step.

    Regularisers, constraints and `add_loss` are the layers' own, and used.

    Raises:
        ProjectError: It does; the message names the user's line, or `where` it was built.
    """
    import keras

    expected = "must leave the training to Perennial: the task's loss, minimised by Adam"
    remedy = (
        "Remove it and set train.learning_rate, or let TFX's `run_fn` train the model "
        "(docs/training.md)."
    )
    if model.compiled:
        line = call_line(project.module_path, "compile") or where
        received = f"a compiled model (optimizer {type(model.optimizer).__name__})"
        raise ProjectError(line, expected, received, remedy)
    for name in _OWN_TRAINING:
        method = getattr(type(model), name)
        if method is not getattr(keras.Model, name):
            received = f"a model with its own `{name}`"
            raise ProjectError(function_line(method), expected, received, remedy)


def check_output(where: str, task: Task, output: tf.Tensor, classes: int | None) -> None:
    """Checks one task's output on some examples: its shape, and that probabilities are some.

    Args:
        where: The user's line.
        task: Whose kind decides.
        output: As the model gives it.
        classes: How many classes its labels have; None: they are values.

    Raises:
        ProjectError: It does not fit.
    """
    shape = tuple(output.shape)
    if task.kind == "multi_class":
        assert classes is not None
        least = max(classes, 2)
        expected = f"at least {least} probabilities for each example, one for each class"
        fits = len(shape) == 2 and shape[1] >= least
    else:
        number = "probability" if task.kind == "binary" else "value"
        expected = f"one {number} for each example"
        fits = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
    if not fits:
        sizes = ", ".join(["batch", *map(str, shape[1:])])
        raise ProjectError(
            where=where,
            expected=f"must give {expected} of the {task.kind} task `{task.name}`",
            received=f"an output of shape [{sizes}]" if shape else "a single number",
            remedy="Correct the size of its last layer, or the task's kind in project.yaml.",
        )
    _check_probabilities(where, task, output)


def _check_probabilities(where: str, task: Task, output: tf.Tensor) -> None:
    import tensorflow as tf

    if task.kind == "multi_class":
        total = float(tf.reduce_sum(tf.cast(output[0], tf.float32)))
        if math.isfinite(total) and abs(total - 1) > _ROUNDING:
            raise ProjectError(
                where=where,
                expected=f"must give probabilities that sum to 1 for `{task.name}`",
                received=f"a row that sums to {total:.3g}",
                remedy=f"End it with a softmax, or {_SAY_LOGITS}.",
            )
    if task.kind == "binary":
        low, high = float(tf.reduce_min(output)), float(tf.reduce_max(output))
        if low < 0 or high > 1:
            raise ProjectError(
                where=where,
                expected=f"must give a probability from 0 to 1 for `{task.name}`",
                received=f"values from {low:.3g} to {high:.3g}",
                remedy=f"End it with a sigmoid, or {_SAY_LOGITS}.",
            )


def trunk(model: keras.Model, latent: str | None) -> keras.Model:
    """Gives the model from its inputs to the latent vector [n, d].

    Args:
        model: A functional model.
        latent: Name of the layer whose output it is; None: what the model names `latent`, else what
            the last layer with weights reads, the same one for all tasks.

    Raises:
        ProjectError: There is no such layer, or the latent vector cannot be found.
    """
    import keras

    tensor = latent_tensor(model, latent)
    if tensor is None:
        raise ProjectError(
            where="build_model",
            expected="must give a model whose latent vector can be found",
            received=f"a {type(model).__name__}, whose layers are not a graph",
            remedy="Give it the output `latent`, or build it as keras.Model(inputs, outputs).",
        )
    return keras.Model(
        model.input,
        keras.layers.Flatten(name="flat_latent")(tensor) if len(tensor.shape) > 2 else tensor,
    )


def latent_tensor(model: keras.Model, latent: str | None) -> Any:
    """Finds the symbolic latent vector of a functional model; gives None where there is none.

    Raises:
        ProjectError: It has no layer of that name.
    """
    import difflib

    if not is_functional(model):
        return None
    if latent is not None:
        names = [layer.name for layer in model.layers]
        if latent not in names:
            near = difflib.get_close_matches(latent, names, 1)
            raise ProjectError(
                where="project.yaml: model.latent",
                expected=f"must be a layer of the model ({', '.join(names)})",
                received=latent,
                remedy=f"Did you mean `{near[0]}`?" if near else "Name one of them.",
            )
        return model.get_layer(latent).output
    outputs = model.output
    if isinstance(outputs, dict) and LATENT in outputs:
        return outputs[LATENT]
    heads = [
        tensor_below_head(output)
        for output in (outputs.values() if isinstance(outputs, dict) else [outputs])
    ]
    return heads[0] if all(head is heads[0] for head in heads) else None
