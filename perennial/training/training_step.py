"""The training step: the loss of one global batch, its clipped gradient, and Adam.

All that is trained here is trained by it: models on their tasks, learners on their pretext.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from schemas.project import TrainSettings

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

# Adam's state is small beside the models this is for; clipping keeps one bad batch from ruining a
# draw.
CLIP_NORM = 5.0


class TrainingStep:
    """Trains one or more models together, one global batch after the other, with Adam.

    The loss of a global batch is the sum of its replicas' losses divided by the sum of their
    weights.

    Args:
        models: The models, built in the strategy's scope; losses that they add themselves count
            too.
        loss: Computes the summed loss of a replica's features and labels, float32 [].
        weight: Computes the summed weight of a replica's labels, float32 [].
        strategy: Where it runs.
        train: Precision and XLA.
    """

    def __init__(
        self,
        models: Sequence[keras.Model],
        loss: Callable[[Any, Any], tf.Tensor],
        weight: Callable[[Any], tf.Tensor],
        strategy: tf.distribute.Strategy,
        train: TrainSettings,
    ) -> None:
        import keras
        import tensorflow as tf

        self._models, self._loss, self._weight, self._strategy = models, loss, weight, strategy
        with strategy.scope():
            self.optimizer: Any = keras.optimizers.Adam(train.learning_rate)
            if train.precision == "mixed_float16":
                self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer)
            self.optimizer.build(self._variables())
        self._on_replica = (
            tf.function(self._train_replica, jit_compile=True, autograph=False)
            if train.xla
            else self._train_replica
        )
        # AutoGraph is for its loop.
        self._run = tf.function(self._train_steps, reduce_retracing=True)

    def run(
        self, batches: Any, rates: Sequence[float]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Trains one step with each learning rate, all in one call.

        Args:
            batches: An iterator over a distributed dataset of (features, labels).
            rates: The learning rates.

        Returns:
            Each step's loss, and the global norm of its gradient before clipping, float32 [steps].
        """
        import tensorflow as tf

        losses, norms = self._run(batches, tf.constant(rates, tf.float32))
        return losses.numpy(), norms.numpy()

    def _variables(self) -> list[Any]:
        return [variable for model in self._models for variable in model.trainable_variables]

    def _train_steps(self, batches: Any, rates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        count = tf.shape(rates)[0]
        losses, norms = tf.TensorArray(tf.float32, count), tf.TensorArray(tf.float32, count)
        for step in tf.range(count):
            features, labels = next(batches)
            self.optimizer.learning_rate.assign(rates[step])
            loss, norm = self._train_batch(features, labels)
            losses, norms = losses.write(step, loss), norms.write(step, norm)
        return losses.stack(), norms.stack()

    def _train_batch(self, features: Any, labels: Any) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        strategy, total = self._strategy, tf.distribute.ReduceOp.SUM
        # The last batch of a pass may be smaller, and a batch may hold nothing that counts.
        weight = tf.maximum(
            strategy.reduce(total, strategy.run(self._weight, args=(labels,)), axis=None), 1.0
        )
        losses, norms = strategy.run(self._on_replica, args=(features, labels, weight))
        loss = strategy.reduce(total, losses, axis=None)
        return loss, strategy.reduce(tf.distribute.ReduceOp.MEAN, norms, axis=None)

    def _train_replica(
        self, features: Any, labels: Any, weight: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        replicas, variables = self._strategy.num_replicas_in_sync, self._variables()
        with tf.GradientTape() as tape:
            # Divided by the global weight, so that the sum over replicas is the global batch's
            # mean.
            loss = self._loss(features, labels) / weight
            total = loss
            own = [tf.cast(extra, tf.float32) for model in self._models for extra in model.losses]
            if own:
                total += tf.add_n(own) / replicas
            scaled = self.optimizer.scale_loss(total)
        pairs = zip(tape.gradient(scaled, variables), variables, strict=True)
        used = [
            (tf.convert_to_tensor(gradient), variable)
            for gradient, variable in pairs
            if gradient is not None
        ]
        summed = tf.distribute.get_replica_context().all_reduce(
            "SUM", [gradient for gradient, _ in used]
        )
        norm = tf.linalg.global_norm(summed) * self._unscaled()
        # Summed before it is clipped: the global batch's gradient has the limit, not each replica's
        # share of it.
        factor = tf.minimum(1.0, CLIP_NORM / tf.maximum(norm, 1e-12))
        # Keras's optimizer sums over the replicas again.
        shares = [gradient * tf.cast(factor / replicas, gradient.dtype) for gradient in summed]
        self.optimizer.apply(shares, [variable for _, variable in used])
        return loss, norm

    def _unscaled(self) -> Any:
        """Gives what undoes the loss scaling of 16-bit floats.

        The optimizer deals with NaN and infinite gradients.
        """
        scale = getattr(self.optimizer, "dynamic_scale", None)
        return 1.0 if scale is None else 1.0 / scale
