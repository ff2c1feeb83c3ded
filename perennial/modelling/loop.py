"""The training loop: our own, over `strategy.run`, because Keras 3's `fit` does not run under every strategy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.errors import ProjectError, TrainingError, describe_error
from perennial.user_module import function_line, user_line

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# Adam's state is small beside the models this is for; clipping keeps one bad batch from ruining a draw.
CLIP_NORM = 5.0
# How far float16 rounding may take a softmax's sum from 1.
_ROUNDING = 0.02


@dataclass(frozen=True)
class StepResult:
    """One training step: the global batch's mean loss (nats) and the global norm of its gradient before clipping."""

    loss: float
    gradient_norm: float


def choose_strategy(name: str) -> tf.distribute.Strategy:
    """The tf.distribute strategy of that name: `one_device`, or `mirrored` over every local device.

    Source: tf.distribute's guide. Without a GPU, `mirrored` spreads over the logical CPU devices.
    """
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(devices[0])


class Trainer:
    """Trains one model under a strategy with Adam and cross-entropy.

    Args:
        build: Builds the model; called in the strategy's scope. The model takes a dictionary of features and gives
            class probabilities, float32 [batch, classes].
        strategy: Where it runs.
        learning_rate: Adam's learning rate.

    Raises:
        ProjectError: The model does not build or has nothing to train.
    """

    def __init__(
        self, build: Callable[[], keras.Model], strategy: tf.distribute.Strategy, learning_rate: float
    ) -> None:
        import keras
        import tensorflow as tf

        self.strategy = strategy
        with strategy.scope():
            self.model = build()
            self._optimizer = keras.optimizers.Adam(learning_rate)
            if not isinstance(self.model, keras.Model) or not self.model.trainable_variables:
                found = f"{type(self.model).__name__} without trainable weights"
                raise ProjectError(
                    "build_model", "must return a Keras model with weights to train", found, "Return it."
                )
            self._optimizer.build(self.model.trainable_variables)
        self._loss = keras.losses.SparseCategoricalCrossentropy(reduction="none")
        self._step = tf.function(self._distributed_step, reduce_retracing=True)
        self._predict = tf.function(lambda features: self.model(features, training=False), reduce_retracing=True)

    def set_learning_rate(self, value: float) -> None:
        """Sets the learning rate of the next step."""
        self._optimizer.learning_rate.assign(value)

    def distribute(self, dataset: tf.data.Dataset) -> Any:
        """The dataset, with each global batch divided among the replicas."""
        return self.strategy.experimental_distribute_dataset(dataset)

    def train_step(self, features: Any, labels: Any) -> StepResult:
        """One step on a global batch.

        Raises:
            TrainingError: The loss is not finite.
        """
        loss, norm = (float(value) for value in self._step(features, labels))
        if not math.isfinite(loss):
            where, remedy = (
                "training loss",
                "Check the features' range in preprocessing_fn, or lower train.learning_rate.",
            )
            raise TrainingError(where, "must be finite", loss, remedy)
        return StepResult(loss, norm)

    def probabilities(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """Class probabilities, float32 [n, classes], without dropout."""
        return self._predict(features)

    def measure(self, features: dict[str, tf.Tensor], labels: tf.Tensor) -> tuple[float, float]:
        """Mean cross-entropy (nats) and accuracy on a split that fits in memory."""
        import tensorflow as tf

        scores = self.probabilities(features)
        hits = tf.cast(tf.equal(tf.argmax(scores, axis=-1), labels), tf.float32)
        return float(tf.reduce_mean(self._loss(labels, scores))), float(tf.reduce_mean(hits))

    def _distributed_step(self, features: Any, labels: Any) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        size = tf.cast(self._global_size(labels), tf.float32)
        losses, norms = self.strategy.run(self._replica_step, args=(features, labels, size))
        loss = self.strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)
        return loss, self.strategy.reduce(tf.distribute.ReduceOp.MEAN, norms, axis=None)

    def _global_size(self, labels: Any) -> tf.Tensor:
        """Examples in the global batch; the last one of a pass is smaller."""
        import tensorflow as tf

        sizes = self.strategy.run(lambda part: tf.shape(part)[0], args=(labels,))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, sizes, axis=None)

    def _replica_step(self, features: Any, labels: Any, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            # Divided by the global size, so that the sum over replicas is the global batch's mean.
            loss = tf.reduce_sum(self._loss(labels, self.model(features, training=True))) / size
            total = (
                loss + tf.add_n(self.model.losses) / self.strategy.num_replicas_in_sync if self.model.losses else loss
            )
        pairs = zip(tape.gradient(total, variables), variables, strict=True)
        used = [(tf.convert_to_tensor(gradient), variable) for gradient, variable in pairs if gradient is not None]
        # Summed before it is clipped: the global batch's gradient has the limit, not each replica's share of it.
        summed = tf.distribute.get_replica_context().all_reduce("SUM", [gradient for gradient, _ in used])
        clipped, norm = tf.clip_by_global_norm(summed, CLIP_NORM)
        # Keras's optimizer sums over the replicas again.
        shares = [gradient / self.strategy.num_replicas_in_sync for gradient in clipped]
        self._optimizer.apply_gradients(zip(shares, [variable for _, variable in used], strict=True))
        return loss, norm


def checked_build(module: Any, transform_output: Any, example: dict[str, tf.Tensor], labels: tf.Tensor) -> keras.Model:
    """Builds the user's model and tries it on examples.

    Raises:
        ProjectError: It does not build, does not take the transformed features, or its output does not fit the labels.
    """
    import tensorflow as tf

    try:
        model = module.build_model(transform_output)
        scores = model(example, training=False)
    except Exception as error:
        place, expected = (
            user_line(Path(module.__file__), error),
            f"must build a model of the features {sorted(example)}",
        )
        raise ProjectError(f"{place}: build_model", expected, describe_error(error), "Correct it.") from error
    classes = int(tf.reduce_max(labels)) + 1
    shape = tuple(scores.shape) if tf.is_tensor(scores) else None
    if shape is None or len(shape) != 2 or shape[-1] < classes:
        where, expected = function_line(module.build_model), f"must give probabilities for at least {classes} classes"
        found = f"output of shape {shape}" if shape else f"output of type {type(scores).__name__}"
        raise ProjectError(where, f"{expected}, [batch, classes]", found, "Correct its last layer.")
    total = float(tf.reduce_sum(scores[0]))
    if math.isfinite(total) and abs(total - 1) > _ROUNDING:
        where, found = function_line(module.build_model), f"a row that sums to {total:.3g}"
        raise ProjectError(where, "must give probabilities that sum to 1", found, "End the model with a softmax.")
    return model
