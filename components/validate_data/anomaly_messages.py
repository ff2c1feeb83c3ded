"""Says what TensorFlow Data Validation found, in the words of a person who lands data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perennial.schema.description import listed, type_name
from perennial.schema.inference import count_values, statistics_of

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.anomalies_pb2 import AnomalyInfo
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import (
        CommonStatistics,
        DatasetFeatureStatisticsList,
        FeatureNameStatistics,
    )

_TYPE_NAMES = {"INT": "INT", "FLOAT": "FLOAT", "STRING": "BYTES", "BYTES": "BYTES"}


@dataclass(frozen=True)
class _Found:
    """One feature: what the schema asks for, and what the span's statistics hold."""

    feature: Feature
    statistics: FeatureNameStatistics
    rows: int
    allowed: frozenset[str]
    counts: dict[str, int]

    def _common(self) -> CommonStatistics:
        from tensorflow_metadata.proto.v0 import statistics_pb2

        kind = self.statistics.WhichOneof("stats")
        if kind is None:  # nothing was measured, as no row has a value
            return statistics_pb2.CommonStatistics()
        common: CommonStatistics = getattr(self.statistics, kind).common_stats
        return common

    def presence(self) -> str | None:
        missing = self.rows - self._common().num_non_missing
        if not missing:
            return None
        share = self.feature.presence.min_fraction
        asked = "in every row"
        if not self.feature.HasField("shape") and share < 1:
            asked = f"in at least {share:.3g} of the rows"
            if not share:
                asked = f"in at least {self.feature.presence.min_count} rows"
        rows = (
            "no row has a value"
            if missing == self.rows
            else (f"{missing:,} of {self.rows:,} rows have no value")
        )
        return f"{rows}; schema.pbtxt asks for one {asked}"

    def number_of_values(self) -> str | None:
        common = self._common()
        least, most = common.min_num_values, common.max_num_values
        held = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        if self.feature.HasField("shape"):
            sizes = [dim.size for dim in self.feature.shape.dim]
            total = 1
            for size in sizes:
                total *= size
            if least == most == total:
                return None
            asked = " x ".join(map(str, sizes)) or "1"
        elif self.feature.HasField("value_count"):
            low, high = self.feature.value_count.min, self.feature.value_count.max
            asked = (
                f"{low} or more" if not high else f"{low}" if low == high else f"{low} to {high}"
            )
        else:
            return None
        return f"a row holds {held} values; schema.pbtxt asks for {asked}"

    def shape(self) -> str | None:
        parts = [part for part in (self.presence(), self.number_of_values()) if part]
        return "; ".join(parts) or None

    def type(self) -> str | None:
        received = _TYPE_NAMES.get(self.statistics.Type.Name(self.statistics.type))
        if received is None or received == type_name(self.feature):
            return None
        return f"the values are of type {received}; schema.pbtxt says {type_name(self.feature)}"

    def low(self) -> str | None:
        return self._bound("min", "smallest", "at least")

    def high(self) -> str | None:
        return self._bound("max", "greatest", "at most")

    def _bound(self, end: str, word: str, asked: str) -> str | None:
        domain = self.feature.WhichOneof("domain_info")
        if domain not in ("int_domain", "float_domain") or not self.statistics.HasField(
            "num_stats"
        ):
            return None
        value = getattr(self.statistics.num_stats, end)
        limit = getattr(getattr(self.feature, domain), end)
        return f"the {word} value is {value:.6g}; schema.pbtxt allows {asked} {limit:.6g}"

    def values(self) -> str | None:
        unknown = {name: n for name, n in self.counts.items() if name not in self.allowed}
        if not self.allowed or not unknown:
            return None
        names = sorted(unknown, key=lambda name: (-unknown[name], name))
        count = sum(unknown.values())
        return f"{count:,} values are not among those that schema.pbtxt lists: {listed(names)}"

    def unique(self) -> str | None:
        limits = self.feature.unique_constraints
        return (
            f"there are {self.statistics.string_stats.unique:,} different values; schema.pbtxt "
            f"asks for {limits.min:,} to {limits.max:,}"
        )

    def not_a_number(self) -> str | None:
        histograms = self.statistics.num_stats.histograms
        nans = histograms[0].num_nan if histograms else 0
        return f"{nans:,} values are NaN, which schema.pbtxt does not allow" if nans else None


_DESCRIBED: dict[str, Callable[[_Found], str | None]] = {
    "FEATURE_TYPE_LOW_FRACTION_PRESENT": _Found.presence,
    "FEATURE_TYPE_LOW_NUMBER_PRESENT": _Found.presence,
    "FEATURE_TYPE_NOT_PRESENT": _Found.presence,
    "FEATURE_TYPE_HIGH_NUMBER_VALUES": _Found.number_of_values,
    "FEATURE_TYPE_LOW_NUMBER_VALUES": _Found.number_of_values,
    "FEATURE_TYPE_NO_VALUES": _Found.number_of_values,
    "FEATURE_TYPE_UNEXPECTED_REPEATED": _Found.number_of_values,
    "INVALID_FEATURE_SHAPE": _Found.shape,
    "UNEXPECTED_DATA_TYPE": _Found.type,
    "INT_TYPE_SMALL_INT": _Found.low,
    "INT_TYPE_BIG_INT": _Found.high,
    "FLOAT_TYPE_SMALL_FLOAT": _Found.low,
    "FLOAT_TYPE_BIG_FLOAT": _Found.high,
    "ENUM_TYPE_UNEXPECTED_STRING_VALUES": _Found.values,
    "FEATURE_TYPE_HIGH_UNIQUE": _Found.unique,
    "FEATURE_TYPE_LOW_UNIQUE": _Found.unique,
    "FLOAT_TYPE_HAS_NAN": _Found.not_a_number,
}
_FIXED = {
    "SCHEMA_NEW_COLUMN": "schema.pbtxt does not have this column (`perennial schema diff` "
    "proposes it)",
    "SCHEMA_MISSING_COLUMN": "no row has a value; schema.pbtxt asks for the column",
    "FLOAT_TYPE_HAS_INF": "some values are infinite, which schema.pbtxt does not allow",
    "ENUM_TYPE_INVALID_UTF8": "some values are not text in UTF-8",
}


def describe_anomaly(
    reason: AnomalyInfo.Reason, name: str, schema: Schema, statistics: DatasetFeatureStatisticsList
) -> str:
    """Describes an anomaly of a feature, or of the table; a rare one in TFDV's own words.

    Args:
        reason: What TFDV found.
        name: Of which feature.
        schema: What is expected.
        statistics: The span's.
    """
    from tensorflow_metadata.proto.v0.anomalies_pb2 import AnomalyInfo

    kind = AnomalyInfo.Type.Name(reason.type)
    rows = int(statistics.datasets[0].num_examples)
    if kind in _FIXED:
        return _FIXED[kind]
    limits = schema.dataset_constraints
    if kind == "DATASET_LOW_NUM_EXAMPLES":
        return f"there are {rows:,} rows; schema.pbtxt asks for {limits.min_examples_count:,}"
    if kind == "DATASET_HIGH_NUM_EXAMPLES":
        return f"there are {rows:,} rows; schema.pbtxt allows {limits.max_examples_count:,}"
    anomaly = _find(name, rows, schema, statistics)
    described = _DESCRIBED[kind](anomaly) if anomaly is not None and kind in _DESCRIBED else None
    return described or f"{reason.description.rstrip('. ')} (TensorFlow Data Validation)"


def _find(
    name: str, rows: int, schema: Schema, statistics: DatasetFeatureStatisticsList
) -> _Found | None:
    feature = next((feature for feature in schema.feature if feature.name == name), None)
    measured = statistics_of(statistics).get(name)
    if feature is None or measured is None:
        return None
    domains = {domain.name: domain.value for domain in schema.string_domain}
    values = feature.string_domain.value or domains.get(feature.domain, ())
    return _Found(feature, measured, rows, frozenset(values), count_values(statistics, name))
