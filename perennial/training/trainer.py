"""The training loop.

It is our own, over `strategy.run`, because Keras 3's `fit` does not run under every strategy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perennial.errors import TrainingError
from perennial.tasks import Task
from perennial.training.batches import TrainingBatches, in_order
from perennial.training.losses import (
    example_scores,
    example_weights,
    task_outputs,
    total_losses,
)
from perennial.training.model_call import call_model
from perennial.training.training_step import TrainingStep
from perennial.training.transformed_features import TransformedFeatures
from schemas.project import TrainSettings
from schemas.records import Hyperparameters

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

REMEDY = "Check the features' range in preprocessing_fn, or lower train.learning_rate."


@dataclass(frozen=True)
class Steps:
    """Each step's mean loss of the global batch, and norm of the gradient before clipping."""

    losses: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """The tasks' weighted mean loss on a split, and the first task's metric."""

    loss: float
    metric: float


class Trainer:
    """Trains one model under a strategy with Adam, on the tasks' weighted losses.

    Args:
        build: Builds the model; called in the strategy's scope.
        tasks: What it predicts.
        strategy: Where it runs.
        train: Precision, XLA and steps for each execution.
        class_weights: Weights of the first task's classes in the loss.
    """

    def __init__(
        self,
        build: Callable[[], keras.Model],
        tasks: Sequence[Task],
        strategy: tf.distribute.Strategy,
        train: TrainSettings,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        import tensorflow as tf

        self.strategy, self.tasks, self.history = strategy, tuple(tasks), Steps()
        self._per_call = train.steps_per_execution
        self._weights = None if class_weights is None else tf.constant(class_weights, tf.float32)
        with strategy.scope():
            self.model = build()
        self._step = TrainingStep([self.model], self._loss, self._count, strategy, train)
        self._predict = tf.function(
            lambda features: call_model(self.model, features, training=False),
            reduce_retracing=True,
            autograph=False,
        )
        self._batches: Iterator[Any] | None = None

    def feed(self, batches: TrainingBatches, start: int = 0) -> None:
        """Sets what the next steps train on: batches from the global step `start` on."""

        def share(context: Any) -> tf.data.Dataset:
            pipelines = context.num_input_pipelines
            replicas = context.num_replicas_in_sync // pipelines
            return batches.dataset(start, context.input_pipeline_id, pipelines, replicas)

        self._batches = iter(self.strategy.distribute_datasets_from_function(share))

    def train(self, rates: Sequence[float]) -> Steps:
        """Trains one step with each learning rate, on what was fed.

        What was trained by all calls stands in `history`, also what came before a failure.

        Raises:
            TrainingError: A loss is not finite.
        """
        losses: list[float] = []
        norms: list[float] = []
        for first in range(0, len(rates), self._per_call):
            part = self._step.run(self._batches, rates[first : first + self._per_call])
            losses += part[0].tolist()
            norms += part[1].tolist()
            self._remember(losses[first:], norms[first:])
        return Steps(losses, norms)

    def measure(self, split: str, features: TransformedFeatures) -> Measured:
        """Measures the model as it is on a whole split, without dropout.

        Raises:
            ProjectError: The split is empty.
        """
        import tensorflow as tf

        loss = metric = total = 0.0
        first, count = self.tasks[0], features.count(split)
        for inputs, labels in in_order(features, split):
            outputs = self._predict(inputs)
            output = task_outputs(outputs, self.tasks)[first.name]
            loss += float(tf.reduce_sum(total_losses(self.tasks, labels, outputs)))
            weights = example_weights(first, labels)
            scores = weights * example_scores(first, labels[first.name], output)
            metric += float(tf.reduce_sum(scores))
            total += float(tf.reduce_sum(weights))
        return Measured(loss / count, metric / total if total else math.nan)

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Gives everything that later steps depend on, as arrays.

        These are the weights, the random states and the optimizer's state.
        """
        return {name: variable.numpy() for name, variable in self._variables()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Sets what `state` gave.

        Raises:
            TrainingError: It is of another architecture.
        """
        variables = self._variables()
        here = {name: tuple(variable.shape) for name, variable in variables}
        there = {name: tuple(array.shape) for name, array in state.items()}
        if here != there:
            names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
            first = (
                f"{names[0]} is {_shape(there, names[0])} there and {_shape(here, names[0])} here"
            )
            raise TrainingError(
                where="checkpoint",
                expected="must be of the same architecture",
                received=f"{len(names)} of {len(here)} arrays differ: {first}",
                remedy="Remove the checkpoint, or bring back the model that wrote it.",
            )
        for name, variable in variables:
            variable.assign(state[name])

    def _variables(self) -> list[tuple[str, Any]]:
        named = [("model", variable) for variable in self.model.variables]
        named += [("optimizer", variable) for variable in self._step.optimizer.variables]
        return [
            (f"{number:04d}/{owner}/{variable.path}", variable)
            for number, (owner, variable) in enumerate(named)
        ]

    def _remember(self, losses: Sequence[float], norms: Sequence[float]) -> None:
        for loss, norm in zip(losses, norms, strict=True):
            self.history.losses.append(require_finite(loss, "training loss"))
            self.history.gradient_norms.append(norm)

    def _loss(self, features: Any, labels: Any) -> tf.Tensor:
        import tensorflow as tf

        outputs = call_model(self.model, features, training=True)
        return tf.reduce_sum(total_losses(self.tasks, labels, outputs, self._weights))

    def _count(self, labels: Any) -> tf.Tensor:
        import tensorflow as tf

        return tf.cast(tf.shape(labels[self.tasks[0].name])[0], tf.float32)


def quick_train(
    trainer: Trainer,
    features: TransformedFeatures,
    batches: TrainingBatches,
    epochs: int,
    rate: float,
) -> list[float]:
    """Trains a few epochs at one learning rate; gives the eval loss after each.

    Raises:
        TrainingError: A loss is not finite.
    """
    steps = batches.steps_per_epoch(trainer.strategy.num_replicas_in_sync)
    trainer.feed(batches)
    losses = []
    for _ in range(epochs):
        trainer.train([rate] * steps)
        losses.append(require_finite(trainer.measure("eval", features).loss))
    return losses


def require_finite(loss: float, name: str = "eval loss") -> float:
    """Gives the loss itself.

    Raises:
        TrainingError: It is not finite.
    """
    if not math.isfinite(loss):
        raise TrainingError(where=name, expected="must be finite", received=loss, remedy=REMEDY)
    return loss


def learning_rate_of(train: TrainSettings, hyperparameters: Hyperparameters) -> float:
    """Gives the learning rate for a batch size.

    It is in proportion to it where `train.base_batch_size` is set.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.1 (linear scaling).
    """
    if train.base_batch_size is None:
        return hyperparameters.learning_rate
    return hyperparameters.learning_rate * hyperparameters.batch_size / train.base_batch_size


def warm_up(step: int, steps: int, rate: float) -> float:
    """Gives the learning rate at a step (from 0): it rises over the first `steps`, then stays.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2 (gradual warm-up).
    """
    return rate * min(1.0, (step + 1) / max(1, steps))


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    return str(list(shapes[name])) if name in shapes else "not there"
