"""Keras layer of the tasks."""

# ruff: noqa: D102 - `build`, `call` and the like mean what Keras says; the classes tell what they compute.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from perennial.blocks.layers import Block, Shape
from perennial.blocks.tasks import Head


class Tasks(Block):
    """A fully connected layer for each task, in float32 whatever the precision is."""

    def __init__(self, heads: Sequence[Head], name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.heads = {
            head.name: keras.layers.Dense(head.units, head.activation, dtype="float32", name=head.name)
            for head in heads
        }

    def build(self, shape: Shape) -> None:
        for head in self.heads.values():
            head.build(shape)

    def call(self, latent: Any) -> dict[str, Any]:
        return {name: head(latent) for name, head in self.heads.items()}
