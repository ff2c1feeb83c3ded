"""A model in memory: verified, loaded, warmed up, and called on arrays.

What serves is byte for byte what was evaluated: the folder's SHA-256 is checked before a byte of it is loaded. What a
model takes and gives is said by its contract, which lies in the same folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from perennial.errors import InputError, PerennialError, ServingError
from perennial.export.contract import read_contract
from perennial.registry.model_files import verify_model
from perennial.tfx_compat import prepare_process
from schemas.records import ModelContract
from serving.causes import tensorflow_cause
from serving.features import DTYPES, TEXT, Array, Feature, to_array
from serving.outputs import all_outputs

SIGNATURE = "serving_default"
_AGAIN = "Train a version with `perennial run`, and deploy that one."

Predictions = Mapping[str, Array]
"""What a model says, by output: see `serving.outputs`."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to answer. Calls may come from several threads at once."""

    name: str
    version: str
    digest: str
    features: tuple[Feature, ...]
    contract: ModelContract
    _call: Callable[..., Mapping[str, Any]] = field(repr=False)
    _owner: object = field(repr=False)  # TensorFlow's functions hold their variables only as long as this lives

    def predict(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> Predictions:
        """Calls the model.

        Args:
            arrays: One array [n, ...] for each feature, as `serving.inputs` makes them.
            outputs: Names of the outputs that are wanted.

        Raises:
            InputError: The model itself refuses these values, or has no finite answer to them.
        """
        import tensorflow as tf

        tensors = {name: tf.constant(array) for name, array in arrays.items()}
        try:
            found = self._call(**tensors)
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            cause = tensorflow_cause(str(error.message))
            raise InputError(
                "the instances", "must be values that the model can compute", cause, "Correct them."
            ) from None
        predictions = {name: found[name].numpy() for name in outputs}
        _require_finite(predictions)
        return predictions


def load_model(name: str, version: str, folder: Path, digest: str) -> LoadedModel:
    """Loads a SavedModel and answers one request with it, so that the first client does not wait.

    Raises:
        IntegrityError: The folder does not have the digest, or holds more than a SavedModel and weights.
        ServingError: It is not a SavedModel, has no contract, or does not keep it.
    """
    verify_model(folder, digest)
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
        raise ServingError(where, f"must have the signature {SIGNATURE}", have, _AGAIN)
    contract = _contract(folder, where)
    features = make_features(contract)
    _check_features(function, features, where)
    _warm_up(function, features, contract, where)
    return LoadedModel(name, version, digest, features, contract, function, owner)


def make_features(contract: ModelContract) -> tuple[Feature, ...]:
    """The features that a contract names, in the order of their names."""
    found = sorted(contract.features, key=lambda served: served.name)
    return tuple(
        Feature(s.name, s.dtype, tuple(s.shape), None if s.default is None else tuple(s.default)) for s in found
    )


def _contract(folder: Path, where: str) -> ModelContract:
    try:
        return read_contract(folder)
    except ServingError as error:
        raise ServingError(where, error.expected, error.received, _AGAIN) from None


def _check_features(function: Any, features: Sequence[Feature], where: str) -> None:
    """Checks that the signature takes what the contract says, and that clients can send it."""
    taken = {
        name: _shown(spec.dtype.name, spec.shape.as_list() if spec.shape.rank else [])
        for name, spec in function.structured_input_signature[1].items()
    }
    said = {feature.name: _shown(feature.dtype, [None, *feature.shape]) for feature in features}
    for name in sorted(taken.keys() | said.keys()):
        if taken.get(name) != said.get(name):
            expected = f"must take {said.get(name, 'nothing')}, as its contract says"
            raise ServingError(f"{where}: {name}", expected, taken.get(name, "no such input"), _AGAIN)
    for feature in features:
        if feature.dtype not in DTYPES:
            expected = f"must be one of {', '.join(DTYPES)}"
            raise ServingError(f"{where}: {feature.name}", expected, feature.dtype, "Correct schema.pbtxt.")


def _shown(dtype: str, shape: Sequence[int | None]) -> str:
    return f"{dtype} [{', '.join('n' if size is None else str(size) for size in shape)}]"


def _warm_up(function: Any, features: Sequence[Feature], contract: ModelContract, where: str) -> None:
    """Answers one request of defaults, zeros and empty strings, and checks that the outputs are as promised."""
    import tensorflow as tf

    try:
        outputs = function(**{feature.name: tf.constant(_blank(feature)) for feature in features})
    except Exception as error:  # whatever TensorFlow raises, this model cannot answer
        remedy = "Deploy another version."
        raise ServingError(
            where, "must answer a request of zeros and empty strings", _first_line(error), remedy
        ) from error
    found = {name: (tensor.dtype.name, tuple(tensor.shape)) for name, tensor in outputs.items()}
    promised = all_outputs(contract)
    if any(found.get(output.name) != (output.dtype, output.shape_of_one) for output in promised):
        expected = f"must give {', '.join(output.describe() for output in promised)}"
        raise ServingError(where, expected, found, _AGAIN)


def _blank(feature: Feature) -> Array:
    """One instance's value: its default, or zeros, or empty strings; [1, ...]."""
    if feature.optional:
        return to_array([feature.fill()], feature, lambda _: f"the default of {feature.name}")
    shape = [1, *(1 if size is None else size for size in feature.shape)]
    return np.full(shape, b"", dtype=object) if feature.dtype == TEXT else np.zeros(shape, feature.dtype)


def _require_finite(predictions: Predictions) -> None:
    for name, found in predictions.items():
        finite = np.isfinite(found).reshape(len(found), -1).all(axis=1)
        if not finite.all():
            where = f"instances[{int(np.argmin(finite))}]"
            expected = f"must be values for which the model's {name} is finite"
            raise InputError(where, expected, "values that give NaN or infinity", "Check their magnitude.")


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() if not isinstance(error, PerennialError) else [str(error)]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
