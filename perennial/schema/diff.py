"""Finds what would have to change in a schema for a span to agree with it.

TensorFlow Data Validation proposes; where its proposal is of no use to a project, it is made one
here. It drops a feature whose type changed; it asks for exactly the share of examples that this
span happens to have; and it asks for a new feature in every example, which the spans before it do
not have.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perennial.errors import DataError
from perennial.schema.description import type_name
from perennial.schema.environments import SERVING, TRAINING, is_alive, is_in_environment
from perennial.schema.inference import (
    Seen,
    drop_unused_domains,
    exclude_from_serving,
    features_of,
    improve_feature,
    planned_feature,
    see_features,
)
from perennial.tfx_compat import import_tfdv

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList


@dataclass(frozen=True)
class Choices:
    """Choices of a person for features that some spans or examples lack.

    Attributes:
        required: Features that every example must have. Spans that lack one leave the window.
        defaults: Feature -> the value, as text, of an example that lacks it.
    """

    required: Collection[str] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)


def propose_schema(
    schema: Schema,
    statistics: DatasetFeatureStatisticsList,
    columns: Sequence[str],
    choices: Choices = Choices(),
) -> Schema:
    """Makes the least changes that let a span agree with the schema in training.

    A new feature is optional, as the spans before it do not have it, and not asked of clients: they
    do not send it yet, and requests without it would fail.

    Args:
        schema: The schema as it is.
        statistics: Of the span.
        columns: Of the span, also those without values.
        choices: What a person chooses otherwise.

    Raises:
        DataError: A choice does not fit the span.
    """
    tfdv = import_tfdv()
    seen = see_features(statistics)
    asked = type(schema)()
    asked.CopyFrom(schema)
    del asked.feature[:]
    in_training = [
        feature for feature in schema.feature if is_in_environment(schema, feature, TRAINING)
    ]
    asked.feature.extend(_as_seen(feature, seen) for feature in in_training)
    anomalies = tfdv.validate_statistics(statistics, asked)
    updated: Schema = tfdv.update_schema(asked, statistics) if anomalies.anomaly_info else asked
    proposed, known = features_of(updated), features_of(schema)
    result = type(schema)()
    result.CopyFrom(schema)
    del result.feature[:]
    for feature in schema.feature:
        result.feature.append(
            _settled(feature, proposed.get(feature.name, feature), seen.get(feature.name))
        )
    for name in dict.fromkeys([*columns, *proposed]):
        if name not in known:
            result.feature.append(
                _new_feature(proposed[name], seen[name]) if name in seen else planned_feature(name)
            )
    del result.string_domain[:]
    result.string_domain.extend(updated.string_domain)
    _drop_new_unused(result, schema)
    for name in choices.required:
        _require(result, name, seen.get(name))
    for name, value in choices.defaults.items():
        _fill_in(result, known.get(name), name, value, seen.get(name))
    return result


def optional_features(before: Schema, after: Schema) -> list[str]:
    """Lists the features that a proposal puts into use and that an example may lack."""
    known, groups = features_of(before), after.tensor_representation_group
    filled_in = groups[""].tensor_representation if "" in groups else {}
    return [
        feature.name
        for feature in after.feature
        if is_alive(feature)
        and (feature.name not in known or not is_alive(known[feature.name]))
        and not feature.presence.min_fraction
        and feature.name not in filled_in
    ]


def find_refusal(after: Schema, label: str, key: str, types: Sequence[str]) -> str | None:
    """Says why a project cannot have this schema; None: it keeps the key and the label's type."""
    features = features_of(after)
    for role, name in (("label", label), ("key", key)):
        if name not in features or not is_alive(features[name]):
            return f"it drops `{name}`, the {role}"
    if type_name(features[label]) not in types:
        return (
            f"`{label}`, the label, is then {type_name(features[label])}, not {' or '.join(types)}"
        )
    return None


def reading_schema(schema: Schema, guessed: Mapping[str, Seen], label: str, spoilt: bool) -> Schema:
    """Makes the schema to read a span by that does not fit, so that its values can be measured.

    Args:
        schema: The project's.
        guessed: What the span's values are by themselves, whatever the schema says.
        label: A label beyond its domain makes no example; here it does.
        spoilt: Whether numbers may become text. A text among numbers is a bad value rather than
            another type, so this is asked for only where no example is left otherwise.
    """
    from tensorflow_metadata.proto.v0 import schema_pb2

    reading = type(schema)()
    reading.CopyFrom(schema)
    for feature in reading.feature:
        guess = guessed.get(feature.name)
        widened = guess and feature.type == schema_pb2.INT and guess.type == schema_pb2.FLOAT
        text = spoilt and guess and guess.type == schema_pb2.BYTES
        if guess and (widened or text or not is_alive(feature)):
            feature.ClearField("domain_info")
            feature.ClearField("lifecycle_stage")  # what is not in use is not read
            feature.type = guess.type
        if feature.name == label:
            feature.ClearField("domain_info")
    known = features_of(schema)
    for name, guess in guessed.items():
        if name not in known:
            reading.feature.add(name=name, type=guess.type)
    return reading


def _as_seen(feature: Feature, seen: dict[str, Seen]) -> Feature:
    """Gives a feature the type that was seen; puts one with values that was not in use into use.

    Bounds of whole numbers go on as bounds of numbers; other bounds and lists of values end with
    the type.
    """
    from tensorflow_metadata.proto.v0 import schema_pb2

    retyped = type(feature)()
    retyped.CopyFrom(feature)
    new = seen.get(feature.name)
    if new and feature.lifecycle_stage in (schema_pb2.DEPRECATED, schema_pb2.PLANNED):
        retyped.ClearField("lifecycle_stage")
    if new is None or new.type == feature.type or not is_alive(retyped):
        return retyped
    bounds = retyped.int_domain if retyped.HasField("int_domain") else None
    widened = bounds is not None and new.type == schema_pb2.FLOAT
    limits = {
        end: float(getattr(bounds, end))
        for end in ("min", "max")
        if bounds and bounds.HasField(end)
    }
    retyped.ClearField("domain_info")
    retyped.type = new.type
    if widened:
        retyped.float_domain.name = feature.name
        for end, limit in limits.items():
            setattr(retyped.float_domain, end, limit)
    return retyped


def _settled(before: Feature, after: Feature, seen: Seen | None) -> Feature:
    """Gives a known feature as TFDV proposes it, with `improve_feature` where TFDV changes it."""
    if seen is None or not is_alive(after):
        return after
    if not is_alive(before):
        return _new_feature(after, seen)
    if after.presence != before.presence or (
        before.HasField("shape") and not after.HasField("shape")
    ):
        improve_feature(after, seen)
    return after


def _new_feature(feature: Feature, seen: Seen) -> Feature:
    """Makes a feature optional: spans before this one do not have it."""
    feature.ClearField("shape")
    feature.value_count.Clear()
    feature.value_count.min = seen.fewest
    if seen.fewest == seen.most:
        feature.value_count.max = seen.most
    feature.presence.Clear()
    feature.presence.min_count = 1
    exclude_from_serving(feature)
    return feature


def _require(schema: Schema, name: str, seen: Seen | None) -> None:
    """Asks for a feature in every example.

    Raises:
        DataError: Some examples of the span lack it, or have another number of values.
    """
    feature = features_of(schema).get(name)
    if feature is None or seen is None or not seen.fixed:
        received = f"it is in {seen.present:.2%} of them" if seen else "none has it"
        if seen is not None and seen.present == 1:
            received = f"{seen.fewest} to {seen.most} values"
        raise DataError(
            f"--required {name}",
            "must name a feature of which all rows of the span have the same number of values",
            received,
            "Leave it optional, or correct the span and land it again.",
        )
    improve_feature(feature, seen)
    if "" in schema.tensor_representation_group:
        _representations(schema).pop(name, None)


def _fill_in(
    schema: Schema, before: Feature | None, name: str, value: str, seen: Seen | None
) -> None:
    """Gives a feature a default value; clients may leave it out, too.

    Raises:
        DataError: The feature has not one value, or another type than the default.
    """
    feature = features_of(schema).get(name)
    one_value = seen is None or seen.fewest == seen.most == 1
    if feature is None or not one_value or (seen is None and before is None):
        raise DataError(
            f"--default {name}",
            "must name a feature with one value in a row",
            f"{seen.fewest} to {seen.most} values" if seen else "no such feature",
            "Name another, or leave it without a default value.",
        )
    if before is not None and is_alive(before) and not is_alive(feature):
        feature.CopyFrom(before)  # it is not in this span, and stays in use
    feature.ClearField("shape")
    feature.presence.Clear()
    feature.value_count.min = feature.value_count.max = 1
    if before is None and SERVING in feature.not_in_environment:
        feature.not_in_environment.remove(SERVING)
    dense = _representations(schema)[name].dense_tensor
    dense.column_name = name
    dense.shape.SetInParent()
    kind = type_name(feature)
    try:
        if kind == "INT":
            dense.default_value.int_value = int(value)
        elif kind == "FLOAT":
            dense.default_value.float_value = float(value)
        else:
            dense.default_value.bytes_value = value.encode()
    except ValueError:
        raise DataError(
            f"--default {name}", f"must be a value of the type {kind}", value, "Correct it."
        ) from None


def _representations(schema: Schema) -> Any:
    """Gives the tensors that the schema describes, by the name of the feature."""
    return schema.tensor_representation_group[""].tensor_representation


def _drop_new_unused(schema: Schema, before: Schema) -> None:
    """Removes lists of values that lost their last feature; unused ones of the project stay."""
    unused = type(before)()
    unused.CopyFrom(before)
    drop_unused_domains(unused)
    own = {domain.name for domain in before.string_domain} - {
        domain.name for domain in unused.string_domain
    }
    kept = [domain for domain in schema.string_domain if domain.name in own]
    drop_unused_domains(schema)
    schema.string_domain.extend(kept)
