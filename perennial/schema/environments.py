"""Environments of a schema: which features are in use, and which of them clients send."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema

TRAINING, SERVING = "TRAINING", "SERVING"


def serving_features(schema: Schema) -> list[str]:
    """Names of the features that a client sends: those that the schema has in its SERVING environment."""
    return [f.name for f in schema.feature if SERVING not in f.not_in_environment and is_alive(f)]


def is_alive(feature: Feature) -> bool:
    """Whether a feature is in use: neither deprecated nor planned nor disabled."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    return feature.lifecycle_stage in (schema_pb2.UNKNOWN_STAGE, schema_pb2.BETA, schema_pb2.PRODUCTION)
