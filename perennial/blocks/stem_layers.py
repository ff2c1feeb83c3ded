"""Keras layers of the stems."""

# ruff: noqa: D102 - `build`, `call` and the like mean what Keras says; the classes tell what they compute.
from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from perennial.blocks.layers import Block, Shape, normalisation, positions, rows_between

Features = Mapping[str, Any]
# Shape of one example, and dtype.
Spec = tuple[tuple[int, ...], str]


class Stem(Block):
    """A block that reads transformed features by name."""

    @abstractmethod
    def specs(self) -> dict[str, Spec]:
        """What it reads."""

    def inputs(self) -> dict[str, Any]:
        """A new keras.Input for each feature that it reads, by name."""
        return new_inputs(self.specs())


def new_inputs(specs: Mapping[str, Spec]) -> dict[str, Any]:
    """A keras.Input for each feature."""
    return {name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in specs.items()}


class TableStem(Stem):
    """What the stems for tables share."""

    def __init__(self, numeric: Mapping[str, int], categorical: Mapping[str, int], name: str) -> None:
        super().__init__(name=name)
        self.numeric, self.categorical = dict(numeric), dict(categorical)

    def specs(self) -> dict[str, Spec]:
        numbers: dict[str, Spec] = {name: ((width,), "float32") for name, width in self.numeric.items()}
        return numbers | {name: ((1,), "int64") for name in self.categorical}

    def embedding(self, feature: str, width: int) -> Any:
        """An embedding with a row for each number and one for all others."""
        return keras.layers.Embedding(self.categorical[feature] + 1, width, name=feature)

    def rows(self, features: Features, feature: str) -> Any:
        """Rows of the feature's embedding, int64 [batch]."""
        size = self.categorical[feature]
        return rows_between(ops.reshape(features[feature], (-1,)), 0, size - 1, size)

    def numbers(self, features: Features, feature: str) -> Any:
        """A numeric feature as [batch, n] in the compute dtype."""
        return ops.cast(ops.reshape(features[feature], (-1, self.numeric[feature])), self.compute_dtype)


class TableVector(TableStem):
    """Numbers as they are and embeddings of categories, side by side."""

    def __init__(
        self, numeric: Mapping[str, int], categorical: Mapping[str, int], widths: Mapping[str, int], name: str
    ) -> None:
        super().__init__(numeric, categorical, name)
        self.embeddings = {feature: self.embedding(feature, widths[feature]) for feature in categorical}

    def build(self, shapes: Mapping[str, Shape]) -> None:
        for layer in self.embeddings.values():
            layer.build((None,))

    def call(self, features: Features) -> Any:
        numbers = [self.numbers(features, name) for name in self.numeric]
        embedded = [layer(self.rows(features, name)) for name, layer in self.embeddings.items()]
        return ops.concatenate([*numbers, *embedded], axis=-1)


class TableTokens(TableStem):
    """A token for each feature: a projection of numbers, an embedding of a category."""

    def __init__(self, numeric: Mapping[str, int], categorical: Mapping[str, int], width: int, name: str) -> None:
        super().__init__(numeric, categorical, name)
        self.projections = {feature: keras.layers.Dense(width, name=feature) for feature in numeric}
        self.embeddings = {feature: self.embedding(feature, width) for feature in categorical}

    def build(self, shapes: Mapping[str, Shape]) -> None:
        for feature, layer in self.projections.items():
            layer.build((None, self.numeric[feature]))
        for layer in self.embeddings.values():
            layer.build((None,))

    def call(self, features: Features) -> Any:
        numbers = [layer(self.numbers(features, name)) for name, layer in self.projections.items()]
        categories = [layer(self.rows(features, name)) for name, layer in self.embeddings.items()]
        return ops.stack([*numbers, *categories], axis=1)


class ImageStem(Stem):
    """A first convolution over an image."""

    def __init__(
        self, feature: str, shape: tuple[int, ...], flat: bool, filters: int, kernel: int, stride: int, name: str
    ) -> None:
        super().__init__(name=name)
        self.feature, self.image_shape, self.flat = feature, shape, flat
        self.conv = keras.layers.Conv2D(
            filters, kernel, stride, "same", use_bias=False, kernel_initializer="he_normal", name="conv"
        )
        self.norm = normalisation("norm")

    def specs(self) -> dict[str, Spec]:
        return {self.feature: ((math.prod(self.image_shape),) if self.flat else tuple(self.image_shape), "float32")}

    def build(self, shapes: Mapping[str, Shape]) -> None:
        shape = (None, *self.image_shape)
        self.conv.build(shape)
        self.norm.build(self.conv.compute_output_shape(shape))

    def call(self, features: Features, training: bool | None = None) -> Any:
        image = ops.reshape(features[self.feature], (-1, *self.image_shape))
        return ops.relu(self.norm(self.conv(image), training=self.learns(training)))


class TextStem(Stem):
    """Embedded words and their positions; the mask tells where there is a word."""

    def __init__(self, feature: str, vocabulary: int, length: int, width: int, dropout: float, name: str) -> None:
        super().__init__(name=name)
        self.feature, self.vocabulary, self.length, self.width = feature, vocabulary, length, width
        # Row 0 stands for no word and is masked; the last one for every number beyond the vocabulary.
        spread = keras.initializers.RandomNormal(stddev=width**-0.5)
        self.words = keras.layers.Embedding(vocabulary + 2, width, embeddings_initializer=spread, name="words")
        self.dropout = keras.layers.Dropout(dropout, name="dropout")

    def specs(self) -> dict[str, Spec]:
        return {self.feature: ((self.length,), "int64")}

    def build(self, shapes: Mapping[str, Shape]) -> None:
        self.words.build(shapes[self.feature])

    def call(self, features: Features, training: bool | None = None) -> Any:
        numbers = features[self.feature]
        words = self.words(rows_between(numbers, 0, self.vocabulary, self.vocabulary + 1)) * self.width**0.5
        placed = words + ops.cast(positions(numbers.shape[1], self.width), words.dtype)
        return self.dropout(placed, training=self.learns(training))

    def compute_mask(self, features: Features, previous: Any = None) -> Any:
        """True where there is a word, [batch, length]."""
        return ops.not_equal(features[self.feature], 0)


@dataclass(frozen=True)
class Joined:
    """Several branches of a stem and a learner, their vectors side by side. Their layers are layers of the model."""

    branches: tuple[tuple[Any, Any], ...]
    name: str

    def specs(self) -> dict[str, Spec]:
        """What the branches' stems read."""
        return {name: spec for stem, _ in self.branches for name, spec in stem.specs().items()}

    def inputs(self) -> dict[str, Any]:
        """A new keras.Input for each feature that a branch reads, by name."""
        return new_inputs(self.specs())

    def __call__(self, features: Features) -> Any:
        """The branches' vectors side by side, [batch, d]."""
        vectors = [learner(stem({name: features[name] for name in stem.specs()})) for stem, learner in self.branches]
        return keras.layers.Concatenate(name=self.name)(vectors)
