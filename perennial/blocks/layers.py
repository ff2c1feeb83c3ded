"""Layers and functions that stems, learners and tasks are made of."""

# ruff: noqa: D102 - `build`, `call` and the like mean what Keras says; the classes tell what they
# compute.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from perennial.blocks.tasks import Head

Shape = tuple[int | None, ...]


class Block(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """A layer made of layers.

    Frozen (`trainable = False`), it runs as in inference: no dropout, no new statistics.
    """

    def learns(self, training: bool | None) -> bool:
        """Tells whether this call is one that trains the layer."""
        return bool(training) and self.trainable


class Tasks(Block):
    """A fully connected layer for each task, in float32 whatever the precision is."""

    def __init__(self, heads: Sequence[Head], name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.heads = {
            head.name: keras.layers.Dense(
                head.units, head.activation, dtype="float32", name=head.name
            )
            for head in heads
        }

    def build(self, shape: Shape) -> None:
        for head in self.heads.values():
            head.build(shape)

    def call(self, latent: Any) -> dict[str, Any]:
        return {name: head(latent) for name, head in self.heads.items()}


def normalisation(name: str, scale: str = "ones") -> Any:
    """Makes a batch normalisation whose statistics are those of the global batch.

    They do not depend on the number of replicas.

    Its running statistics follow within tens of steps, as short trainings need it. Source of the
    momentum: PyTorch's default, 0.1 there. `scale` initialises the scale.
    """
    return keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_initializer=scale, synchronized=True, name=name
    )


def rows_between(numbers: Any, least: int, most: int, otherwise: int) -> Any:
    """Gives row numbers of an embedding; one beyond `least` and `most` becomes `otherwise`.

    Shape and dtype stay.

    A number beyond an embedding's rows would stop the program on a CPU and give zeros on a GPU.
    """
    inside = ops.logical_and(numbers >= least, numbers <= most)
    return ops.where(inside, numbers, ops.full_like(numbers, otherwise))


def positions(length: int, width: int) -> Any:
    """Encodes the places of a sequence as sines and cosines of falling frequencies.

    They are float32 [length, width].

    Source: Vaswani et al. 2017, section 3.5; the sines stand before the cosines here.
    """
    pairs = (width + 1) // 2
    places = ops.arange(length, dtype="float32")[:, None]
    angles = places / 10_000.0 ** (ops.arange(pairs, dtype="float32") / pairs)
    return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=1)[:, :width]


def mean_of_present(sequence: Any, mask: Any) -> Any:
    """Computes the mean over a sequence of the places where the mask is True.

    The sequence is [batch, length, d], the mask [batch, length], the mean [batch, d].

    Without a mask all count; zeros where none does.
    """
    dtype = sequence.dtype
    sequence = ops.cast(sequence, "float32")  # long sums lose too much in 16 bits
    if mask is None:
        return ops.cast(ops.mean(sequence, axis=1), dtype)
    present = ops.cast(mask, "float32")[:, :, None]
    total = ops.sum(sequence * present, axis=1)
    return ops.cast(total / ops.maximum(ops.sum(present, axis=1), 1.0), dtype)
