"""Calling a model with the features that it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perennial.training.keras_internals import is_functional
from perennial.training.transformed_features import Features

if TYPE_CHECKING:
    import keras


def call_model(model: keras.Model, features: Features, training: bool) -> Any:
    """Calls a model with features among which there may be some that it does not read.

    Keras matches a dictionary with a functional model's own by the order of the sorted names, not
    by the names: one feature more would move all that come after it.
    """
    inputs = model.input if is_functional(model) else None
    if isinstance(inputs, dict) and inputs.keys() <= features.keys():
        features = {name: features[name] for name in inputs}
    return model(features, training=training)
