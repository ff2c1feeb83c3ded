"""A feature is in the environments that TensorFlow Data Validation has it in, whoever asks."""

from __future__ import annotations

import itertools

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.validate_data.column_checks import training_features
from perennial.schema.description import describe_changes
from perennial.schema.environments import (
    SERVING,
    TRAINING,
    environments_of,
    is_in_environment,
    schema_of_environment,
    serving_features,
)
from perennial.schema.inference import exclude_from_serving
from tests.forked import forked

NAMES = (TRAINING, SERVING)
SETS = [(), (TRAINING,), (SERVING,), NAMES]


def make(default, inside, outside):
    schema = schema_pb2.Schema(default_environment=default)
    schema.feature.add(
        name="x", type=schema_pb2.INT, in_environment=inside, not_in_environment=outside
    )
    schema.feature[0].presence.min_count = 1
    return schema


@pytest.mark.parametrize("inside, outside, expected", [
    ((), (), ["TRAINING", "SERVING"]),
    ((), (SERVING,), ["TRAINING"]),
    ((SERVING,), (SERVING,), ["TRAINING", "SERVING"]),
    (("STAGING",), (TRAINING,), ["SERVING", "STAGING"]),
])  # fmt: skip
@pytest.mark.parametrize("default", [(), NAMES])
def test_environments_of_a_feature(default, inside, outside, expected):
    schema = make(default, inside, outside)
    assert environments_of(schema, schema.feature[0]) == expected


def test_feature_is_in_no_environment_but_the_default_ones():
    schema = make([TRAINING], (), ())
    assert serving_features(schema) == [] and len(training_features(schema)) == 1
    assert serving_features(make([TRAINING], (SERVING,), ())) == ["x"]


def test_all_agree():
    for default, inside, outside in itertools.product(SETS, SETS, SETS):
        schema = make(default, inside, outside)
        (feature,) = schema.feature
        assert serving_features(schema) == ["x"] * is_in_environment(schema, feature, SERVING)
        assert bool(training_features(schema)) == is_in_environment(schema, feature, TRAINING)
        for name in NAMES:
            assert (name in environments_of(schema, feature)) == is_in_environment(
                schema, feature, name
            ) or (default and name not in default)
            copy = schema_of_environment(schema, name)
            assert is_in_environment(copy, copy.feature[0], name) == is_in_environment(
                schema, feature, name
            )
        exclude_from_serving(feature)
        assert not is_in_environment(schema, feature, SERVING)


def test_end_of_serving_is_described_by_what_it_means():
    before, after = make(NAMES, (), ()), make([TRAINING], (), ())
    statistics = text_format.Parse("datasets {}", statistics_list())
    lines = describe_changes(before, after, statistics)
    assert lines == ["`x`: no longer asked of clients", "default_environment of the schema changes"]


def statistics_list():
    from tensorflow_metadata.proto.v0 import statistics_pb2

    return statistics_pb2.DatasetFeatureStatisticsList()


def ask_tfdv():
    """Whether TFDV misses the feature in data without it.

    For every schema and environment that it takes.
    """
    from perennial.tfx_compat import import_tfdv

    tfdv = import_tfdv()
    statistics = text_format.Parse("datasets { num_examples: 9 }", statistics_list())
    found = []
    for default, inside, outside in itertools.product(SETS, SETS, SETS):
        for name in NAMES:
            schema = make(default, inside, outside)
            expected = is_in_environment(schema, schema.feature[0], name)
            ours = tfdv.validate_statistics(
                statistics, schema_of_environment(schema, name), environment=name
            )
            found.append(("x" in ours.anomaly_info, expected))
            if name in default:
                theirs = tfdv.validate_statistics(statistics, schema, environment=name)
                found.append(("x" in theirs.anomaly_info, expected))
    return found


def test_tfdv_agrees():
    found = forked(ask_tfdv)
    assert len(found) > 100 and all(missed == expected for missed, expected in found)
