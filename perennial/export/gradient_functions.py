"""Functions of a SavedModel that trace its outputs back to what its layers read.

Between raw and transformed features lie vocabularies, which no gradient passes; so each half is a
function of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perennial.export.argument_names import argument_names

if TYPE_CHECKING:
    import tensorflow as tf

Tensors = dict[str, "tf.Tensor"]

TRANSFORM_EXAMPLES = "transform_examples"
PREDICT_TRANSFORMED = "predict_transformed"


@dataclass(frozen=True)
class Halves:
    """The served model in two halves.

    Attributes:
        transform: Serialised tf.Examples, string [n] -> transformed features by name, each [n,
            ...].
        predict: Transformed features -> what the signatures give, calibrated as served.
    """

    transform: Callable[[tf.Tensor], Tensors]
    predict: Callable[[Tensors], Tensors]


def add_halves(module: tf.Module, halves: Halves) -> None:
    """Makes the halves functions of a module that is going to be saved.

    A model with a transformed feature that is not dense gets none: there is no path from a baseline
    to such a one.
    """
    import tensorflow as tf

    examples = tf.TensorSpec([None], tf.string, name="examples")
    transform = tf.function(halves.transform, input_signature=[examples], autograph=False)
    given = transform.get_concrete_function().structured_outputs
    if not all(isinstance(tensor, tf.Tensor) for tensor in given.values()):
        return
    arguments = argument_names(given)
    taken = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype, name=arguments[name])
        for name, tensor in given.items()
    }
    predict = tf.function(halves.predict, input_signature=[taken], autograph=False)
    predict.get_concrete_function()
    setattr(module, TRANSFORM_EXAMPLES, transform)
    setattr(module, PREDICT_TRANSFORMED, predict)


def halves_of(loaded: Any) -> Halves | None:
    """Gives the halves of a loaded SavedModel.

    None for a model of `run_fn` or of sparse features, which has none.
    """
    transform, predict = (
        getattr(loaded, name, None) for name in (TRANSFORM_EXAMPLES, PREDICT_TRANSFORMED)
    )
    return Halves(transform, predict) if transform is not None and predict is not None else None
