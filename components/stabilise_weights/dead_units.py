"""Units of a model that are silent whatever they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perennial.training.model_call import call_model

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from perennial.training.transformed_features import Features

_RELU = ("Relu", "Relu6")


def dead_units(model: keras.Model, probe: Features) -> float | None:
    """Measures the share of ReLU units that give zero on every probed example.

    None for a model without any.

    The operations of the model's graph are looked at, not its layers, so that a ReLU is found
    however it is written: as a layer's activation, as a layer, by a function, or inside a model or
    a block in the model. A unit is one place on an output's last axis: a unit of a dense layer, a
    channel of a convolution.

    Args:
        model: Built.
        probe: Transformed features, each [n, ...].
    """
    import tensorflow as tf

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def silent(features: Features) -> list[tf.Tensor]:
        outputs = tf.nest.flatten(call_model(model, features, training=False))
        activations = [
            operation for operation in outputs[0].graph.get_operations() if operation.type in _RELU
        ]
        return [
            _silent(operation.outputs[0])
            for operation in activations
            if _has_units(operation.outputs[0])
        ]

    units = silent(probe)
    if not units:
        return None
    return float(tf.reduce_mean(tf.cast(tf.concat(units, axis=0), tf.float32)))


def _silent(output: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    return tf.reduce_all(tf.equal(output, 0), axis=list(range(len(output.shape) - 1)))


def _has_units(output: tf.Tensor) -> bool:
    return output.shape.rank is not None and output.shape.rank > 1
