"""The loop of pretraining: the learner under the head of its pretext."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.pretrain_learner.pool import Pool
from components.pretrain_learner.pretext_features import Pretext
from perennial.training.model_call import call_model
from perennial.training.trainer import require_finite
from perennial.training.training_step import TrainingStep
from perennial.training.weights import Weights, weights_of
from schemas.project import TrainSettings

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class Learnt:
    """Losses by epoch, and the learner's weights after the epoch with the lowest held-out loss."""

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
        self,
        trunk: keras.Model,
        pretext: Pretext,
        strategy: tf.distribute.Strategy,
        train: TrainSettings,
        rate: float,
    ) -> None:
        import tensorflow as tf

        self._trunk, self._pretext, self._strategy = trunk, pretext, strategy
        self._train, self._rate = train, rate
        with strategy.scope():
            self._head = pretext.head(int(trunk.output_shape[-1]))
        self._step = TrainingStep([trunk, self._head], self._loss, _weight, strategy, train)
        self._measure = tf.function(
            lambda seen, asked: (self._loss(seen, asked, training=False), _weight(asked)),
            reduce_retracing=True,
            autograph=False,
        )

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
            trained, _ = self._step.run(batches, [self._rate] * steps)
            losses.append(require_finite(float(sum(trained) / steps), "pretraining loss"))
            held_out.append(
                require_finite(self._held_out_loss(pool), "pretraining loss of held-out examples")
            )
            if held_out[-1] == min(held_out):
                weights = weights_of(self._trunk)
        return Learnt(losses, held_out, weights)

    def _held_out_loss(self, pool: Pool) -> float:
        total = weight = 0.0
        for seen, asked in pool.held_out(self._pretext.ask, self._train.seed):
            loss, counted = self._measure(seen, asked)
            total, weight = total + float(loss), weight + float(counted)
        return total / max(weight, 1.0)

    def _loss(self, seen: Any, asked: Mapping[str, tf.Tensor], training: bool = True) -> tf.Tensor:
        import tensorflow as tf

        latent = tf.cast(call_model(self._trunk, seen, training), tf.float32)
        given = {
            "latent": latent,
            **{name: asked[name] for name in self._head.input if name != "latent"},
        }
        return tf.reduce_sum(self._pretext.losses(asked, self._head(given, training=training)))


def _weight(asked: Mapping[str, tf.Tensor]) -> tf.Tensor:
    import tensorflow as tf

    return tf.reduce_sum(asked["weight"])
