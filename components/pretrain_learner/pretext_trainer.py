"""The loop of pretraining: the learner under the head of its pretext."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.pretrain_learner.pool import Pool
from components.pretrain_learner.pretext_features import Pretext
from perennial.errors import TrainingError
from perennial.training.model_call import call_model
from perennial.training.trainer import CLIP_NORM, REMEDY
from perennial.training.weights import Weights, weights_of
from schemas.project import TrainSettings

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class Learnt:
    """Losses by epoch, and the learner's weights after the epoch that did best on what was held out."""

    losses: list[float]
    held_out_losses: list[float]
    weights: Weights


class Learner:
    """Trains a learner and the head of its pretext together, under a strategy, with Adam.

    Args:
        trunk: From the features to the latent vector, [n, width]; built in the strategy's scope.
        pretext: What is asked.
        strategy: Where it runs.
        train: Precision, XLA, batch size and seed.
        rate: The learning rate.
    """

    def __init__(
        self, trunk: keras.Model, pretext: Pretext, strategy: tf.distribute.Strategy, train: TrainSettings, rate: float
    ) -> None:
        import keras
        import tensorflow as tf

        self._trunk, self._pretext, self._strategy, self._train = trunk, pretext, strategy, train
        with strategy.scope():
            self._head = pretext.head(int(trunk.output_shape[-1]))
            self._variables = [*trunk.trainable_variables, *self._head.trainable_variables]
            self._optimizer: Any = keras.optimizers.Adam(rate, global_clipnorm=CLIP_NORM)
            if train.precision == "mixed_float16":
                self._optimizer = keras.optimizers.LossScaleOptimizer(self._optimizer)
            self._optimizer.build(self._variables)
        self._replica_step = (
            tf.function(self._step_on_replica, jit_compile=True, autograph=False)
            if train.xla
            else self._step_on_replica
        )
        self._run = tf.function(self._run_steps, reduce_retracing=True)
        self._measure = tf.function(self._loss_of, reduce_retracing=True, autograph=False)

    def learn(self, pool: Pool, epochs: int) -> Learnt:
        """Trains some epochs, and measures after each on what is held out.

        Raises:
            TrainingError: A loss is not finite.
        """
        train = self._train
        size = min(train.batch_size, pool.training_count)
        dataset = pool.training(self._pretext.ask, size, train.seed, train.cache_mb)
        batches = iter(self._strategy.experimental_distribute_dataset(dataset))
        steps = max(1, pool.training_count // size)
        losses: list[float] = []
        held_out: list[float] = []
        weights: Weights = {}
        for _ in range(epochs):
            losses.append(_finite("pretraining loss", float(self._run(batches, steps))))
            held_out.append(_finite("pretraining loss of held-out examples", self._held_out_loss(pool)))
            if held_out[-1] == min(held_out):
                weights = weights_of(self._trunk)
        return Learnt(losses, held_out, weights)

    def _held_out_loss(self, pool: Pool) -> float:
        total = weight = 0.0
        for seen, asked in pool.held_out(self._pretext.ask, self._train.seed):
            loss, counted = self._measure(seen, asked)
            total, weight = total + float(loss), weight + float(counted)
        return total / max(weight, 1.0)

    def _loss_of(self, seen: Any, asked: Any) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow as tf

        return tf.reduce_sum(self._losses(seen, asked, training=False)), tf.reduce_sum(asked["weight"])

    def _losses(self, seen: Any, asked: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        import tensorflow as tf

        latent = tf.cast(call_model(self._trunk, seen, training), tf.float32)
        given = {"latent": latent, **{name: asked[name] for name in self._head.input if name != "latent"}}
        return self._pretext.losses(asked, self._head(given, training=training))

    def _run_steps(self, batches: Any, steps: tf.Tensor) -> tf.Tensor:
        """Mean loss over so many steps."""
        import tensorflow as tf

        total = tf.constant(0.0)
        for _ in tf.range(steps):
            seen, asked = next(batches)
            total += self._step(seen, asked)
        return total / tf.cast(steps, tf.float32)

    def _step(self, seen: Any, asked: Any) -> tf.Tensor:
        import tensorflow as tf

        run, total = self._strategy.run, tf.distribute.ReduceOp.SUM
        counted = self._strategy.reduce(total, run(tf.reduce_sum, args=(asked["weight"],)), axis=None)
        losses = run(self._replica_step, args=(seen, asked, tf.maximum(counted, 1.0)))
        return self._strategy.reduce(total, losses, axis=None)

    def _step_on_replica(self, seen: Any, asked: Any, counted: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            # Divided by what all replicas count, so that the sum over replicas is the global batch's mean.
            loss = tf.reduce_sum(self._losses(seen, asked, training=True)) / counted
            total = loss
            if self._trunk.losses:
                extra = tf.add_n([tf.cast(part, tf.float32) for part in self._trunk.losses])
                total += extra / self._strategy.num_replicas_in_sync
            scaled = self._optimizer.scale_loss(total)
        gradients = tape.gradient(scaled, self._variables)
        used = [pair for pair in zip(gradients, self._variables, strict=True) if pair[0] is not None]
        self._optimizer.apply([gradient for gradient, _ in used], [variable for _, variable in used])
        return loss


def _finite(what: str, loss: float) -> float:
    if not math.isfinite(loss):
        raise TrainingError(what, "must be finite", loss, REMEDY)
    return loss
