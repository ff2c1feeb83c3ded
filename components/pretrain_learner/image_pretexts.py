"""Pretexts for images: by how much they were turned, and what stood where they were masked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perennial.training.transformed_features import Features

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

QUARTERS = 4
# Masked images are asked for at this resolution at the most: a head for each pixel would be larger
# than the learner.
_ASKED_SIDE = 32
# Patches along a side; those of small images are at least two pixels wide.
_PATCHES, _LEAST_PATCH = 8, 2


@dataclass(frozen=True)
class ImageShape:
    """Height, width and channels of an image."""

    height: int
    width: int
    channels: int = 1


def image_shape(shape: tuple[int, ...]) -> ImageShape | None:
    """Gives the image that a feature of this shape holds, or None where it holds none.

    The shape is [height, width, channels], or flat for a square grey image.
    """
    if len(shape) == 3 and min(shape[:2]) >= _PATCHES // 2:
        return ImageShape(*shape)
    side = math.isqrt(shape[0]) if len(shape) == 1 else 0
    return ImageShape(side, side) if side >= _PATCHES // 2 and side * side == shape[0] else None


@dataclass(frozen=True)
class Rotation:
    """Asks by how many quarter turns an image was turned.

    The loss is in nats; who guesses loses log(4) = 1.386.

    Source: Gidaris et al. 2018, "Unsupervised Representation Learning by Predicting Image
    Rotations".
    """

    feature: str
    image: ImageShape

    def ask(self, features: Features, seed: tf.Tensor) -> tuple[Features, Features]:
        """Turns each image by a random number of quarter turns."""
        import tensorflow as tf

        flat = features[self.feature]
        size = tf.shape(flat)[0]
        turns = tf.random.stateless_uniform([size], seed, maxval=QUARTERS, dtype=tf.int32)
        images = tf.reshape(flat, [-1, self.image.height, self.image.width, self.image.channels])
        all_turns = tf.stack(
            [tf.image.rot90(images, quarters) for quarters in range(QUARTERS)], axis=1
        )
        turned = tf.reshape(tf.gather(all_turns, turns, axis=1, batch_dims=1), tf.shape(flat))
        turned = tf.ensure_shape(turned, flat.shape)
        return {**features, self.feature: turned}, {"turns": turns, "weight": tf.ones([size])}

    def head(self, width: int) -> keras.Model:
        """Builds the model from the latent vector to a logit for each number of turns."""
        import keras

        latent = keras.Input((width,), name="latent")
        return keras.Model(
            {"latent": latent}, keras.layers.Dense(QUARTERS, dtype="float32")(latent)
        )

    def losses(self, asked: Mapping[str, tf.Tensor], answers: tf.Tensor) -> tf.Tensor:
        """Computes the cross-entropy of each example in nats, float32 [n]."""
        import tensorflow as tf

        return tf.nn.sparse_softmax_cross_entropy_with_logits(asked["turns"], answers)


@dataclass(frozen=True)
class MaskedImage:
    """Asks what stood in masked patches.

    The loss is the squared error in variances of a pixel: who guesses loses 1.

    Masked pixels have the mean of all images. Images larger than 32 pixels are asked for in less
    detail.

    Source: Pathak et al. 2016, "Context Encoders: Feature Learning by Inpainting", section 3.
    """

    feature: str
    image: ImageShape
    share: float
    mean: float
    deviation: float

    def ask(self, features: Features, seed: tf.Tensor) -> tuple[Features, Features]:
        """Masks a share of each image's patches, at least one."""
        import tensorflow as tf

        flat, image = features[self.feature], self.image
        pixels = tf.reshape(
            tf.cast(flat, tf.float32), [-1, image.height, image.width, image.channels]
        )
        patches = self._patches(tf.shape(pixels)[0], seed)
        masked = _at(patches, image.height, image.width)
        seen = tf.cast(tf.where(masked[..., tf.newaxis], self.mean, pixels), flat.dtype)
        seen = tf.ensure_shape(tf.reshape(seen, tf.shape(flat)), flat.shape)
        height, width = self._asked_sides()
        scaled = (pixels - self.mean) / max(self.deviation, 1e-6)
        if (height, width) != (image.height, image.width):
            scaled = tf.image.resize(scaled, [height, width], "area")
        masked_pixels = tf.repeat(
            _at(patches, height, width)[..., tf.newaxis], image.channels, axis=-1
        )
        counted = tf.cast(masked_pixels, tf.float32)
        asked = {
            "pixels": scaled,
            "counted": counted,
            "weight": tf.reduce_sum(counted, axis=[1, 2, 3]),
        }
        return {**features, self.feature: seen}, asked

    def head(self, width: int) -> keras.Model:
        """Builds the model from the latent vector to the pixels."""
        import keras

        latent = keras.Input((width,), name="latent")
        shape = (*self._asked_sides(), self.image.channels)
        pixels = keras.layers.Dense(math.prod(shape), dtype="float32")(latent)
        return keras.Model({"latent": latent}, keras.layers.Reshape(shape, dtype="float32")(pixels))

    def losses(self, asked: Mapping[str, tf.Tensor], answers: tf.Tensor) -> tf.Tensor:
        """Computes the sum of each example's squared errors, float32 [n]."""
        import tensorflow as tf

        return tf.reduce_sum(
            tf.square(answers - asked["pixels"]) * asked["counted"], axis=[1, 2, 3]
        )

    def _asked_sides(self) -> tuple[int, int]:
        return min(self.image.height, _ASKED_SIDE), min(self.image.width, _ASKED_SIDE)

    def _patches(self, size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Draws which patches are masked, bool [n, rows, columns]: as many of each image."""
        import tensorflow as tf

        patch = max(_LEAST_PATCH, math.ceil(max(self.image.height, self.image.width) / _PATCHES))
        rows, columns = math.ceil(self.image.height / patch), math.ceil(self.image.width / patch)
        masked = pick(size, rows * columns, max(1, round(self.share * rows * columns)), seed)
        return tf.reshape(masked, [size, rows, columns])


def pick(size: tf.Tensor, places: int, count: int, seed: tf.Tensor) -> tf.Tensor:
    """Picks so many random places for each example, bool [n, places]."""
    import tensorflow as tf

    drawn = tf.random.stateless_uniform([size, places], seed)
    order = tf.argsort(tf.argsort(drawn, axis=1), axis=1)
    return order < count


def _at(patches: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Patches [n, rows, columns] spread over an image of this size."""
    import tensorflow as tf

    rows, columns = patches.shape[1], patches.shape[2]
    by_row = tf.gather(patches, [row * rows // height for row in range(height)], axis=1)
    return tf.gather(by_row, [column * columns // width for column in range(width)], axis=2)
