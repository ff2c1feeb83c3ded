"""Stems: layers that read the transformed features of a table, an image or a text."""

# ruff: noqa: D102 - `build`, `call` and the like mean what Keras says; the classes tell what they
# compute.
from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import keras
from keras import ops

from perennial.blocks.arguments import (
    checked_count,
    checked_counts,
    checked_name,
    checked_names,
    checked_share,
)
from perennial.blocks.layers import Block, Shape, normalisation, positions, rows_between

_WIDEST_EMBEDDING = 600

Features = Mapping[str, Any]
# Shape of one example, and dtype.
Spec = tuple[tuple[int, ...], str]


class Stem(Block):
    """A block that reads transformed features by name."""

    @abstractmethod
    def specs(self) -> dict[str, Spec]:
        """Gives the features that it reads."""

    def inputs(self) -> dict[str, Any]:
        """Makes a new keras.Input for each feature that it reads, by name."""
        return new_inputs(self.specs())


def new_inputs(specs: Mapping[str, Spec]) -> dict[str, Any]:
    """Makes a keras.Input for each feature."""
    return {
        name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in specs.items()
    }


class TableStem(Stem):
    """A stem for tables: its arguments, and how it reads a feature."""

    def __init__(
        self,
        block: str,
        numeric: Iterable[str] | Mapping[str, int],
        categorical: Mapping[str, int] | None,
        name: str,
    ) -> None:
        super().__init__(name=checked_name(block, name))
        self.numeric, self.categorical = _columns(block, numeric, categorical)

    def specs(self) -> dict[str, Spec]:
        numbers: dict[str, Spec] = {
            name: ((width,), "float32") for name, width in self.numeric.items()
        }
        return numbers | {name: ((1,), "int64") for name in self.categorical}

    def embedding(self, feature: str, width: int) -> Any:
        """Makes an embedding with a row for each number and one for all others."""
        return keras.layers.Embedding(self.categorical[feature] + 1, width, name=feature)

    def rows(self, features: Features, feature: str) -> Any:
        """Gives the rows of the feature's embedding, int64 [batch]."""
        size = self.categorical[feature]
        return rows_between(ops.reshape(features[feature], (-1,)), 0, size - 1, size)

    def numbers(self, features: Features, feature: str) -> Any:
        """Gives a numeric feature as [batch, n] in the compute dtype."""
        return ops.cast(
            ops.reshape(features[feature], (-1, self.numeric[feature])), self.compute_dtype
        )


class TableVector(TableStem):
    """The features of a table as one vector: the numbers, then an embedding of each category.

    Args:
        numeric: Names of features with one number, float32 or int64 [batch] or [batch, 1]; or name
            -> n, for features with n numbers [batch, n]. Scale them in `preprocessing_fn`.
        categorical: Name -> how many categories. The feature holds their numbers from 0 on, int64
            [batch] or [batch, 1]. Every other number (-1, or one beyond) means the same: none of
            them.
        embedding: Width of each embedding; none: `min(600, round(1.6 n^0.56))` for n categories.
        name: Name of the layer, with which its weights' paths begin: `stem/payment/embeddings`.

    Gives:
        [batch, d], float32 or the compute dtype; d is the sum of the numbers and embeddings'
        widths.

    Raises:
        ValueError: An argument does not fit.

    Source: Guo and Berkhahn 2016 for embeddings of categories; fastai's `emb_sz_rule` for their
    width.
    """

    def __init__(
        self,
        numeric: Iterable[str] | Mapping[str, int] = (),
        categorical: Mapping[str, int] | None = None,
        embedding: int | None = None,
        name: str = "stem",
    ) -> None:
        super().__init__("table_stem", numeric, categorical, name)
        if embedding is not None:
            checked_count("table_stem", "embedding", embedding)
        self.embeddings = {
            feature: self.embedding(
                feature, embedding or min(_WIDEST_EMBEDDING, round(1.6 * size**0.56))
            )
            for feature, size in self.categorical.items()
        }

    def build(self, shapes: Mapping[str, Shape]) -> None:
        for layer in self.embeddings.values():
            layer.build((None,))

    def call(self, features: Features) -> Any:
        numbers = [self.numbers(features, name) for name in self.numeric]
        embedded = [layer(self.rows(features, name)) for name, layer in self.embeddings.items()]
        return ops.concatenate([*numbers, *embedded], axis=-1)


class TableTokens(TableStem):
    """The features of a table as tokens, one for each feature, for `transformer_encoder`.

    Args:
        numeric: As for `table_stem`; the numbers of a feature become one token, a linear function
            of them.
        categorical: As for `table_stem`; a category's token is its embedding.
        width: Width d of a token.
        name: Name of the layer, with which its weights' paths begin: `stem/miles/kernel`.

    Gives:
        [batch, features, d], float32 or the compute dtype, in the order of the arguments.

    Raises:
        ValueError: An argument does not fit.

    Source: Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data", section 3.3.
    """

    def __init__(
        self,
        numeric: Iterable[str] | Mapping[str, int] = (),
        categorical: Mapping[str, int] | None = None,
        width: int = 32,
        name: str = "stem",
    ) -> None:
        super().__init__("table_tokens", numeric, categorical, name)
        checked_count("table_tokens", "width", width)
        self.projections = {
            feature: keras.layers.Dense(width, name=feature) for feature in self.numeric
        }
        self.embeddings = {feature: self.embedding(feature, width) for feature in self.categorical}

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
    """An image's first convolution, with batch normalisation and ReLU.

    Args:
        feature: Name of the feature with the image, float32 or int64 [batch, height, width,
            channels]. Scale its values in `preprocessing_fn`.
        shape: Height, width and channels.
        flat: The feature is [batch, height * width * channels], row by row, each pixel's channels
            side by side.
        filters: Channels that it gives.
        kernel: Height and width of the kernels in pixels.
        stride: Step in pixels. For photographs of 200 pixels and more, kernel 7 and stride 2 save
            most of the work.
        name: Name of the layer, with which its weights' paths begin: `stem/conv/kernel`.

    Gives:
        [batch, height / stride, width / stride, filters], rounded up, float32 or the compute dtype.

    Raises:
        ValueError: An argument does not fit.

    Source: He et al. 2015, "Deep Residual Learning for Image Recognition", section 4.2 (kernel 3)
    and table 1 (7).
    """

    def __init__(
        self,
        feature: str,
        shape: tuple[int, int, int],
        flat: bool = False,
        filters: int = 16,
        kernel: int = 3,
        stride: int = 1,
        name: str = "stem",
    ) -> None:
        super().__init__(name=checked_name("image_stem", name))
        checked_names("image_stem", "feature", [feature])
        for argument, value in {"filters": filters, "kernel": kernel, "stride": stride}.items():
            checked_count("image_stem", argument, value)
        self.feature, self.flat = feature, flat
        self.image_shape = checked_counts("image_stem", "shape", shape, 3)
        self.conv = keras.layers.Conv2D(
            filters,
            kernel,
            stride,
            "same",
            use_bias=False,
            kernel_initializer="he_normal",
            name="conv",
        )
        self.norm = normalisation("norm")

    def specs(self) -> dict[str, Spec]:
        return {
            self.feature: (
                (math.prod(self.image_shape),) if self.flat else tuple(self.image_shape),
                "float32",
            )
        }

    def build(self, shapes: Mapping[str, Shape]) -> None:
        shape = (None, *self.image_shape)
        self.conv.build(shape)
        self.norm.build(self.conv.compute_output_shape(shape))

    def call(self, features: Features, training: bool | None = None) -> Any:
        image = ops.reshape(features[self.feature], (-1, *self.image_shape))
        return ops.relu(self.norm(self.conv(image), training=self.learns(training)))


class TextStem(Stem):
    """The words of a text, embedded, with their positions.

        words = features.tokens(inputs["text"], 32)  # in preprocessing_fn
        none = tf.constant(0, tf.int64)
        numbers = tf.where(words == "", none, features.hashed(words, 1000) + 1)

        stem = blocks.text_stem("words", vocabulary=1000, length=32)  # in build_model

    Args:
        feature: Name of the feature with the words' numbers, int64 [batch, length]: 1 to
            `vocabulary`; 0: no word. Every other number means the same: a word beyond the
            vocabulary.
        vocabulary: How many words there are.
        length: Words in a text, with the zeros that fill it. The weights do not depend on it.
        width: Width d of a word's embedding.
        dropout: Share of the values that training drops.
        name: Name of the layer, with which its weights' paths begin: `stem/words/embeddings`.

    Gives:
        [batch, length, d], float32 or the compute dtype, and a Keras mask bool [batch, length]:
        True where there is a word.

    Raises:
        ValueError: An argument does not fit.

    Source: Vaswani et al. 2017, "Attention Is All You Need", sections 3.4, 3.5 (sines as positions)
    and 5.4.
    """

    def __init__(
        self,
        feature: str,
        vocabulary: int,
        length: int,
        width: int = 64,
        dropout: float = 0.1,
        name: str = "stem",
    ) -> None:
        super().__init__(name=checked_name("text_stem", name))
        checked_names("text_stem", "feature", [feature])
        for argument, value in {"vocabulary": vocabulary, "length": length, "width": width}.items():
            checked_count("text_stem", argument, value)
        checked_share("text_stem", "dropout", dropout)
        self.feature, self.vocabulary, self.length, self.width = feature, vocabulary, length, width
        # Row 0 stands for no word and is masked; the last one for every number beyond the
        # vocabulary.
        spread = keras.initializers.RandomNormal(stddev=width**-0.5)
        self.words = keras.layers.Embedding(
            vocabulary + 2, width, embeddings_initializer=spread, name="words"
        )
        self.dropout = keras.layers.Dropout(dropout, name="dropout")

    def specs(self) -> dict[str, Spec]:
        return {self.feature: ((self.length,), "int64")}

    def build(self, shapes: Mapping[str, Shape]) -> None:
        self.words.build(shapes[self.feature])

    def call(self, features: Features, training: bool | None = None) -> Any:
        numbers = features[self.feature]
        words = (
            self.words(rows_between(numbers, 0, self.vocabulary, self.vocabulary + 1))
            * self.width**0.5
        )
        placed = words + ops.cast(positions(numbers.shape[1], self.width), words.dtype)
        return self.dropout(placed, training=self.learns(training))

    def compute_mask(self, features: Features, previous: Any = None) -> Any:
        """Gives True where there is a word, [batch, length]."""
        return ops.not_equal(features[self.feature], 0)


class Joined:
    """Several stems as one, each with a learner of its own.

    It is for a model of an image and a table, say.

        photo = blocks.image_stem("photo", (64, 64, 3), name="photo_stem")
        price = blocks.table_stem(["price"], name="price_stem")
        both = blocks.joined(
            (photo, blocks.residual_groups(name="eyes")), (price, blocks.mlp((32,), name="facts"))
        )
        model = blocks.assemble(both, blocks.mlp((64,)), blocks.binary())

    Args:
        branches: Two pairs or more of a stem and a learner, each with a `name` of its own. Branches
            may read the same feature in the same way.
        name: Name of the layer that puts the vectors side by side.

    Gives:
        In place of a stem in `assemble`: [batch, d], the learners' latent vectors side by side.

    Raises:
        ValueError: There are less than two branches, two names are equal, or branches read a
            feature in different ways.
    """

    def __init__(self, *branches: tuple[Stem, keras.Layer], name: str = "joined") -> None:
        if len(branches) < 2:
            raise ValueError(
                f"blocks.joined: branches must be two or more. Received: {len(branches)}."
            )
        checked_names(
            "joined",
            "names of the branches' layers",
            [layer.name for branch in branches for layer in branch],
        )
        specs: dict[str, Any] = {}
        for stem, _ in branches:
            for feature, spec in stem.specs().items():
                if specs.setdefault(feature, spec) != spec:
                    received = f"{specs[feature]} and {spec}"
                    raise ValueError(
                        f"blocks.joined: branches must read `{feature}` in one way. Received: "
                        f"{received}."
                    )
        self.branches, self.name = branches, checked_name("joined", name)

    def specs(self) -> dict[str, Spec]:
        """Gives the features that the branches' stems read."""
        return {name: spec for stem, _ in self.branches for name, spec in stem.specs().items()}

    def inputs(self) -> dict[str, Any]:
        """Makes a new keras.Input for each feature that a branch reads, by name."""
        return new_inputs(self.specs())

    def __call__(self, features: Features) -> Any:
        """Gives the branches' vectors side by side, [batch, d]."""
        vectors = [
            learner(stem({name: features[name] for name in stem.specs()}))
            for stem, learner in self.branches
        ]
        return keras.layers.Concatenate(name=self.name)(vectors)


def _columns(
    block: str, numeric: Iterable[str] | Mapping[str, int], categorical: Mapping[str, int] | None
) -> tuple[dict[str, int], dict[str, int]]:
    if isinstance(numeric, str):
        raise ValueError(f"blocks.{block}: numeric must be a list of names. Received: {numeric!r}.")
    named, categories = (
        dict(numeric) if isinstance(numeric, Mapping) else list(numeric),
        dict(categorical or {}),
    )
    checked_names(block, "numeric and categorical", [*named, *categories])
    numbers = named if isinstance(named, dict) else dict.fromkeys(named, 1)
    for argument, sizes in {"numeric": numbers, "categorical": categories}.items():
        for feature, size in sizes.items():
            checked_count(block, f"{argument}[{feature!r}]", size)
    return numbers, categories
