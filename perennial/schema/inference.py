"""Infers a first schema from landed spans.

TensorFlow Data Validation infers; what it leaves open for a project is decided here: what clients
send, what the label is, and which features hold exactly one value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perennial.schema.environments import SERVING, TRAINING
from perennial.tfx_compat import import_tfdv

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import (
        DatasetFeatureStatisticsList,
        FeatureNameStatistics,
    )

MOST_CLASSES = 1000  # a label of more whole numbers than this is a quantity, not a class
MOST_VALUES = 100  # of a text that is a category; the default of tfdv.infer_schema
LEAST_REPEATS = 5  # how often such a value occurs on average: names in a small span are no category
RARE = 0.01  # share of a span's values that may lie beyond such a list, where rare ones do


@dataclass(frozen=True)
class Seen:
    """Observations of a feature: type, share of examples with it, and number of values."""

    type: int
    present: float
    fewest: int
    most: int

    @property
    def fixed(self) -> bool:
        """Tells whether every example has the feature, with the same number of values."""
        return self.present == 1 and self.fewest == self.most > 0


def first_schema(
    statistics: DatasetFeatureStatisticsList,
    spans: Sequence[DatasetFeatureStatisticsList],
    columns: Sequence[str],
    label: str,
    key: str,
    weights: Collection[str] = (),
) -> Schema:
    """Infers a schema from the statistics of landed spans.

    Args:
        statistics: Of all spans together.
        spans: Of each span, oldest first.
        columns: Their columns in the order that the schema shall have.
        label: The feature that is predicted: a category, which clients do not send.
        key: The feature that identifies an example; clients do not send it.
        weights: The features that weight examples; clients do not send them.

    Columns that hold no value yet become features that are only planned.
    """
    schema: Schema = import_tfdv().infer_schema(statistics, max_string_domain_size=MOST_VALUES)
    by_name = features_of(schema)
    seen = see_features(statistics)
    del schema.feature[:]
    for name in dict.fromkeys([*columns, *by_name]):
        schema.feature.append(
            improve_feature(by_name[name], seen[name]) if name in seen else planned_feature(name)
        )
    _keep_categories(schema, statistics, spans, key)
    for feature in schema.feature:
        if feature.name in (label, key, *weights):
            exclude_from_serving(feature)
        if feature.name == label:
            _make_categorical(feature, statistics)
    del schema.default_environment[:]
    schema.default_environment.extend([TRAINING, SERVING])
    return schema


def improve_feature(feature: Feature, seen: Seen) -> Feature:
    """Gives an inferred feature the shape and presence that were seen.

    One value in every example is a scalar, not a list of one. A feature that some examples lack has
    no shape, and what has no fixed shape cannot be asked of clients. Of those that have a feature
    sometimes no share is demanded: the next span has another.
    """
    if seen.fixed:
        feature.ClearField("value_count")
        feature.ClearField("shape")
        feature.shape.SetInParent()
        if seen.most > 1:
            feature.shape.dim.add(size=seen.most)
    else:
        feature.ClearField("shape")
        feature.value_count.Clear()
        feature.value_count.min = seen.fewest
        if seen.fewest == seen.most:
            feature.value_count.max = seen.most
        exclude_from_serving(feature)
    feature.presence.Clear()
    if seen.present == 1:
        feature.presence.min_fraction = 1.0
    feature.presence.min_count = 1
    return feature


def planned_feature(name: str) -> Feature:
    """Makes a feature for a column without values, which no model can read yet.

    BYTES stands for a type that is not known.
    """
    from tensorflow_metadata.proto.v0 import schema_pb2

    stage = schema_pb2.PLANNED
    return schema_pb2.Feature(
        name=name, type=schema_pb2.BYTES, lifecycle_stage=stage, not_in_environment=[SERVING]
    )


def exclude_from_serving(feature: Feature) -> None:
    """Makes a feature one that clients do not send."""
    if SERVING in feature.in_environment:  # it would count for more
        feature.in_environment.remove(SERVING)
    if SERVING not in feature.not_in_environment:
        feature.not_in_environment.append(SERVING)


def features_of(schema: Schema) -> dict[str, Feature]:
    """Gives the features of a schema by their names."""
    return {feature.name: feature for feature in schema.feature}


def see_features(statistics: DatasetFeatureStatisticsList) -> dict[str, Seen]:
    """Reads from statistics what was seen of each feature that has a value."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    dataset = statistics.datasets[0]
    kinds = {
        0: schema_pb2.INT,
        1: schema_pb2.FLOAT,
        2: schema_pb2.BYTES,
        3: schema_pb2.BYTES,
    }  # 2 STRING, 3 BYTES
    result = {}
    for name, feature in statistics_of(statistics).items():
        common = getattr(feature, feature.WhichOneof("stats") or "string_stats").common_stats
        if common.num_non_missing and feature.type in kinds:
            present = common.num_non_missing / max(dataset.num_examples, 1)
            result[name] = Seen(
                kinds[feature.type], present, common.min_num_values, common.max_num_values
            )
    return result


def statistics_of(statistics: DatasetFeatureStatisticsList) -> Mapping[str, FeatureNameStatistics]:
    """Gives the statistics of each feature by its name."""
    return {f.path.step[0] if f.path.step else f.name: f for f in statistics.datasets[0].features}


def drop_unused_domains(schema: Schema) -> None:
    """Removes the lists of values that no feature refers to."""
    used = {feature.domain for feature in schema.feature if feature.HasField("domain")}
    kept = [domain for domain in schema.string_domain if domain.name in used]
    del schema.string_domain[:]
    schema.string_domain.extend(kept)


def _keep_categories(
    schema: Schema,
    statistics: DatasetFeatureStatisticsList,
    spans: Sequence[DatasetFeatureStatisticsList],
    key: str,
) -> None:
    """Keeps a list of values only for texts whose values recur from span to span.

    A list that most of the newest span would already have broken, such as one of the days of
    landing, is of no use. One that only a few of its examples would have broken admits as many.
    """
    measured = statistics_of(statistics)
    for feature in schema.feature:
        if not feature.HasField("domain"):
            continue
        strings = measured[feature.name].string_stats
        repeats = strings.common_stats.tot_num_values / max(strings.unique, 1)
        unseen = _share_unseen([count_values(span, feature.name) for span in spans])
        if feature.name == key or repeats < LEAST_REPEATS or strings.unique < 2 or unseen > RARE:
            feature.ClearField("domain")
        elif unseen:
            feature.distribution_constraints.min_domain_mass = 1 - RARE
    drop_unused_domains(schema)


def _share_unseen(spans: Sequence[Mapping[str, int]]) -> float:
    """Computes the share of the newest span's values that no earlier span has; 0 without one."""
    *earlier, newest = spans
    known = {value for span in earlier for value in span}
    unseen = sum(count for value, count in newest.items() if value not in known)
    return unseen / max(sum(newest.values()), 1) if earlier else 0.0


def count_values(statistics: DatasetFeatureStatisticsList, name: str) -> dict[str, int]:
    """Counts how often a span has each value of a text."""
    measured = statistics_of(statistics)
    buckets = measured[name].string_stats.rank_histogram.buckets if name in measured else []
    return {bucket.label: int(bucket.sample_count) for bucket in buckets}


def _make_categorical(label: Feature, statistics: DatasetFeatureStatisticsList) -> None:
    """Gives a label of few whole numbers the domain from 0 to the greatest one seen."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    numbers = statistics_of(statistics)[label.name].num_stats
    if label.type == schema_pb2.INT and numbers.max - numbers.min < MOST_CLASSES:
        label.ClearField("domain_info")
        label.int_domain.name = label.name
        label.int_domain.min = min(0, int(numbers.min))
        label.int_domain.max = int(numbers.max)
        label.int_domain.is_categorical = True
