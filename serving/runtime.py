"""The served model of one version: checked, warmed up, and called on the arrays of a request.

What serves is byte for byte what was evaluated: the folder's SHA-256 is checked before any of it
is loaded. The model's contract, in the same folder, names what it takes and gives.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from perennial.errors import InputError, ServingError, describe_error
from perennial.export.saved_model import SERVING_SIGNATURE
from perennial.export.served_model import ServedModel, tensorflow_cause
from schemas.records import ModelContract
from serving.coalescing import SharedCalls, choose_sizes
from serving.features import DTYPES, TEXT, Array, Feature, to_array
from serving.outputs import all_outputs

# Rows of the requests that warm a model up: TensorFlow prepares some of its work by their size.
_WARM_ROWS = (1, 2, 16)
_RETRAIN = "Train a version with `perennial run`, and deploy that one."

logger = logging.getLogger("perennial.serving")

Predictions = Mapping[str, Array]
"""A model's outputs by name, each [n, ...]: see `serving.outputs`."""


@dataclass(frozen=True)
class LoadedModel:
    """A version that is ready to answer. Calls may come from several threads at once.

    `sizes` are those that a shared call may have, none: no requests share one. `most_rows` are the
    instances that a request may hold; None: any number.
    """

    name: str
    version: str
    digest: str
    features: tuple[Feature, ...]
    served: ServedModel
    sizes: tuple[int, ...] = ()
    most_rows: int | None = None

    @property
    def contract(self) -> ModelContract:
        """Gives the contract: what the model takes and gives."""
        return self.served.contract

    @cached_property
    def calls(self) -> SharedCalls:
        """Gives what calls the model."""
        return SharedCalls(lambda arrays: _call(self.served, arrays), self.sizes)

    @cached_property
    def contract_digest(self) -> str:
        """Gives the SHA-256 of the contract, which each answer carries."""
        return hashlib.sha256(self.contract.model_dump_json().encode()).hexdigest()

    def predict(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> Predictions:
        """Calls the model.

        Args:
            arrays: One array [n, ...] for each feature, as `serving.inputs` makes them.
            outputs: Names of the outputs to give.

        Raises:
            InputError: The model refuses these values, or has no finite answer to them.
        """
        return _finite(self.calls.answer(arrays), outputs)

    async def predict_soon(
        self, arrays: Mapping[str, Array], outputs: Sequence[str]
    ) -> Predictions:
        """Calls the model as `predict` does; no thread waits for it."""
        return _finite(await self.calls.answer_soon(arrays), outputs)

    def compute(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> Predictions:
        """Calls the model for itself, in this thread; what it gives need not be finite.

        Raises:
            InputError: The model refuses these values.
        """
        answer = self.calls.compute(arrays)
        return {name: answer[name] for name in outputs}


def load_model(
    name: str,
    version: str,
    folder: Path,
    digest: str,
    most_rows: int | None = None,
    batching: bool = True,
) -> LoadedModel:
    """Loads a SavedModel and answers requests of several sizes, so that no first client waits.

    Args:
        name: Name of the model in URLs.
        version: What answers carry as `model_version`.
        folder: The SavedModel.
        digest: SHA-256 that the folder must have.
        most_rows: Instances that a request may hold; none: any number.
        batching: Whether requests may share a call.

    Raises:
        IntegrityError: The folder has another digest, or holds more than a SavedModel and weights.
        ServingError: It is no SavedModel, has no contract, or does not keep it.
    """
    served = ServedModel.load(folder, digest, f"model {name} version {version}")
    features = make_features(served.contract)
    _check_features(served, features)
    _warm_up(served, features)

    sizes = choose_sizes(lambda arrays: _call(served, arrays), features) if batching else ()
    if batching and not sizes:
        logger.warning(
            "model %s version %s: its outputs depend on the number of rows, so no requests share a "
            "call",
            name,
            version,
        )
    model = LoadedModel(name, version, digest, features, served, sizes, most_rows)
    assert model.calls is model.calls  # made once, before threads share it
    return model


def _call(served: ServedModel, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Calls the model once.

    Raises:
        InputError: It refuses these values.
    """
    import tensorflow as tf

    try:
        return {name: tensor.numpy() for name, tensor in served.serve(arrays).items()}
    except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
        cause = tensorflow_cause(str(error.message))
        raise InputError(
            "the instances", "must be values that the model can compute", cause, "Correct them."
        ) from None


def make_features(contract: ModelContract) -> tuple[Feature, ...]:
    """Lists the features that a contract names, in the order of their names."""
    return tuple(
        Feature(
            s.name,
            s.dtype,
            tuple(s.shape),
            None if s.default is None else tuple(s.default),
            s.domain,
        )
        for s in sorted(contract.features, key=lambda served: served.name)
    )


def _check_features(served: ServedModel, features: Sequence[Feature]) -> None:
    """Checks that the signature takes what the contract says, and that clients can send it."""
    taken = {
        name: _describe(spec.dtype.name, spec.shape.as_list() if spec.shape.rank else [])
        for name, spec in served.inputs().items()
    }
    promised = {
        feature.name: _describe(feature.dtype, [None, *feature.shape]) for feature in features
    }
    for name in sorted(taken.keys() | promised.keys()):
        if taken.get(name) != promised.get(name):
            expected = f"must take {promised.get(name, 'nothing')}, as its contract says"
            received = taken.get(name, "no such input")
            raise ServingError(f"{served.name}: {name}", expected, received, _RETRAIN)
    for feature in features:
        if feature.dtype not in DTYPES:
            where, expected = (
                f"{served.name}: {feature.name}",
                f"must be one of {', '.join(DTYPES)}",
            )
            raise ServingError(where, expected, feature.dtype, "Correct schema.pbtxt.")


def _describe(dtype: str, shape: Sequence[int | None]) -> str:
    return f"{dtype} [{', '.join('n' if size is None else str(size) for size in shape)}]"


def _warm_up(served: ServedModel, features: Sequence[Feature]) -> None:
    """Answers requests of defaults, zeros and empty strings, and checks the outputs' form.

    A model may refuse such values, as one of images refuses an empty string: then the form is what
    its signature says.
    """
    import tensorflow as tf

    try:
        blank = {feature.name: _blank(feature) for feature in features}
        answer = served.serve(blank)
        for rows in _WARM_ROWS:
            served.serve({name: np.repeat(value, rows, axis=0) for name, value in blank.items()})
        given = {name: (tensor.dtype.name, tuple(tensor.shape)) for name, tensor in answer.items()}
    except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError):
        specs = served.signature(SERVING_SIGNATURE).structured_outputs
        given = {
            name: (spec.dtype.name, tuple(1 if size is None else size for size in spec.shape))
            for name, spec in specs.items()
        }
    except Exception as error:  # whatever TensorFlow raises, this model cannot answer
        expected, remedy = (
            "must answer a request of zeros and empty strings",
            "Deploy another version.",
        )
        raise ServingError(served.name, expected, describe_error(error), remedy) from error
    promised = all_outputs(served.contract)
    if any(given.get(output.name) != (output.dtype, output.shape_of_one) for output in promised):
        expected = f"must give {', '.join(output.describe() for output in promised)}"
        raise ServingError(served.name, expected, given, _RETRAIN)


def _blank(feature: Feature) -> Array:
    """Makes one instance's value: its default, or zeros, or empty strings; [1, ...]."""
    if feature.optional:
        return to_array([feature.fill()], feature, lambda _: f"the default of {feature.name}")
    shape = [1, *(1 if size is None else size for size in feature.shape)]
    return (
        np.full(shape, b"", dtype=object)
        if feature.dtype == TEXT
        else np.zeros(shape, feature.dtype)
    )


def finite_rows(values: Array) -> Array:
    """Tells of each row of an output whether all of it is finite: bool [rows]."""
    return np.asarray(np.isfinite(values).reshape(len(values), -1).all(axis=1))


def _finite(answer: Predictions, outputs: Sequence[str]) -> Predictions:
    """Takes the outputs that a request asks for.

    Raises:
        InputError: One is not finite.
    """
    predictions = {name: answer[name] for name in outputs}
    _require_finite(predictions)
    return predictions


def _require_finite(predictions: Predictions) -> None:
    for name, values in predictions.items():
        finite = finite_rows(values)
        if not finite.all():
            where = f"instances[{int(np.argmin(finite))}]"
            expected = f"must be values for which the model's {name} is finite"
            raise InputError(
                where, expected, "values that give NaN or infinity", "Check their magnitude."
            )
