"""The input pipeline: from transformed TFRecords to batches.

It shards them over workers and replicas, caches and prefetches them.

Which examples make which global batch depends on the seed and the number of the step alone, and not
on how many replicas share a batch nor on where training began: so that a killed training goes on as
if nothing had happened, and many devices compute what one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from perennial.tasks import Task
from perennial.training.transformed_features import TransformedFeatures

if TYPE_CHECKING:
    import tensorflow as tf

# Examples among which the next one is drawn: at this many a pass over days of data is as good as
# shuffled.
_SHUFFLED = 100_000
_PARSED = 512


@dataclass(frozen=True)
class BatchPlan:
    """The settings of the batches.

    `batch_size` is that of the global batch; a cache larger than `cache_mb` is not kept.
    """

    batch_size: int
    seed: int
    balance: Literal["none", "resample"] = "none"
    cache_mb: int = 1024


@dataclass(frozen=True)
class TrainingBatches:
    """Endless batches of the train split, shuffled anew in each epoch."""

    features: TransformedFeatures
    plan: BatchPlan

    def steps_per_epoch(self, replicas: int = 1) -> int:
        """Counts the steps in one pass.

        A last batch with fewer examples than replicas is left out: a replica would have none.
        """
        whole, rest = divmod(self.features.count("train"), self.plan.batch_size)
        return max(1, whole + (rest >= replicas and rest > 0))

    def dataset(
        self, start: int = 0, pipeline: int = 0, pipelines: int = 1, replicas: int = 1
    ) -> tf.data.Dataset:
        """Gives batches (features, labels) from a step on.

        They are the same ones as if all steps before had been drawn.

        Args:
            start: Global step to begin at, from 0.
            pipeline: Number of this input pipeline (worker) from 0, of `pipelines`.
            pipelines: Number of workers.
            replicas: Replicas of each worker; they get one element each for every step, in their
                order.
        """
        import tensorflow as tf

        shares = pipelines * replicas
        steps = self.steps_per_epoch(shares)
        first, skipped = divmod(start, steps)
        records, count = self._cached(), self.features.count("train")
        resamples = self.plan.balance == "resample"
        shares_of_classes = class_shares(self.features, self.features.tasks[0]) if resamples else []

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            rows = self._resampled(records, number, shares_of_classes) if resamples else records
            seed = tf.random.stateless_uniform(
                [], [self.plan.seed, number], 1, tf.int64.max, tf.int64
            )
            shuffled = rows.shuffle(
                min(count, _SHUFFLED), seed=seed, reshuffle_each_iteration=False
            )
            # Resampling gives about as many examples as there are, never exactly.
            endless = shuffled.repeat() if resamples else shuffled
            return endless.batch(self.plan.batch_size).take(steps)

        batches = tf.data.Dataset.range(first, tf.int64.max).flat_map(epoch).skip(skipped)
        if shares > 1:
            local = tf.range(pipeline * replicas, (pipeline + 1) * replicas)
            batches = batches.flat_map(
                lambda batch: tf.data.Dataset.from_tensor_slices(local).map(
                    lambda share: batch[share::shares]
                )
            )
        parsed = batches.map(
            self.features.parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return _in_fixed_order(parsed).prefetch(tf.data.AUTOTUNE)

    def _cached(self) -> tf.data.Dataset:
        records = self.features.records("train")
        size = sum(Path(file).stat().st_size for file in self.features.files("train"))
        return records.cache() if size <= self.plan.cache_mb * 1_000_000 else records

    def _resampled(
        self, records: tf.data.Dataset, epoch: tf.Tensor, shares: Sequence[float]
    ) -> tf.data.Dataset:
        """Repeats the examples of rare classes, so that all classes come equally often.

        Each example comes 1 / (classes * share of its class) times on average.
        """
        import tensorflow as tf

        (task, *_) = self.features.tasks
        rates = tf.constant(class_weights(shares), tf.float32)

        def repeated(number: tf.Tensor, record: tf.Tensor) -> tf.data.Dataset:
            label = self.features.parse(record[tf.newaxis])[1][task.name][0]
            chance = tf.random.stateless_uniform([], [epoch + self.plan.seed, number])
            return tf.data.Dataset.from_tensors(record).repeat(
                tf.cast(rates[label] + chance, tf.int64)
            )

        return records.enumerate().flat_map(repeated)


def in_order(
    features: TransformedFeatures, split: str, batch_size: int = _PARSED
) -> tf.data.Dataset:
    """Gives batches (features, labels) of a split once, in the order of its files.

    A smaller last batch is kept.
    """
    import tensorflow as tf

    batches = features.records(split).batch(batch_size)
    return batches.map(features.parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(
        tf.data.AUTOTUNE
    )


def class_shares(features: TransformedFeatures, task: Task) -> list[float]:
    """Computes the share of each class from 0 in the train split, up to the greatest one there."""
    import numpy as np

    labels = np.concatenate([batch[1][task.name].numpy() for batch in in_order(features, "train")])
    return [float(share) for share in np.bincount(labels) / len(labels)]


def class_weights(shares: Sequence[float]) -> list[float]:
    """Computes the weight of each class in the loss.

    It is in inverse proportion to the class's share, and 1 on average over the examples.
    """
    present = sum(1 for share in shares if share)
    return [1 / (present * share) if share else 0.0 for share in shares]


def _in_fixed_order(dataset: tf.data.Dataset) -> tf.data.Dataset:
    import tensorflow as tf

    options: Any = tf.data.Options()
    options.deterministic = True
    # The sharding is done here: TensorFlow must not do it again.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)
