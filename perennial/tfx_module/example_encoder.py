"""Encoding of tf.Examples inside a TensorFlow graph, for models that take nothing else."""

from __future__ import annotations

import math
from collections import defaultdict
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
    """Encodes features float32, int64 or string [n, ...] as serialised tf.Examples, string [n].

    Works in a graph.

    All dimensions but the first are known. The values of a feature of more dimensions are written
    row by row, as `tf.io.parse_example` reads them.
    """
    import tensorflow as tf

    # Features alike in dtype and number of values are written at once: a graph with nodes for each
    # is slow to save.
    alike = defaultdict(list)
    for name, values in features.items():
        alike[values.dtype.name, math.prod(values.shape[1:])].append(name)
    entries = [
        _entries({name: features[name] for name in names}, count)
        for (_, count), names in alike.items()
    ]
    held = _message("Features", {"feature": tf.concat(entries, axis=1)})
    return _message("Example", {"features": held[:, tf.newaxis]})


def _entries(features: Mapping[str, tf.Tensor], count: int) -> tf.Tensor:
    """Encodes the entries of the map from names to features, string [n, features].

    All of one dtype, `count` values.
    """
    import tensorflow as tf

    values = tf.stack([tf.reshape(tensor, [-1, count]) for tensor in features.values()], axis=1)
    rows, flat = tf.shape(values)[0], tf.reshape(values, [-1, count])
    message, field = _KINDS[values.dtype.name]
    feature = _message("Feature", {field: _message(message, {"value": flat})[:, tf.newaxis]})
    names = tf.tile(tf.constant(list(features)), [rows])
    entries = _message(
        "Features.FeatureEntry", {"key": names[:, tf.newaxis], "value": feature[:, tf.newaxis]}
    )
    return tf.reshape(entries, [rows, len(features)])


def _message(kind: str, fields: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Encodes fields [n, number of values] as serialised messages, string [n]."""
    import tensorflow as tf

    sizes = tf.stack(
        [tf.fill([tf.shape(values)[0]], tf.shape(values)[1]) for values in fields.values()], axis=1
    )
    return tf.io.encode_proto(sizes, list(fields.values()), list(fields), f"tensorflow.{kind}")
