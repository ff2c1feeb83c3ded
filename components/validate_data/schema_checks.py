"""Checks a span's statistics against the schema with TensorFlow Data Validation."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from components.validate_data.anomaly_messages import describe_anomaly
from components.validate_data.column_checks import training_features
from perennial.schema.environments import TRAINING, schema_of_environment
from perennial.tfx_compat import import_tfdv
from schemas.project import Severity
from schemas.records import Check

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList


def check_schema(
    statistics: DatasetFeatureStatisticsList,
    schema: Schema,
    severity: Severity,
    reported: Collection[str] = (),
) -> list[Check]:
    """Makes one check for each anomaly, and one for each feature without any.

    Args:
        statistics: The span's.
        schema: What is expected, in the training environment.
        severity: What an anomaly does.
        reported: Columns that are missing or new: their own check says it better than the anomalies
            that follow from it.
    """
    tfdv = import_tfdv()
    expected = schema_of_environment(schema, TRAINING)
    anomalies = tfdv.validate_statistics(statistics, expected, environment=TRAINING)
    named = [*anomalies.anomaly_info.items(), ("table", anomalies.dataset_anomaly_info)]
    failed = [
        Check(kind="schema", subject=name, verdict="failed", message=message, severity=severity)
        for name, info in named
        if name not in reported
        for message in dict.fromkeys(
            describe_anomaly(reason, name, expected, statistics) for reason in info.reason
        )
    ]
    wrong = {*reported, *(check.subject for check in failed)}
    return failed + [
        Check(
            kind="schema",
            subject=name,
            verdict="passed",
            message="as the schema says",
            severity=severity,
        )
        for name in (feature.name for feature in training_features(schema))
        if name not in wrong
    ]
