"""The signature of a user's SavedModel: it takes serialised tf.Examples, or raw features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.errors import ProjectError, describe_error
from perennial.export.contract import parsing_specs
from perennial.schema.environments import serving_features
from perennial.tfx_module.example_encoder import encode_examples

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema

Tensors = dict[str, "tf.Tensor"]
Arrays = dict[str, "np.ndarray[Any, Any]"]

SIGNATURE = "serving_default"
# Where in the domain of a number the rows lie that a model is tried on, after one of zeros and
# empty strings.
_SHARES = (0.001, 0.01, 0.5)


@dataclass(frozen=True)
class UserSignature:
    """The predicting function of a user's SavedModel, called with raw features by name, [n, ...].

    Args:
        function: The signature.
        where: Where the `run_fn` stands, for messages.
        schema: Of the raw data.
        takes_examples: Name of the input that takes serialised tf.Examples; None: it takes raw
            features by name.
        stand_ins: Features that clients do not send and that its parsing asks for all the same,
            with what is put in their place.
    """

    function: Any
    where: str
    schema: Schema
    takes_examples: str | None
    stand_ins: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    def __call__(self, raw: Mapping[str, Any]) -> Tensors:
        """Computes its outputs for raw features; also inside a graph."""
        import tensorflow as tf

        tensors = {name: tf.convert_to_tensor(values) for name, values in raw.items()}
        if self.takes_examples is None:
            outputs: Tensors = self.function(
                **{name: _as(tensors[name], spec) for name, spec in self._inputs.items()}
            )
            return outputs
        rows = tf.shape(next(iter(tensors.values())))[0]
        for name, value in self.stand_ins.items():
            tensors[name] = tf.repeat(tf.constant(value)[tf.newaxis], rows, axis=0)
        outputs = self.function(**{self.takes_examples: encode_examples(tensors)})
        return outputs

    def try_on(self, raw: Arrays) -> Arrays:
        """Computes its outputs for some rows, as arrays.

        Raises:
            ProjectError: It does not answer.
        """
        try:
            return {name: np.asarray(tensor) for name, tensor in sorted(self(raw).items())}
        except Exception as error:
            expected = "must save a model that answers what clients send"
            remedy = (
                f"Correct the signature {SIGNATURE}: it is given the features of schema.pbtxt "
                "that clients send."
            )
            raise ProjectError(self.where, expected, describe_error(error), remedy) from error

    @property
    def _inputs(self) -> dict[str, tf.TensorSpec]:
        return dict(self.function.structured_input_signature[1])


def find_signature(loaded: Any, schema: Schema, where: str, rows: Arrays) -> UserSignature:
    """Finds the signature of a loaded SavedModel that can be served.

    Args:
        loaded: The SavedModel.
        schema: Of the raw data.
        where: Where the `run_fn` stands, for messages.
        rows: Raw features of some rows, which it is tried on.

    Raises:
        ProjectError: It has none, or one that takes something else than serialised tf.Examples or
            raw features.
    """
    function = loaded.signatures.get(SIGNATURE)
    if function is None:
        expected = f"must save a model with the signature {SIGNATURE}"
        remedy = "Give it to tf.saved_model.save: signatures={'serving_default': ...}."
        raise ProjectError(where, expected, ", ".join(loaded.signatures) or "none", remedy)
    inputs, served = dict(function.structured_input_signature[1]), serving_features(schema)
    if len(inputs) == 1:
        ((name, spec),) = inputs.items()
        if name not in served and spec.dtype.name == "string" and spec.shape.rank in (None, 1):
            return _with_stand_ins(UserSignature(function, where, schema, name), rows)
    if unknown := [name for name in inputs if name not in served] or (
        [] if inputs else ["nothing"]
    ):
        expected = (
            f"must save a {SIGNATURE} that takes serialised tf.Examples, or raw features that "
            "clients send"
        )
        remedy = (
            "Let the signature parse tf.Examples and transform them, as TFX's taxi example does."
        )
        raise ProjectError(where, expected, f"a signature that takes {', '.join(unknown)}", remedy)
    return UserSignature(function, where, schema, None)


def probe_rows(schema: Schema) -> Arrays:
    """Makes rows of what clients send.

    They hold zeros and empty strings, then values from the domains of the schema.
    """
    specs = parsing_specs(schema, serving_features(schema))
    domains = {feature.name: feature for feature in schema.feature}
    return {
        name: np.stack(
            [
                np.full(spec.shape, value, _array_type(spec))
                for value in _values(domains[name], spec)
            ]
        )
        for name, spec in specs.items()
    }


def first_rows(schema: Schema, examples: Sequence[bytes]) -> Arrays:
    """Gives the raw features of two serialised tf.Examples; without any, zeros and empty strings.

    A model of images cannot take an empty string for one.
    """
    import tensorflow as tf

    if not examples:
        return {name: np.stack([rows[0], rows[0]]) for name, rows in probe_rows(schema).items()}
    specs = parsing_specs(schema, serving_features(schema))
    tensors = tf.io.parse_example([examples[0], examples[-1]], specs)
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _with_stand_ins(signature: UserSignature, rows: Arrays) -> UserSignature:
    """Gives the signature, with stand-ins for features that it needs and clients do not send.

    TFX's modules parse tf.Examples by the whole raw schema, less the label: a key that every
    example has is asked for.

    Raises:
        ProjectError: What the model gives depends on such a feature.
    """
    if _answers(lambda: signature(rows)):
        return signature
    needed = {
        name: _blank(spec)
        for name, spec in _unsent(signature.schema).items()
        if spec.default_value is None
    }
    user_signature = UserSignature(
        signature.function, signature.where, signature.schema, signature.takes_examples, needed
    )
    expected = user_signature.try_on(rows)
    for name, value in needed.items():
        other = np.full_like(value, b"other" if value.dtype == object else 1)
        changed = UserSignature(
            user_signature.function,
            user_signature.where,
            user_signature.schema,
            user_signature.takes_examples,
            {**needed, name: other},
        )
        if not _answers(lambda call=changed: _require_same(expected, call(rows))):  # type: ignore[misc]
            expectation = "must save a model that predicts from what clients send"
            remedy = (
                "Let the model do without it, or take "
                f'`not_in_environment: "SERVING"` from {name} in schema.pbtxt.'
            )
            raise ProjectError(
                user_signature.where,
                expectation,
                f"a model that reads `{name}`, which they do not send",
                remedy,
            )
    return user_signature


def _answers(call: Callable[[], object]) -> bool:
    try:
        call()
    except Exception:  # whatever TensorFlow raises: there is another way, or a message follows
        return False
    return True


def _require_same(expected: Arrays, outputs: Tensors) -> None:
    for name, values in expected.items():
        np.testing.assert_array_equal(np.asarray(outputs[name]), values)


def _unsent(schema: Schema) -> dict[str, Any]:
    """Gives how the features of fixed shape that clients do not send are read."""
    import tensorflow as tf
    from tensorflow_transform.tf_metadata import schema_utils

    parsing, served = (
        schema_utils.schema_as_feature_spec(schema).feature_spec,
        serving_features(schema),
    )
    return {
        n: spec
        for n, spec in parsing.items()
        if n not in served and isinstance(spec, tf.io.FixedLenFeature)
    }


def _array_type(spec: Any) -> type | str:
    return object if spec.dtype.name == "string" else str(spec.dtype.name)


def _blank(spec: Any) -> np.ndarray[Any, Any]:
    return np.full(spec.shape, b"" if spec.dtype.name == "string" else 0, _array_type(spec))


def _values(feature: Feature, spec: Any) -> list[Any]:
    """Makes one value for each row."""
    if spec.dtype.name == "string":
        known = [value.encode() for value in feature.string_domain.value] or [b""]
        return [b"", *(known[number % len(known)] for number in range(len(_SHARES)))]
    domain = feature.int_domain if spec.dtype.is_integer else feature.float_domain
    low, high = (
        (domain.min, domain.max)
        if domain.HasField("min") and domain.HasField("max")
        else (0, len(_SHARES))
    )
    values = [low + (high - low) * share for share in _SHARES]
    return [0, *(int(value) if spec.dtype.is_integer else value for value in values)]


def _as(values: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """Gives a raw feature with the dtype and the rank that a signature takes."""
    import tensorflow as tf

    cast = values if values.dtype == spec.dtype else tf.cast(values, spec.dtype)
    return (
        tf.reshape(cast, [-1, *spec.shape[1:]])
        if spec.shape.rank and spec.shape[1:].is_fully_defined()
        else cast
    )
