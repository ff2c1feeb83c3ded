"""Serialised tf.Examples made inside a TensorFlow graph, for models whose signature takes nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

# Message of a feature's values, and the field of tensorflow.Feature that holds it.
_KINDS = {
    "float32": ("FloatList", "float_list"),
    "int64": ("Int64List", "int64_list"),
    "string": ("BytesList", "bytes_list"),
}


def encode_examples(features: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Serialised tf.Examples, string [n], of features float32, int64 or string [n, ...]; works in a graph.

    The values of a feature of more dimensions are written row by row, as `tf.io.parse_example` reads them.
    """
    import tensorflow as tf

    entries = [_entry(name, values) for name, values in features.items()]
    held = _message("Features", {"feature": tf.stack(entries, axis=1)})
    return _message("Example", {"features": held[:, tf.newaxis]})


def _entry(name: str, values: tf.Tensor) -> tf.Tensor:
    """One entry of the map from names to features, serialised, string [n]."""
    import tensorflow as tf

    message, field = _KINDS[values.dtype.name]
    rows = tf.shape(values)[0]
    flat = tf.reshape(values, tf.stack([rows, tf.reduce_prod(tf.shape(values)[1:])]))
    feature = _message("Feature", {field: _message(message, {"value": flat})[:, tf.newaxis]})
    return _message("Features.FeatureEntry", {"key": tf.fill([rows, 1], name), "value": feature[:, tf.newaxis]})


def _message(kind: str, fields: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Serialised messages, string [n], of fields [n, number of values]."""
    import tensorflow as tf

    sizes = tf.stack([tf.fill([tf.shape(values)[0]], tf.shape(values)[1]) for values in fields.values()], axis=1)
    return tf.io.encode_proto(sizes, list(fields.values()), list(fields), f"tensorflow.{kind}")
