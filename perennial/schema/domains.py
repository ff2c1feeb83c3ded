"""The values that a schema allows a feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schemas.records import ServedDomain

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema


def domain_of(schema: Schema, name: str) -> ServedDomain | None:
    """Reads the domain that the schema states for a feature; None: any value is allowed."""
    feature = next((each for each in schema.feature if each.name == name), None)
    if feature is None:
        return None
    for field in ("int_domain", "float_domain"):
        if feature.HasField(field):
            bounds = getattr(feature, field)
            low = bounds.min if bounds.HasField("min") else None
            high = bounds.max if bounds.HasField("max") else None
            return None if low is None and high is None else ServedDomain(low=low, high=high)
    values = list(_allowed_texts(schema, feature)) or None
    if feature.HasField("bool_domain"):
        return ServedDomain(low=0, high=1, values=values)
    return None if values is None else ServedDomain(values=values)


def _allowed_texts(schema: Schema, feature: Feature) -> Sequence[str]:
    if feature.HasField("bool_domain"):
        words = feature.bool_domain
        return [word for word in (words.true_value, words.false_value) if word]
    if feature.HasField("string_domain"):
        return list(feature.string_domain.value)
    shared = {domain.name: domain.value for domain in schema.string_domain}
    return list(shared.get(feature.domain, [])) if feature.HasField("domain") else []
