"""The pretext for tables: what the features were that were masked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.pretrain_learner.image_pretexts import pick
from components.pretrain_learner.pool import Spread
from perennial.training.transformed_features import Features

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# Whole numbers of more values than that are asked for as numbers, not as classes.
MOST_CLASSES = 1_000


@dataclass(frozen=True)
class Column:
    """A feature that is masked: how many values it has for an example, and how they are spread.

    `classes` is None for a number; a whole number is the class `value - least`.
    """

    name: str
    width: int
    spread: Spread
    classes: int | None


def column_of(name: str, width: int, whole: bool, spread: Spread) -> Column:
    """Makes a column: whole numbers of few values are classes."""
    values = int(spread.greatest - spread.least) + 1 if whole else 0
    return Column(name, width, spread, values if whole and values <= MOST_CLASSES else None)


@dataclass(frozen=True)
class MaskedFeatures:
    """Asks what the masked features of an example were: numbers by squares, whole numbers by class.

    A masked feature has the value of another example of the batch, so that it stays one that the
    learner may meet. The loss is the mean over all masked values: squared errors in variances of
    the feature, and nats of classes.

    Source: Yoon et al. 2020, "VIME: Extending the Success of Self- and Semi-supervised Learning to
    Tabular Domain", section 4.1.
    """

    columns: tuple[Column, ...]
    share: float

    def ask(self, features: Features, seed: tf.Tensor) -> tuple[Features, Features]:
        """Masks a share of each example's features, at least one."""
        import tensorflow as tf

        size = tf.shape(features[self.columns[0].name])[0]
        masked = pick(size, len(self.columns), max(1, round(self.share * len(self.columns))), seed)
        seen, asked, weight = dict(features), {}, tf.zeros([size])
        for number, column in enumerate(self.columns):
            own = tf.random.experimental.stateless_fold_in(seed, number)
            values, chosen = features[column.name], masked[:, number]
            others = tf.gather(values, tf.argsort(tf.random.stateless_uniform([size], own)))
            mask = tf.reshape(
                chosen, tf.concat([[size], tf.ones([values.shape.rank - 1], tf.int32)], 0)
            )
            seen[column.name] = tf.where(mask, others, values)
            asked[column.name] = self._targets(column, values)
            counted = tf.cast(chosen, tf.float32)
            asked[f"{column.name}/counted"] = counted
            weight += counted * column.width
        return seen, {**asked, "weight": weight}

    def head(self, width: int) -> keras.Model:
        """Builds the model from the latent vector to a number or logits for each value."""
        import keras

        latent = keras.Input((width,), name="latent")
        answers = {}
        for column in self.columns:
            shape = (column.width,) if column.classes is None else (column.width, column.classes)
            units = column.width * (column.classes or 1)
            flat = keras.layers.Dense(units, dtype="float32")(latent)
            answers[column.name] = keras.layers.Reshape(shape, dtype="float32")(flat)
        return keras.Model({"latent": latent}, answers)

    def losses(self, asked: Mapping[str, tf.Tensor], answers: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Computes the sum of the losses of each example's masked values, float32 [n]."""
        import tensorflow as tf

        losses = []
        for column in self.columns:
            targets, answer = asked[column.name], answers[column.name]
            if column.classes is None:
                values = tf.square(answer - targets)
            else:
                values = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, answer)
            losses.append(tf.reduce_sum(values, axis=1) * asked[f"{column.name}/counted"])
        return tf.add_n(losses)

    def _targets(self, column: Column, values: tf.Tensor) -> tf.Tensor:
        """Gives the targets, [n, width]: a class from 0, or a number of mean 0 and variance 1."""
        import tensorflow as tf

        flat = tf.reshape(values, [-1, column.width])
        if column.classes is not None:
            return tf.cast(flat, tf.int64) - int(column.spread.least)
        deviation = column.spread.deviation or 1.0
        return (tf.cast(flat, tf.float32) - column.spread.mean) / deviation
