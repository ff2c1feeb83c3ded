"""Environments of a schema: which features are in use, and which of them clients send."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema

TRAINING, SERVING = "TRAINING", "SERVING"


def is_in_environment(schema: Schema, feature: Feature, environment: str) -> bool:
    """Tells whether a feature is in an environment, as TensorFlow Data Validation does.

    What the feature itself says comes first. Where the schema names no default environment at all,
    a feature is in every environment unless it says otherwise.
    """
    if environment in feature.in_environment:
        return True
    if environment in feature.not_in_environment:
        return False
    return environment in schema.default_environment or not schema.default_environment


def environments_of(schema: Schema, feature: Feature) -> list[str]:
    """Lists the environments that a feature is in."""
    known = dict.fromkeys(
        [*(schema.default_environment or (TRAINING, SERVING)), *feature.in_environment]
    )
    return [name for name in known if is_in_environment(schema, feature, name)]


def schema_of_environment(schema: Schema, environment: str) -> Schema:
    """Copies a schema so that TFDV can validate in an environment that is not a default one."""
    copy = type(schema)()
    copy.CopyFrom(schema)
    if environment not in copy.default_environment:
        copy.default_environment.append(environment)
    for feature, original in zip(copy.feature, schema.feature, strict=True):
        if (
            not is_in_environment(schema, original, environment)
            and environment not in feature.not_in_environment
        ):
            feature.not_in_environment.append(environment)
    return copy


def schema_in_use(schema: Schema) -> Schema:
    """Copies a schema with only the features that are in use, and the default values of these."""
    copy = type(schema)()
    copy.CopyFrom(schema)
    del copy.feature[:]
    copy.feature.extend(feature for feature in schema.feature if is_alive(feature))
    gone = {feature.name for feature in schema.feature if not is_alive(feature)}
    for group in copy.tensor_representation_group.values():
        for name, tensor in list(group.tensor_representation.items()):
            if tensor.dense_tensor.column_name in gone:
                del group.tensor_representation[name]
    return copy


def serving_features(schema: Schema) -> list[str]:
    """Lists the features that a client sends: those in use that are in the SERVING environment."""
    return [f.name for f in schema.feature if is_in_environment(schema, f, SERVING) and is_alive(f)]


def is_alive(feature: Feature) -> bool:
    """Tells whether a feature is in use: neither deprecated nor planned nor disabled."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    return feature.lifecycle_stage in (
        schema_pb2.UNKNOWN_STAGE,
        schema_pb2.BETA,
        schema_pb2.PRODUCTION,
    )
