"""Private parts of Keras that have no public counterpart.

All use of them is here, to be looked at when Keras changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def is_functional(model: keras.Model) -> bool:
    """Tells whether a model is a graph of layers, as `keras.Model(inputs, outputs)` makes one.

    Keras exports no class for it, and `keras.Model` is the class of every other model too.
    """
    import keras

    return isinstance(model, keras.src.models.Functional)


def reset_layer_names() -> None:
    """Lets layers without a name be numbered from the beginning again.

    So the names of a model's layers do not depend on the models that were built before it.

    Keras's own `clear_session` would also forget the precision and the seed that were set.
    """
    import keras

    keras.src.utils.naming.reset_uids()


def tensor_below_head(output: Any) -> Any:
    """Gives what the last layer with weights before a symbolic output reads.

    None where the way to it branches.
    """
    while True:
        operation, node, _ = output._keras_history
        inputs = operation._inbound_nodes[node].input_tensors
        if len(inputs) != 1:
            return None
        if operation.weights:
            return inputs[0]
        output = inputs[0]
