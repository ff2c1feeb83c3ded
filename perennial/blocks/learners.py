"""Learners: what makes one latent vector of what a stem gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perennial.blocks.arguments import (
    checked_activation,
    checked_count,
    checked_counts,
    checked_names,
    checked_share,
)

if TYPE_CHECKING:
    from perennial.blocks.learner_layers import Learner


def mlp(
    units: Sequence[int] = (128, 64), activation: str = "relu", dropout: float = 0.1, name: str = "learner"
) -> Learner:
    """Fully connected layers.

    Works on a vector [batch, d]; of an image [batch, h, w, c] it takes all values; of a sequence [batch, length, d] the
    mean of what the mask leaves, as a bag of words.

    Args:
        units: Widths of the layers; the last is that of the latent vector.
        activation: Name of one of Keras's activations.
        dropout: Share of the values between two layers that training drops.
        name: Name of the layer, with which its weights' paths begin: `learner/layer1/kernel`.

    Returns:
        A layer that gives the latent vector [batch, units[-1]], float32 or the compute dtype.

    Raises:
        ValueError: An argument does not fit.

    Source: Srivastava et al. 2014 for dropout; He et al. 2015, "Delving Deep into Rectifiers", for the first weights.
    """
    widths = checked_counts("mlp", "units", units)
    checked_activation("mlp", activation)
    checked_share("mlp", "dropout", dropout)
    from perennial.blocks.learner_layers import Mlp

    return Mlp(widths, activation, dropout, _name("mlp", name))


def residual_groups(groups: int = 3, blocks: int = 2, filters: int = 32, name: str = "learner") -> Learner:
    """Residual convolution groups made of blocks, as in a ResNet, then the mean over the image.

    Works on an image [batch, h, w, c]. The first block of each group halves height and width, and each group has twice
    the channels of the one before it.

    Args:
        groups: How many groups; an image of n pixels has room for log2(n).
        blocks: Blocks in each group, of two 3x3 convolutions with batch normalisation.
        filters: Channels of the first group.
        name: Name of the layer, with which its weights' paths begin: `learner/group1/block2/conv1/kernel`.

    Returns:
        A layer that gives the latent vector [batch, filters * 2^(groups - 1)], float32 or the compute dtype.

    Raises:
        ValueError: An argument does not fit; when it is called, that what the stem gives is no image.

    Source: He et al. 2015, "Deep Residual Learning for Image Recognition"; Goyal et al. 2017, section 5.1: each block
    begins as its shortcut alone.
    """
    for argument, value in {"groups": groups, "blocks": blocks, "filters": filters}.items():
        checked_count("residual_groups", argument, value)
    from perennial.blocks.learner_layers import ResidualGroups

    return ResidualGroups(groups, blocks, filters, _name("residual_groups", name))


def transformer_encoder(
    blocks: int = 2, heads: int = 4, hidden: int | None = None, dropout: float = 0.1, name: str = "learner"
) -> Learner:
    """Encoder blocks of a transformer, then the mean over the sequence.

    Works on a sequence [batch, length, d], such as words or the tokens of a table. Where a Keras mask says that there
    is nothing, nothing is attended to or counted, so that the zeros that fill a text do not change its latent vector.

    Args:
        blocks: How many blocks of self-attention and two fully connected layers.
        heads: Attention heads; they must divide d.
        hidden: Width between the two fully connected layers; none: 4 d.
        dropout: Share of the values that training drops.
        name: Name of the layer, with which its weights' paths begin: `learner/block1/attention/query/kernel`.

    Returns:
        A layer that gives the latent vector [batch, d], float32 or the compute dtype; zeros for an empty sequence.

    Raises:
        ValueError: An argument does not fit; when it is called, that what the stem gives is no sequence or that the
            heads do not divide d.

    Source: Vaswani et al. 2017, "Attention Is All You Need"; Xiong et al. 2020, "On Layer Normalization in the
    Transformer Architecture": normalised before each part, which trains without a warm-up.
    """
    for argument, value in {"blocks": blocks, "heads": heads, "hidden": 1 if hidden is None else hidden}.items():
        checked_count("transformer_encoder", argument, value)
    checked_share("transformer_encoder", "dropout", dropout)
    from perennial.blocks.learner_layers import TransformerEncoder

    return TransformerEncoder(blocks, heads, hidden, dropout, _name("transformer_encoder", name))


def _name(block: str, name: str) -> str:
    return checked_names(block, "name", [name])[0]
