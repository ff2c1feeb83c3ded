"""Stems: what reads the transformed features of a table, an image or a text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from perennial.blocks.arguments import checked_count, checked_counts, checked_names, checked_share

if TYPE_CHECKING:
    import keras

    from perennial.blocks.stem_layers import Joined, Stem

_WIDEST_EMBEDDING = 600


def table_stem(
    numeric: Iterable[str] | Mapping[str, int] = (),
    categorical: Mapping[str, int] | None = None,
    embedding: int | None = None,
    name: str = "stem",
) -> Stem:
    """The features of a table as one vector: numbers as they are, then an embedding of each category.

    Args:
        numeric: Names of features with one number, float32 or int64 [batch] or [batch, 1]; or name -> n, for features
            with n numbers [batch, n]. Scale them in `preprocessing_fn`.
        categorical: Name -> how many categories. The feature holds their numbers from 0 on, int64 [batch] or
            [batch, 1]. Every other number (-1, or one beyond) means the same: none of them.
        embedding: Width of each embedding; none: `min(600, round(1.6 n^0.56))` for n categories.
        name: Name of the layer, with which its weights' paths begin: `stem/payment/embeddings`.

    Returns:
        A layer that gives [batch, d], float32 or the compute dtype; d is the sum of the numbers and embeddings' widths.

    Raises:
        ValueError: An argument does not fit.

    Source: Guo and Berkhahn 2016 for embeddings of categories; fastai's `emb_sz_rule` for their width.
    """
    numbers, categories = _columns("table_stem", numeric, categorical)
    if embedding is not None:
        checked_count("table_stem", "embedding", embedding)
    from perennial.blocks.stem_layers import TableVector

    widths = {
        feature: embedding or min(_WIDEST_EMBEDDING, round(1.6 * size**0.56)) for feature, size in categories.items()
    }
    return TableVector(numbers, categories, widths, _name("table_stem", name))


def table_tokens(
    numeric: Iterable[str] | Mapping[str, int] = (),
    categorical: Mapping[str, int] | None = None,
    width: int = 32,
    name: str = "stem",
) -> Stem:
    """The features of a table as tokens, one for each feature, for `transformer_encoder`.

    Args:
        numeric: As for `table_stem`; the numbers of a feature become one token, a linear function of them.
        categorical: As for `table_stem`; a category's token is its embedding.
        width: Width d of a token.
        name: Name of the layer, with which its weights' paths begin: `stem/miles/kernel`.

    Returns:
        A layer that gives [batch, features, d], float32 or the compute dtype, in the order of the arguments.

    Raises:
        ValueError: An argument does not fit.

    Source: Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data", section 3.3.
    """
    numbers, categories = _columns("table_tokens", numeric, categorical)
    checked_count("table_tokens", "width", width)
    from perennial.blocks.stem_layers import TableTokens

    return TableTokens(numbers, categories, width, _name("table_tokens", name))


def image_stem(
    feature: str,
    shape: tuple[int, int, int],
    flat: bool = False,
    filters: int = 16,
    kernel: int = 3,
    stride: int = 1,
    name: str = "stem",
) -> Stem:
    """An image's first convolution, with batch normalisation and ReLU.

    Args:
        feature: Name of the feature with the image, float32 or int64 [batch, height, width, channels]. Scale its
            values in `preprocessing_fn`.
        shape: Height, width and channels.
        flat: The feature is [batch, height * width * channels], row by row, each pixel's channels side by side.
        filters: Channels that it gives.
        kernel: Height and width of the kernels in pixels.
        stride: Step in pixels. For photographs of 200 pixels and more, kernel 7 and stride 2 save most of the work.
        name: Name of the layer, with which its weights' paths begin: `stem/conv/kernel`.

    Returns:
        A layer that gives [batch, height / stride, width / stride, filters], rounded up, float32 or the compute dtype.

    Raises:
        ValueError: An argument does not fit.

    Source: He et al. 2015, "Deep Residual Learning for Image Recognition", section 4.2 (kernel 3) and table 1 (7).
    """
    checked_names("image_stem", "feature", [feature])
    lengths = checked_counts("image_stem", "shape", shape, 3)
    for argument, value in {"filters": filters, "kernel": kernel, "stride": stride}.items():
        checked_count("image_stem", argument, value)
    from perennial.blocks.stem_layers import ImageStem

    return ImageStem(feature, lengths, flat, filters, kernel, stride, _name("image_stem", name))


def text_stem(
    feature: str, vocabulary: int, length: int, width: int = 64, dropout: float = 0.1, name: str = "stem"
) -> Stem:
    """The words of a text, embedded, with their positions.

        words = features.tokens(inputs["text"], 32)  # in preprocessing_fn
        return {"words": tf.where(words == "", tf.constant(0, tf.int64), features.hashed(words, 1000) + 1)}

        stem = blocks.text_stem("words", vocabulary=1000, length=32)  # in build_model

    Args:
        feature: Name of the feature with the words' numbers, int64 [batch, length]: 1 to `vocabulary`; 0: no word.
            Every other number means the same: a word beyond the vocabulary.
        vocabulary: How many words there are.
        length: Words in a text, with the zeros that fill it. The weights do not depend on it.
        width: Width d of a word's embedding.
        dropout: Share of the values that training drops.
        name: Name of the layer, with which its weights' paths begin: `stem/words/embeddings`.

    Returns:
        A layer that gives [batch, length, d], float32 or the compute dtype, and a Keras mask bool [batch, length]:
        True where there is a word.

    Raises:
        ValueError: An argument does not fit.

    Source: Vaswani et al. 2017, "Attention Is All You Need", sections 3.4, 3.5 (sines as positions) and 5.4.
    """
    checked_names("text_stem", "feature", [feature])
    for argument, value in {"vocabulary": vocabulary, "length": length, "width": width}.items():
        checked_count("text_stem", argument, value)
    checked_share("text_stem", "dropout", dropout)
    from perennial.blocks.stem_layers import TextStem

    return TextStem(feature, vocabulary, length, width, dropout, _name("text_stem", name))


def joined(*branches: tuple[Stem, keras.Layer], name: str = "joined") -> Joined:
    """Several stems as one, each with a learner of its own: for a model of an image and a table, say.

        eyes = (blocks.image_stem("photo", (64, 64, 3), name="photo_stem"), blocks.residual_groups(name="eyes"))
        facts = (blocks.table_stem(["price"], name="facts_stem"), blocks.mlp((32,), name="facts"))
        blocks.assemble(blocks.joined(eyes, facts), blocks.mlp((64,)), blocks.binary())

    Args:
        branches: Two pairs or more of a stem and a learner, each with a `name` of its own. Branches may read the same
            feature in the same way.
        name: Name of the layer that puts the vectors side by side.

    Returns:
        What stands for a stem in `assemble`; gives [batch, d], the learners' latent vectors side by side.

    Raises:
        ValueError: There is one branch alone, names are not different, or branches read a feature in different ways.
    """
    if len(branches) < 2:
        raise ValueError(f"blocks.joined: branches must be two or more. Received: {len(branches)}.")
    checked_names("joined", "names of the branches' layers", [layer.name for branch in branches for layer in branch])
    specs: dict[str, Any] = {}
    for stem, _ in branches:
        for feature, spec in stem.specs().items():
            if specs.setdefault(feature, spec) != spec:
                received = f"{specs[feature]} and {spec}"
                raise ValueError(f"blocks.joined: branches must read `{feature}` in one way. Received: {received}.")
    from perennial.blocks.stem_layers import Joined

    return Joined(branches, _name("joined", name))


def _columns(
    block: str, numeric: Iterable[str] | Mapping[str, int], categorical: Mapping[str, int] | None
) -> tuple[dict[str, int], dict[str, int]]:
    if isinstance(numeric, str):
        raise ValueError(f"blocks.{block}: numeric must be a list of names. Received: {numeric!r}.")
    named, categories = dict(numeric) if isinstance(numeric, Mapping) else list(numeric), dict(categorical or {})
    checked_names(block, "numeric and categorical", [*named, *categories])
    numbers = named if isinstance(named, dict) else dict.fromkeys(named, 1)
    for argument, sizes in {"numeric": numbers, "categorical": categories}.items():
        for feature, size in sizes.items():
            checked_count(block, f"{argument}[{feature!r}]", size)
    return numbers, categories


def _name(block: str, name: str) -> str:
    return checked_names(block, "name", [name])[0]
