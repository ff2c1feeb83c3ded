"""The examples that pretraining learns from, and the tenth of them that it is measured on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perennial.errors import ProjectError
from perennial.training.transformed_features import Features

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

HELD_OUT = 10
"""Every tenth example is held out."""
_BATCH = 512
# Files that are read side by side, so that labelled and unlabelled examples come mixed.
_READERS = 16
# Examples among which the next one is drawn, where they do not all stay in memory.
_SHUFFLED = 10_000

Ask = Callable[[Features, "tf.Tensor"], tuple[Features, Features]]
"""Makes of features and a seed, int64 [2], what the learner sees and what it is asked."""


@dataclass(frozen=True)
class Spread:
    """The spread of a feature's values."""

    mean: float
    deviation: float
    least: float
    greatest: float


class _Measure:
    """Adds up what a spread is made of."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, 0.0, 0.0
        self._least, self._greatest = math.inf, -math.inf

    def add(self, values: np.ndarray[Any, Any]) -> None:
        values = values.astype("float64")
        self._count += values.size
        self._sum += float(values.sum())
        self._squares += float((values**2).sum())
        self._least = min(self._least, float(values.min()))
        self._greatest = max(self._greatest, float(values.max()))

    def spread(self) -> Spread:
        mean = self._sum / self._count
        variance = max(0.0, self._squares / self._count - mean**2)
        return Spread(mean, math.sqrt(variance), self._least, self._greatest)


@dataclass(frozen=True)
class Pool:
    """Transformed examples in gzipped TFRecord files. `size` is that of all, in bytes."""

    files: tuple[str, ...]
    spec: Mapping[str, Any]
    count: int
    size: int

    @property
    def held_out_count(self) -> int:
        """Counts the examples that are held out."""
        return math.ceil(self.count / HELD_OUT)

    @property
    def training_count(self) -> int:
        """Counts the examples that are learnt from."""
        return self.count - self.held_out_count

    def training(self, ask: Ask, batch_size: int, seed: int, cache_mb: int) -> tf.data.Dataset:
        """Gives endless whole batches of (seen, asked), shuffled and asked anew in each pass."""
        import tensorflow as tf

        small = self.size <= cache_mb * 1_000_000
        records = self._records(held_out=False)
        shuffled = min(self.training_count, self.training_count if small else _SHUFFLED)
        records = (records.cache() if small else records).shuffle(shuffled, seed=seed).repeat()
        return self._asked(records.batch(batch_size, drop_remainder=True), ask, seed).prefetch(
            tf.data.AUTOTUNE
        )

    def held_out(self, ask: Ask, seed: int) -> tf.data.Dataset:
        """Gives batches of (seen, asked) of what is held out, once; each time the same is asked."""
        # Other seeds than those of training.
        return self._asked(self._records(held_out=True).batch(_BATCH), ask, seed + 1)

    def spreads(self, names: Sequence[str]) -> dict[str, Spread]:
        """Measures how the features' values are spread over all examples.

        Each is a dense number.
        """
        measures = {name: _Measure() for name in names}
        for batch in self._all().batch(_BATCH).map(self._parse):
            for name, measure in measures.items():
                measure.add(batch[name].numpy())
        return {name: measure.spread() for name, measure in measures.items()}

    def _all(self) -> tf.data.Dataset:
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(list(self.files)).interleave(
            lambda file: tf.data.TFRecordDataset(
                file, compression_type="GZIP", buffer_size=1 << 20
            ),
            cycle_length=min(_READERS, len(self.files)),
        )

    def _records(self, held_out: bool) -> tf.data.Dataset:
        numbered = (
            self._all().enumerate().filter(lambda number, _: (number % HELD_OUT == 0) == held_out)
        )
        return numbered.map(lambda _, record: record)

    def _asked(self, batches: tf.data.Dataset, ask: Ask, seed: int) -> tf.data.Dataset:
        import tensorflow as tf

        def asked(number: tf.Tensor, records: tf.Tensor) -> tuple[Features, Features]:
            return ask(self._parse(records), tf.stack([tf.cast(seed, tf.int64), number]))

        return batches.enumerate().map(
            asked, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )

    def _parse(self, records: tf.Tensor) -> Features:
        import tensorflow as tf

        parsed: Features = tf.io.parse_example(records, self.spec)
        return parsed


def make_pool(files: Sequence[str], spec: Mapping[str, Any]) -> Pool:
    """Counts the examples of some files.

    Args:
        files: Gzipped TFRecord files of transformed examples.
        spec: The features that are read of them.

    Raises:
        ProjectError: There are too few to hold some out.
    """
    import tensorflow as tf

    count = size = 0
    for batch in Pool(tuple(files), spec, 0, 0)._all().batch(_BATCH):
        count += int(batch.shape[0])
        size += int(tf.reduce_sum(tf.strings.length(batch)))
    if count < HELD_OUT:
        raise ProjectError(
            where="project.yaml: data",
            expected=f"must leave at least {HELD_OUT} examples for pretraining",
            received=count,
            remedy="Land more data, or set pretext.task: none.",
        )
    return Pool(tuple(files), spec, count, size)
