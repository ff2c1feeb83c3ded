"""Schema, anomalies and drift of one span: TensorFlow Data Validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perennial.tfx_compat import import_tfdv
from schemas.records import Check

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

TRAINING = "TRAINING"


def check_schema(
    statistics: DatasetFeatureStatisticsList, schema: Schema, previous: DatasetFeatureStatisticsList | None
) -> list[Check]:
    """Validates a span's statistics against the schema; one check for each feature, and one for drift.

    Drift is compared with `previous`, the span before, for the features to which the schema gives a
    `drift_comparator`.
    """
    tfdv = import_tfdv()

    anomalies = tfdv.validate_statistics(
        statistics,
        schema,
        environment=TRAINING if TRAINING in schema.default_environment else None,
        previous_statistics=previous,
    )
    found = {name: _as_failures(name, info) for name, info in anomalies.anomaly_info.items()}
    whole = list(anomalies.dataset_anomaly_info.reason)
    found["table"] = [Check(kind="schema", subject="table", verdict="failed", message=r.description) for r in whole]
    expected = [feature.name for feature in schema.feature if feature.name not in found]
    passed = [Check(kind="schema", subject=name, verdict="passed", message="as the schema says") for name in expected]
    failed = [check for checks in found.values() for check in checks]
    return failed + passed + [_drift(schema, previous, failed)]


def _as_failures(name: str, info: object) -> list[Check]:
    reasons = info.reason  # type: ignore[attr-defined]
    return [
        Check(kind=_kind(r.short_description), subject=name, verdict="failed", message=r.description) for r in reasons
    ]


def _kind(description: str) -> str:
    return "drift" if "drift" in description.lower() or "linfty" in description.lower() else "schema"


def _drift(schema: Schema, previous: object, failed: list[Check]) -> Check:
    features = [feature.name for feature in schema.feature if feature.HasField("drift_comparator")]
    if not features:
        return _not_compared("no feature has a drift_comparator in schema.pbtxt")
    if previous is None:
        return _not_compared("there is no earlier span in the window to compare with")
    if any(check.kind == "drift" for check in failed):
        return _not_compared("the features named above drifted")
    names = ", ".join(features)
    return Check(kind="drift", subject=names, verdict="passed", message="within drift_comparator of the span before")


def _not_compared(why: str) -> Check:
    return Check(kind="drift", subject="all features", verdict="not_compared", message=why)
