"""The contract of a served model: what it takes and what it gives, in a file beside its graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from perennial.errors import ProjectError, ServingError
from perennial.export.argument_names import argument_names
from perennial.schema.domains import domain_of
from perennial.schema.environments import serving_features
from schemas.records import ModelContract, ServedFeature

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

# TensorFlow leaves this folder of a SavedModel to others.
EXTRA = "assets.extra"
CONTRACT_FILE = "contract.json"


def read_contract(saved_model: Path) -> ModelContract:
    """Reads the contract of a SavedModel.

    Raises:
        ServingError: It has none, or one of another version.
    """
    file = saved_model / EXTRA / CONTRACT_FILE
    remedy = "Train a version with `perennial run`."
    try:
        return ModelContract.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ServingError(
            where=str(saved_model),
            expected=f"must have {EXTRA}/{CONTRACT_FILE}",
            received="no such file",
            remedy=remedy,
        ) from None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise ServingError(
            where=str(file),
            expected="must hold the model's contract",
            received=error,
            remedy=remedy,
        ) from None


def write_contract(contract: ModelContract, saved_model: Path) -> None:
    """Writes the contract into a SavedModel that nobody reads yet."""
    folder = saved_model / EXTRA
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONTRACT_FILE).write_text(contract.model_dump_json(indent=2), encoding="utf-8")


def served_features(schema: Schema) -> list[ServedFeature]:
    """Lists what clients send, by the schema.

    A feature with a default in its tensor representation may be left out.

    Raises:
        ProjectError: A feature has no fixed shape.
    """
    specs = parsing_specs(schema, serving_features(schema))
    arguments = argument_names(specs)
    return [
        ServedFeature(
            name=name,
            dtype=spec.dtype.name,
            shape=list(spec.shape),
            default=_flat(spec.default_value, spec.dtype),
            domain=domain_of(schema, name),
            argument=None if arguments[name] == name else arguments[name],
        )
        for name, spec in specs.items()
    ]


def parsing_specs(schema: Schema, names: Sequence[str]) -> dict[str, tf.io.FixedLenFeature]:
    """Gives how features are read from a tf.Example.

    Raises:
        ProjectError: A feature has no fixed shape.
    """
    import tensorflow as tf
    from tensorflow_transform.tf_metadata import schema_utils

    parsing = schema_utils.schema_as_feature_spec(schema).feature_spec
    for name in names:
        if not isinstance(parsing[name], tf.io.FixedLenFeature):
            raise ProjectError(
                where=f"schema.pbtxt: {name}",
                expected="must have a fixed shape, as clients send it",
                received=type(parsing[name]).__name__,
                remedy='Give it a `shape`, or `not_in_environment: "SERVING"`.',
            )
    return {name: parsing[name] for name in names}


def _flat(default: Any, dtype: tf.DType) -> list[int | float | str] | None:
    import numpy as np

    if default is None:
        return None
    values = np.asarray(default).reshape(-1).tolist()
    return [value.decode() if isinstance(value, bytes) else value for value in values]
