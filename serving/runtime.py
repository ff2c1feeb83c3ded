"""A model in memory: verified, loaded, warmed up, and called on arrays.

What serves is byte for byte what was evaluated: the folder's SHA-256 is checked before a byte of it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from perennial.digests import verify_folder
from perennial.errors import PerennialError, ServingError
from perennial.tfx_compat import prepare_process
from serving.features import DTYPES, TEXT, Array, Feature, InputError

SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Predictions:
    """What a model says: `classes` int64 [n], `probabilities` float32 [n, C]."""

    classes: Array
    probabilities: Array


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to answer. Calls may come from several threads at once."""

    name: str
    version: str
    digest: str
    features: tuple[Feature, ...]
    class_count: int
    _call: Callable[..., Mapping[str, Any]] = field(repr=False)
    _owner: object = field(repr=False)  # TensorFlow's functions hold their variables only as long as this lives

    def predict(self, arrays: Mapping[str, Array]) -> Predictions:
        """Calls the model.

        Args:
            arrays: One array [n, ...] for each feature, as `serving.inputs` makes them.

        Raises:
            InputError: The model itself refuses these values, or has no finite answer to them.
        """
        import tensorflow as tf

        tensors = {name: tf.constant(array) for name, array in arrays.items()}
        try:
            outputs = self._call(**tensors)
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            cause = str(error.message).splitlines()[0][:200]
            raise InputError(
                "the instances", "must be values that the model can compute", cause, "Correct them."
            ) from None
        predictions = Predictions(outputs["class"].numpy(), outputs["probabilities"].numpy())
        _require_finite(predictions)
        return predictions


def load_model(name: str, version: str, folder: Path, digest: str) -> LoadedModel:
    """Loads a SavedModel and answers one request with it, so that the first client does not wait.

    Raises:
        IntegrityError: The folder does not have the digest.
        ServingError: It is not a SavedModel, or does not keep the model contract.
    """
    verify_folder(folder, digest)
    prepare_process()
    import tensorflow as tf

    where = f"model {name} version {version}"
    try:
        owner = tf.saved_model.load(str(folder))
    except Exception as error:  # whatever TensorFlow raises, these files cannot be served
        remedy = "Deploy another version."
        raise ServingError(
            where, "must be a SavedModel that this TensorFlow loads", _first_line(error), remedy
        ) from error
    function = owner.signatures.get(SIGNATURE)
    if function is None:
        have = ", ".join(owner.signatures) or "none"
        raise ServingError(where, f"must have the signature {SIGNATURE}", have, "Train it with `perennial run`.")
    features = _read_features(function, where)
    classes = _warm_up(function, features, where)
    return LoadedModel(name, version, digest, features, classes, function, owner)


def _read_features(function: Any, where: str) -> tuple[Feature, ...]:
    """The features, from the signature's tensor specs."""
    features = []
    for name, spec in sorted(function.structured_input_signature[1].items()):
        shape = spec.shape.as_list() if spec.shape.rank else []
        if not shape or shape[0] is not None or spec.dtype.name not in DTYPES:
            expected = f"must be one of {', '.join(DTYPES)} with a free first dimension"
            raise ServingError(f"{where}: {name}", expected, f"{spec.dtype.name} {spec.shape}", "Correct schema.pbtxt.")
        features.append(Feature(name, spec.dtype.name, tuple(shape[1:])))
    return tuple(features)


def _warm_up(function: Any, features: tuple[Feature, ...], where: str) -> int:
    """Answers one request of zeros and empty strings, checks the outputs' form, and gives the number of classes."""
    import tensorflow as tf

    try:
        outputs = function(**{feature.name: tf.constant(_blank(feature)) for feature in features})
    except Exception as error:  # whatever TensorFlow raises, this model cannot answer
        remedy = "Deploy another version."
        raise ServingError(
            where, "must answer a request of zeros and empty strings", _first_line(error), remedy
        ) from error
    found = {name: (tensor.dtype.name, tensor.shape.rank) for name, tensor in outputs.items()}
    if found != {"class": ("int64", 1), "probabilities": ("float32", 2)}:
        expected = "must give `class` int64 [n] and `probabilities` float32 [n, C]"
        raise ServingError(where, expected, found, "Train it with `perennial run`.")
    return int(outputs["probabilities"].shape[1])


def _blank(feature: Feature) -> Array:
    shape = [1, *(1 if size is None else size for size in feature.shape)]
    return np.full(shape, b"", dtype=object) if feature.dtype == TEXT else np.zeros(shape, feature.dtype)


def _require_finite(predictions: Predictions) -> None:
    finite = np.isfinite(predictions.probabilities).all(axis=1)
    if not finite.all():
        where = f"instances[{int(np.argmin(finite))}]"
        expected = "must be values for which the model's probabilities are finite"
        raise InputError(where, expected, "values that give NaN or infinity", "Check their magnitude.")


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() if not isinstance(error, PerennialError) else [str(error)]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
