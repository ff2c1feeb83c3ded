"""Learners: layers that make one latent vector [batch, d] of what a stem gives."""

# ruff: noqa: D102 - `build`, `call` and the like mean what Keras says; the classes tell what they
# compute.
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from perennial.blocks.arguments import (
    checked_activation,
    checked_count,
    checked_counts,
    checked_name,
    checked_share,
)
from perennial.blocks.layers import Block, Shape, mean_of_present, normalisation


class Learner(Block):
    """A block that ends in the latent vector."""

    def compute_mask(self, inputs: Any, previous: Any = None) -> None:
        """Gives no mask: a vector has none."""


class Mlp(Learner):
    """Fully connected layers.

    Works on a vector [batch, d]; of an image [batch, h, w, c] it takes all values; of a sequence
    [batch, length, d] the mean of what the mask leaves, as a bag of words.

    Args:
        units: Widths of the layers; the last is that of the latent vector.
        activation: Name of one of Keras's activations.
        dropout: Share of the values between two layers that training drops.
        name: Name of the layer, with which its weights' paths begin: `learner/layer1/kernel`.

    Gives:
        The latent vector [batch, units[-1]], float32 or the compute dtype.

    Raises:
        ValueError: An argument does not fit.

    Source: Srivastava et al. 2014 for dropout; He et al. 2015, "Delving Deep into Rectifiers", for
    the first weights.
    """

    def __init__(
        self,
        units: Sequence[int] = (128, 64),
        activation: str = "relu",
        dropout: float = 0.1,
        name: str = "learner",
    ) -> None:
        super().__init__(name=checked_name("mlp", name))
        widths = checked_counts("mlp", "units", units)
        checked_activation("mlp", activation)
        checked_share("mlp", "dropout", dropout)
        start = "he_normal" if activation == "relu" else "glorot_uniform"
        self.steps = [
            keras.layers.Dense(width, activation, kernel_initializer=start, name=f"layer{number}")
            for number, width in enumerate(widths, 1)
        ]
        self.dropout = keras.layers.Dropout(dropout, name="dropout")

    def build(self, shape: Shape) -> None:
        width = shape[-1] if len(shape) == 3 else math.prod(size or 0 for size in shape[1:])
        for step in self.steps:
            step.build((None, width))
            width = step.units

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        vector = mean_of_present(inputs, mask) if len(inputs.shape) == 3 else inputs
        if len(inputs.shape) > 3:
            vector = ops.reshape(inputs, (-1, math.prod(inputs.shape[1:])))
        for number, step in enumerate(self.steps):
            if number:
                vector = self.dropout(vector, training=self.learns(training))
            vector = step(vector)
        return vector


class ResidualBlock(Block):
    """Two convolutions beside a shortcut.

    Source: He et al. 2015, figure 2, and option B for the shortcut.
    """

    def __init__(self, filters: int, stride: int, name: str) -> None:
        super().__init__(name=name)
        self.filters, self.stride = filters, stride
        self.conv1, self.norm1 = _convolution(filters, 3, stride, "conv1"), normalisation("norm1")
        # The block begins as its shortcut alone. Source: Goyal et al. 2017, section 5.1.
        self.conv2, self.norm2 = (
            _convolution(filters, 3, 1, "conv2"),
            normalisation("norm2", scale="zeros"),
        )
        self.shortcut: list[Any] = []

    def build(self, shape: Shape) -> None:
        if self.stride > 1 or shape[-1] != self.filters:
            self.shortcut = [
                _convolution(self.filters, 1, self.stride, "shortcut"),
                normalisation("shortcut_norm"),
            ]
        inner = self.compute_output_shape(shape)
        self.conv1.build(shape)
        self.conv2.build(inner)
        for norm in (self.norm1, self.norm2):
            norm.build(inner)
        for layer, seen in zip(self.shortcut, (shape, inner), strict=False):
            layer.build(seen)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        learns = self.learns(training)
        x = ops.relu(self.norm1(self.conv1(inputs), training=learns))
        x = self.norm2(self.conv2(x), training=learns)
        if self.shortcut:
            convolution, norm = self.shortcut
            inputs = norm(convolution(inputs), training=learns)
        return ops.relu(x + inputs)

    def compute_output_shape(self, shape: Shape) -> Shape:
        return tuple(self.conv1.compute_output_shape(shape))


class ResidualGroup(Block):
    """Residual blocks of one width, of which the first halves the resolution."""

    def __init__(self, blocks: int, filters: int, name: str) -> None:
        super().__init__(name=name)
        self.blocks = [
            ResidualBlock(filters, 2 if number == 1 else 1, f"block{number}")
            for number in range(1, blocks + 1)
        ]

    def build(self, shape: Shape) -> None:
        for block in self.blocks:
            block.build(shape)
            shape = block.compute_output_shape(shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        for block in self.blocks:
            inputs = block(inputs, training=self.learns(training))
        return inputs

    def compute_output_shape(self, shape: Shape) -> Shape:
        return self.blocks[0].compute_output_shape(shape)


class ResidualGroups(Learner):
    """Residual convolution groups made of blocks, as in a ResNet, then the mean over the image.

    Works on an image [batch, h, w, c]. The first block of each group halves height and width, and
    each group has twice the channels of the one before it.

    Args:
        groups: How many groups; an image of n pixels has room for log2(n).
        blocks: Blocks in each group, of two 3x3 convolutions with batch normalisation.
        filters: Channels of the first group.
        name: Name of the layer, with which its weights' paths begin:
            `learner/group1/block2/conv1/kernel`.

    Gives:
        The latent vector [batch, filters * 2^(groups - 1)], float32 or the compute dtype.

    Raises:
        ValueError: An argument does not fit; when it is called, that what the stem gives is no
            image.

    Source: He et al. 2015, "Deep Residual Learning for Image Recognition"; Goyal et al. 2017,
    section 5.1: each block begins as its shortcut alone.
    """

    def __init__(
        self, groups: int = 3, blocks: int = 2, filters: int = 32, name: str = "learner"
    ) -> None:
        super().__init__(name=checked_name("residual_groups", name))
        for argument, value in {"groups": groups, "blocks": blocks, "filters": filters}.items():
            checked_count("residual_groups", argument, value)
        self.groups = [
            ResidualGroup(blocks, filters * 2**number, f"group{number + 1}")
            for number in range(groups)
        ]

    def build(self, shape: Shape) -> None:
        if len(shape) != 4:
            raise _misfit(
                "residual_groups", "an image [batch, height, width, channels]", shape, "image_stem"
            )
        for group in self.groups:
            group.build(shape)
            shape = group.compute_output_shape(shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        for group in self.groups:
            inputs = group(inputs, training=self.learns(training))
        return ops.mean(inputs, axis=(1, 2))


class EncoderBlock(Block):
    """Self-attention, then two layers for each place.

    Each of the two has a shortcut beside it and a normalisation before it.

    Source: Vaswani et al. 2017, section 3.1; Xiong et al. 2020 for the normalisation before them.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, name: str) -> None:
        super().__init__(name=name)
        self.norm1 = keras.layers.LayerNormalization(epsilon=1e-5, name="norm1")
        self.attention = keras.layers.MultiHeadAttention(
            heads, width // heads, dropout=dropout, name="attention"
        )
        self.norm2 = keras.layers.LayerNormalization(epsilon=1e-5, name="norm2")
        self.expand = keras.layers.Dense(hidden, "gelu", name="expand")
        self.contract = keras.layers.Dense(width, name="contract")
        self.dropout = keras.layers.Dropout(dropout, name="dropout")

    def build(self, shape: Shape) -> None:
        self.norm1.build(shape)
        self.attention.build(shape, shape, shape)
        self.norm2.build(shape)
        self.expand.build(shape)
        self.contract.build((*shape[:-1], self.expand.units))

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        learns = self.learns(training)
        seen = None if mask is None else ops.logical_and(mask[:, :, None], mask[:, None, :])
        x = self.norm1(inputs)
        x = self.attention(x, x, attention_mask=seen, training=learns)
        inputs = inputs + self.dropout(x, training=learns)
        x = self.contract(self.expand(self.norm2(inputs)))
        return inputs + self.dropout(x, training=learns)

    def compute_mask(self, inputs: Any, previous: Any = None) -> Any:
        """Hands the mask on."""
        return previous


class TransformerEncoder(Learner):
    """Encoder blocks of a transformer, then the mean over the sequence.

    Works on a sequence [batch, length, d], such as words or the tokens of a table. Where a Keras
    mask says that there is nothing, nothing is attended to or counted, so that the zeros that fill
    a text do not change its latent vector.

    Args:
        blocks: How many blocks of self-attention and two fully connected layers.
        heads: Attention heads; they must divide d.
        hidden: Width between the two fully connected layers; none: 4 d.
        dropout: Share of the values that training drops.
        name: Name of the layer, with which its weights' paths begin:
            `learner/block1/attention/query/kernel`.

    Gives:
        The latent vector [batch, d], float32 or the compute dtype; zeros for an empty sequence.

    Raises:
        ValueError: An argument does not fit; when it is called, that what the stem gives is no
            sequence or that the heads do not divide d.

    Source: Vaswani et al. 2017, "Attention Is All You Need"; Xiong et al. 2020, "On Layer
    Normalization in the Transformer Architecture": normalised before each part, which trains
    without a warm-up.
    """

    def __init__(
        self,
        blocks: int = 2,
        heads: int = 4,
        hidden: int | None = None,
        dropout: float = 0.1,
        name: str = "learner",
    ) -> None:
        super().__init__(name=checked_name("transformer_encoder", name))
        for argument, value in {
            "blocks": blocks,
            "heads": heads,
            "hidden": 1 if hidden is None else hidden,
        }.items():
            checked_count("transformer_encoder", argument, value)
        checked_share("transformer_encoder", "dropout", dropout)
        self.count, self.heads, self.hidden, self.rate = blocks, heads, hidden, dropout
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")
        self.blocks: list[Any] = []

    def build(self, shape: Shape) -> None:
        width = shape[-1]
        if len(shape) != 3 or width is None:
            raise _misfit(
                "transformer_encoder",
                "a sequence [batch, length, d]",
                shape,
                "text_stem or table_tokens",
            )
        if width % self.heads:
            remedy = "Choose another width for the stem, or other heads."
            raise ValueError(
                f"blocks.transformer_encoder: heads ({self.heads}) must divide d. Received: "
                f"{width}. {remedy}"
            )
        self.blocks = [
            EncoderBlock(width, self.heads, self.hidden or 4 * width, self.rate, f"block{number}")
            for number in range(1, self.count + 1)
        ]
        for block in self.blocks:
            block.build(shape)
        self.norm.build(shape)

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        for block in self.blocks:
            inputs = block(inputs, mask=mask, training=self.learns(training))
        return mean_of_present(self.norm(inputs), mask)


def _convolution(filters: int, kernel: int, stride: int, name: str) -> Any:
    return keras.layers.Conv2D(
        filters, kernel, stride, "same", use_bias=False, kernel_initializer="he_normal", name=name
    )


def _misfit(block: str, input_kind: str, shape: Shape, stem: str) -> ValueError:
    received = ["batch", *shape[1:]]
    return ValueError(
        f"blocks.{block}: works on {input_kind}. Received: {received}. Put it on {stem}, or take "
        "another learner."
    )
