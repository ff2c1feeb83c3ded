"""Schema, anomalies and drift of one span: TensorFlow Data Validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perennial.tfx_compat import import_tfdv
from schemas.records import Check

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

TRAINING = "TRAINING"


def check_schema(
    statistics: DatasetFeatureStatisticsList, schema: Schema, previous: DatasetFeatureStatisticsList | None
) -> list[Check]:
    """Validates a span's statistics against the schema; one check for each feature, and one for its drift.

    Drift is compared with `previous`, the span before, for the features to which the schema gives a
    `drift_comparator`; what could not be compared is said.
    """
    tfdv = import_tfdv()

    anomalies = tfdv.validate_statistics(
        statistics,
        schema,
        environment=TRAINING if TRAINING in schema.default_environment else None,
        previous_statistics=previous,
    )
    found = {name: _as_failures(name, info) for name, info in anomalies.anomaly_info.items()}
    found["table"] = _as_failures("table", anomalies.dataset_anomaly_info)
    expected = [feature.name for feature in schema.feature if feature.name not in found]
    passed = [Check(kind="schema", subject=name, verdict="passed", message="as the schema says") for name in expected]
    failed = [check for checks in found.values() for check in checks]
    drift = _check_drift(statistics, schema, previous, failed)
    unsaid = {check.subject for check in drift if check.verdict == "not_compared"}
    # What cannot be compared has not drifted, whatever TFDV makes of the statistics that it lacks.
    return [check for check in failed if check.kind != "drift" or check.subject not in unsaid] + passed + drift


def _as_failures(name: str, info: object) -> list[Check]:
    from tensorflow_metadata.proto.v0.anomalies_pb2 import AnomalyInfo

    reasons = info.reason  # type: ignore[attr-defined]
    drifted = [AnomalyInfo.Type.Name(r.type).startswith("COMPARATOR_") for r in reasons]
    return [
        Check(kind="drift" if drift else "schema", subject=name, verdict="failed", message=r.description)
        for r, drift in zip(reasons, drifted, strict=True)
    ]


def _check_drift(
    statistics: DatasetFeatureStatisticsList,
    schema: Schema,
    previous: DatasetFeatureStatisticsList | None,
    failed: list[Check],
) -> list[Check]:
    """One check for each feature that has a comparator and did not drift: passed, or why it was not compared."""
    features = [feature for feature in schema.feature if feature.HasField("drift_comparator")]
    if not features:
        return [_not_compared("all features", "no feature has a drift_comparator in schema.pbtxt")]
    if previous is None:
        return [_not_compared("all features", "there is no earlier span in the window to compare with")]
    drifted = {check.subject for check in failed if check.kind == "drift"}
    checks = []
    for feature in features:
        sides = ((statistics, "this span"), (previous, "the span before"))
        why = next((why for side, where in sides if (why := _why_not_comparable(feature, side, where))), None)
        if why:
            checks.append(_not_compared(feature.name, why))
        elif feature.name not in drifted:
            within = "within drift_comparator of the span before"
            checks.append(Check(kind="drift", subject=feature.name, verdict="passed", message=within))
    return checks


def _why_not_comparable(feature: Feature, statistics: DatasetFeatureStatisticsList, where: str) -> str | None:
    """TFDV compares nothing, and says nothing, where a feature has no values or not the statistics it needs."""
    found = [
        f for f in statistics.datasets[0].features if list(f.path.step) == [feature.name] or f.name == feature.name
    ]
    kind = found[0].WhichOneof("stats") if found else None
    if kind is None or not getattr(found[0], kind).common_stats.num_non_missing:
        return f"it has no values in {where}"
    if feature.drift_comparator.HasField("infinity_norm") and kind != "string_stats":
        return f"infinity_norm compares categories, {where} was measured as numbers: use jensen_shannon_divergence"
    return None


def _not_compared(subject: str, why: str) -> Check:
    return Check(kind="drift", subject=subject, verdict="not_compared", message=why)
