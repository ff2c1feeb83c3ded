"""The pretext for text: which words stood where they were masked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perennial.training.transformed_features import Features

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

NO_WORD = 0
# Vocabularies are ordered by frequency: what comes later is too rare to learn from, and is not
# asked for.
MOST_WORDS = 20_000
_PLACE_WIDTH, _HIDDEN = 32, 128


@dataclass(frozen=True)
class MaskedWords:
    """Asks which words stood at masked places of a text. The loss is in nats for each masked word.

    A masked word is 0, as if there were none. Words are whole numbers from 1; `words` is one more
    than the greatest.

    Source: Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers", section 3.1
    (masked language model).
    """

    feature: str
    length: int
    words: int
    share: float

    @property
    def masked(self) -> int:
        """Gives how many words of a text are masked at the most."""
        return max(1, round(self.share * self.length))

    def ask(self, features: Features, seed: tf.Tensor) -> tuple[Features, Features]:
        """Masks a share of each text's words, at least one if it has any."""
        import tensorflow as tf

        words = features[self.feature]
        size, is_word = tf.shape(words)[0], words > NO_WORD
        # Random places, those without a word last.
        drawn = tf.random.stateless_uniform([size, self.length], seed) + tf.cast(
            ~is_word, tf.float32
        )
        places = tf.argsort(drawn, axis=1)[:, : self.masked]
        present = tf.reduce_sum(tf.cast(is_word, tf.float32), axis=1, keepdims=True)
        count = tf.maximum(tf.round(self.share * present), tf.minimum(present, 1.0))
        chosen = tf.cast(tf.range(self.masked), tf.float32)[tf.newaxis] < count
        hidden = tf.reduce_any(
            tf.one_hot(places, self.length, on_value=True, off_value=False)
            & chosen[..., tf.newaxis],
            1,
        )
        seen = tf.where(hidden, tf.cast(NO_WORD, words.dtype), words)
        asked = tf.gather(words, places, batch_dims=1)
        counted = tf.cast(chosen & (asked < self.words), tf.float32)
        targets = {"places": places, "words": tf.minimum(asked, self.words - 1), "counted": counted}
        return {**features, self.feature: seen}, {
            **targets,
            "weight": tf.reduce_sum(counted, axis=1),
        }

    def head(self, width: int) -> keras.Model:
        """Builds the model from the latent vector and the masked places to logits of words."""
        import keras

        latent = keras.Input((width,), name="latent")
        places = keras.Input((self.masked,), name="places", dtype="int32")
        where = keras.layers.Embedding(self.length, _PLACE_WIDTH)(places)
        both = keras.layers.Concatenate()([keras.layers.RepeatVector(self.masked)(latent), where])
        hidden = keras.layers.Dense(_HIDDEN, activation="relu")(both)
        answers = keras.layers.Dense(self.words, dtype="float32")(hidden)
        return keras.Model({"latent": latent, "places": places}, answers)

    def losses(self, asked: Mapping[str, tf.Tensor], answers: tf.Tensor) -> tf.Tensor:
        """Sums the cross-entropies of each text's masked words in nats, float32 [n]."""
        import tensorflow as tf

        targets = tf.maximum(asked["words"], 0)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, answers)
        return tf.reduce_sum(losses * asked["counted"], axis=1)
