"""Text and categories: normal forms, tokens, and hashes that are the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perennial.features.inputs import (
    INTEGERS,
    TEXT,
    checked,
    checked_count,
    on_values,
    one_per_example,
)

if TYPE_CHECKING:
    import tensorflow as tf

    from perennial.features.inputs import Values

# Punctuation, symbols, separators, control and unassigned characters, as RE2 names them.
_BETWEEN_WORDS = r"[\p{P}\p{S}\p{Z}\p{C}\s]+"


def hashed(values: Values, buckets: int, salt: int = 0) -> Values:
    """Gives the bucket of a category, without a vocabulary to be learnt.

    The hash is FarmHash's 64-bit fingerprint (`tf.strings.to_hash_bucket_fast`), which never
    changes.

    Args:
        values: Text or whole numbers, dense of any shape or sparse; 7 and "7" are the same
            category.
        buckets: How many buckets there are.
        salt: Another number gives other collisions.

    Returns:
        int64 from 0 to buckets - 1 in the same form. The empty text is a category of its own; what
        is missing stays missing.

    Raises:
        TypeError: The values are fractions, or no tensor.
        ValueError: There is no bucket.
    """
    import tensorflow as tf

    categories = checked("hashed", "values", values, TEXT, INTEGERS)
    checked_count("hashed", "buckets", buckets)
    return on_values(
        categories,
        lambda category: tf.strings.to_hash_bucket_fast(
            tf.strings.join([f"{salt}:", _as_text(category)]), buckets
        ),
    )


def crossed(*values: tf.Tensor, buckets: int, salt: int = 0) -> tf.Tensor:
    """Gives the bucket of a combination of categories, such as hour x weekday.

    Args:
        values: Two or more tensors of text or whole numbers, all dense and of one shape.
        buckets: How many buckets there are.
        salt: Another number gives other collisions.

    Returns:
        int64 from 0 to buckets - 1 of that shape. `("ab", "c")` and `("a", "bc")` are different
        combinations.

    Raises:
        TypeError: One is sparse (give it `filled`), holds fractions, or is no tensor.
        ValueError: There is one alone, or no bucket.
    """
    import tensorflow as tf

    if len(values) < 2:
        raise ValueError(
            f"features.crossed: values must be two tensors or more. Received: {len(values)}."
        )
    checked_count("crossed", "buckets", buckets)
    texts = [
        _as_text(checked("crossed", f"values[{number}]", value, TEXT, INTEGERS, dense=True))
        for number, value in enumerate(values)
    ]
    # Each with its length in front, so that no text can look like the border of two.
    parts = [
        tf.strings.join([tf.strings.as_string(tf.strings.length(text)), text], ":")
        for text in texts
    ]
    return tf.strings.to_hash_bucket_fast(tf.strings.join([f"{salt}:", *parts]), buckets)


def normalised_text(values: Values) -> Values:
    """Puts text in lower case, its words separated by single spaces.

    Lower case follows Unicode. Punctuation, symbols, every kind of space and control characters
    separate words and are dropped; what is not UTF-8 counts as such. Accents stay.

    Args:
        values: Text, dense of any shape or sparse.

    Returns:
        Text in the same form; empty when no word is left. What is missing stays missing.

    Raises:
        TypeError: The values are not text.
    """
    return on_values(checked("normalised_text", "values", values, TEXT), _normalise)


def tokens(values: Values, max_tokens: int) -> tf.Tensor:
    """Gives the first words of a text, in its normal form.

    Args:
        values: Text, dense [batch] or [batch, 1], or sparse [batch, at most 1].
        max_tokens: How many words are kept.

    Returns:
        Text [batch, max_tokens]; the empty text fills the rest. A missing text has no words.

    Raises:
        TypeError: The values are not text.
        ValueError: No word is to be kept, or an example has several texts.
    """
    checked_count("tokens", "max_tokens", max_tokens)
    words = _words(values, "tokens")
    return words.to_tensor(default_value="", shape=[None, max_tokens])


def hashed_token_counts(values: Values, buckets: int, salt: int = 0) -> tf.Tensor:
    """Counts how often the words of a text fall into each bucket.

    It is a bag of words without a vocabulary.

    Args:
        values: Text, dense [batch] or [batch, 1], or sparse [batch, at most 1]; its normal form is
            counted.
        buckets: How many buckets there are.
        salt: Another number gives other collisions.

    Returns:
        float32 [batch, buckets]. A missing text has no words.

    Raises:
        TypeError: The values are not text.
        ValueError: There is no bucket, or an example has several texts.
    """
    import tensorflow as tf

    checked_count("hashed_token_counts", "buckets", buckets)
    words = _words(values, "hashed_token_counts")
    places = words.value_rowids() * buckets + hashed(words.values, buckets, salt)
    counts = tf.math.unsorted_segment_sum(
        tf.ones_like(places, tf.float32), places, words.nrows() * buckets
    )
    return tf.reshape(counts, [-1, buckets])


def _words(values: Values, function: str) -> tf.RaggedTensor:
    import tensorflow as tf

    from perennial.features.numbers import filled

    text = checked(function, "values", values, TEXT)
    single = (
        filled(text, "")
        if isinstance(text, tf.SparseTensor)
        else one_per_example(text, function, "values")
    )
    return tf.strings.split(_normalise(single))


def _normalise(text: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    # Control characters go first: the functions after it take a NUL for the end of the text.
    whole = tf.strings.unicode_transcode(
        text, "UTF-8", "UTF-8", replacement_char=ord(" "), replace_control_characters=True
    )
    words = tf.strings.regex_replace(tf.strings.lower(whole, encoding="utf-8"), _BETWEEN_WORDS, " ")
    return tf.strings.strip(words)


def _as_text(values: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    return values if values.dtype == tf.string else tf.strings.as_string(tf.cast(values, tf.int64))
