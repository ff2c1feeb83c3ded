"""Comparison of the features that training got for an example with those of the server."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.data.examples import as_text
from perennial.errors import ProjectError
from perennial.export.saved_model import serving_specs
from perennial.project import Project
from perennial.readers.values import to_json
from perennial.user_module import function_line
from serving.features import Feature
from serving.inputs import Arrays, from_v1, parse_json

if TYPE_CHECKING:
    import tensorflow as tf

# The same operations on the same numbers differ by rounding alone, according to how they are
# vectorised.
RELATIVE, ABSOLUTE = 1e-4, 1e-5

Rows = dict[str, list["np.ndarray[Any, Any]"]]
Serve = Callable[[list[dict[str, Any]]], Rows]


@dataclass(frozen=True)
class Sampled:
    """A serialised raw example, and the serialised tf.Example of its features for training."""

    raw: bytes
    transformed: bytes


@dataclass(frozen=True)
class Parity:
    """The number of examples and features that are the same in serving.

    0 examples: nothing was compared.
    """

    examples: int
    features: tuple[str, ...]


def check_parity(project: Project, graph: Path, sampled: Sequence[Sampled]) -> Parity:
    """Sends examples through the server's code, singly and all at once, and compares features.

    The label is not compared, nor is a feature that depends on what clients do not send, nor an
    example that JSON cannot hold (NaN or infinity).

    Args:
        project: Whose schema says what clients send.
        graph: Folder of the transform graph.
        sampled: Examples with what training reads for them.

    Raises:
        ProjectError: A feature differs; the message names it, the example and both values.
    """
    import tensorflow_transform as tft

    instances = [_to_instance(pair.raw, project) for pair in sampled]
    kept = [number for number, instance in enumerate(instances) if instance is not None]
    payload = [instance for instance in instances if instance is not None]
    if not payload:
        return Parity(0, ())
    output = tft.TFTransformOutput(str(graph))
    trained = _parse([sampled[number].transformed for number in kept], output)
    trained.pop(project.settings.label, None)
    serve = _server(project, output)
    keys = [_key(sampled[number].raw, project) for number in kept]
    for number, instance in enumerate(payload):
        expected = {name: [rows[number]] for name, rows in trained.items()}
        _compare(
            project, keys[number : number + 1], expected, serve([instance]), "alone in a request"
        )
    together = serve(payload)
    _compare(project, keys, trained, together, "with others in one request")
    return Parity(len(payload), tuple(sorted(set(trained) & set(together))))


def _server(project: Project, output: Any) -> Serve:
    """Makes the function for what the server does between a request and the model's inputs."""
    import tensorflow as tf

    specs = serving_specs(project.schema)
    features = [
        Feature(name, spec.dtype.name, tuple(spec.shape[1:]))
        for name, spec in sorted(specs.items())
    ]
    layer = output.transform_features_layer()
    transform = tf.function(lambda inputs: layer(inputs), autograph=False, input_signature=[specs])

    def serve(instances: list[dict[str, Any]]) -> Rows:
        arrays: Arrays = from_v1(
            parse_json(json.dumps({"instances": instances}).encode()), features
        )
        tensors = transform({name: tf.constant(array) for name, array in arrays.items()})
        return {name: _rows(tensor) for name, tensor in tensors.items()}

    return serve


def _to_instance(raw: bytes, project: Project) -> dict[str, Any] | None:
    """Gives the instance that a client would send for a raw example.

    It is None when JSON cannot hold it.

    A feature that the example lacks is sent as the schema's default for it.
    """
    import tensorflow as tf
    from tensorflow_transform.tf_metadata import schema_utils

    parsing = schema_utils.schema_as_feature_spec(project.schema).feature_spec
    held = tf.train.Example.FromString(raw).features.feature
    instance = {}
    for name, spec in serving_specs(project.schema).items():
        kind = held[name].WhichOneof("kind") if name in held else None
        values = list(getattr(held[name], kind).value) if kind else []
        plain = [
            _to_json(value) for value in values or np.ravel(parsing[name].default_value).tolist()
        ]
        if any(value is None for value in plain):
            return None
        instance[name] = np.array(plain, dtype=object).reshape(spec.shape[1:]).tolist()
    return instance


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return to_json(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parse(transformed: list[bytes], output: Any) -> Rows:
    import tensorflow as tf

    tensors = tf.io.parse_example(transformed, output.transformed_feature_spec())
    return {name: _rows(tensor) for name, tensor in tensors.items()}


def _rows(tensor: tf.Tensor | tf.SparseTensor | tf.RaggedTensor) -> list[np.ndarray[Any, Any]]:
    """Gives each example's values of a feature, in a flat array."""
    import tensorflow as tf

    if isinstance(tensor, tf.SparseTensor):
        rows, values = tensor.indices.numpy()[:, 0], tensor.values.numpy()
        return [values[rows == row] for row in range(int(tensor.dense_shape[0]))]
    if isinstance(tensor, tf.RaggedTensor):
        return [_rows_of_one(tensor[row]) for row in range(int(tensor.nrows()))]
    return [np.ravel(row) for row in tensor.numpy()]


def _rows_of_one(values: Any) -> np.ndarray[Any, Any]:
    return np.ravel(getattr(values, "flat_values", values).numpy())


def _compare(project: Project, keys: Sequence[str], trained: Rows, served: Rows, how: str) -> None:
    for name in sorted(set(trained) & set(served)):
        for key, expected, received in zip(keys, trained[name], served[name], strict=True):
            if (place := _difference(expected, received)) is not None:
                raise _differs(
                    project, name, key, (_show(expected, place), _show(received, place)), how
                )


def _difference(expected: np.ndarray[Any, Any], received: np.ndarray[Any, Any]) -> int | None:
    """Gives the index of the first value that differs, or None."""
    if expected.shape != received.shape:
        return min(expected.size, received.size)
    if np.issubdtype(expected.dtype, np.floating):
        same = np.isclose(received, expected, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    else:
        same = np.asarray(received == expected)
    return None if same.all() else int(np.argmin(same))


def _show(values: np.ndarray[Any, Any], place: int) -> str:
    if place >= values.size:
        return f"{values.size} values"
    value = as_text(values[place])
    return (
        f"{float(value):.6g}"
        if isinstance(value, np.floating)
        else repr(getattr(value, "item", lambda: value)())
    )


def _differs(
    project: Project, name: str, key: str, values: tuple[str, str], how: str
) -> ProjectError:
    where = function_line(project.module().preprocessing_fn)
    received = (
        f"`{name}` of the example {key} is {values[0]} in training, and {values[1]} in serving "
        f"({how})"
    )
    remedy = (
        "The usual cause is a statistic over the batch, such as tf.reduce_mean: take TensorFlow "
        "Transform's analyzer, such as tft.mean, instead. Random numbers are another."
    )
    return ProjectError(
        where, "must compute the same for an example in training and in serving", received, remedy
    )


def _key(raw: bytes, project: Project) -> str:
    import tensorflow as tf

    held: Mapping[str, Any] = tf.train.Example.FromString(raw).features.feature
    name = project.settings.data.key
    kind = held[name].WhichOneof("kind") if name in held else None
    values = list(getattr(held[name], kind).value) if kind else []
    return str(as_text(values[0])) if values else "without a key"
