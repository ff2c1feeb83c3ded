"""Combines the statistics of a window from those of its spans.

TFDV's statistics have no merge: quantiles and truncated value counts cannot be added up. The
distributions that are kept beside them can, and the other fields can be computed from the spans'
own. What TFDV would say of the same examples in one dataset is given as follows.

Equal: num_examples; of a feature its type, num_missing, num_non_missing, min, max, avg and tot
num_values; of numbers num_zeros, min, max and num_nan; of strings top_values, rank_histogram,
unique, invalid_utf8_count; of bytes min, max. Equal but for rounding in the last digits: mean,
std_dev, avg_length, avg_num_bytes, avg_num_values.

Approximate: median, both histograms of numbers and num_values_histogram. At any point, the share of
values up to it errs by at most `RANK_ERROR` (0.2%) and, in num_values_histogram,
`LENGTH_RANK_ERROR` (2%); TFDV's own err by 1%. Where a feature holds infinities, mean and std_dev
are what TFDV's own formula makes of them: not a number.

Where a feature had more than `CATEGORIES` different values in a span or in the window: of its
values the most frequent `CATEGORIES` are counted, and unique is the least that it can be. Values
that are not UTF-8 count as one. Where values are too long to be counted, strings have no top_values
and no rank_histogram.

Dropped, as no span has them here: weights, custom_stats, cross_features, and the statistics of
nested features.

A feature whose type is not the same in all spans has the type of the newest span that has values of
it; examples of spans with another type count as missing it. (TFDV itself refuses such a dataset.)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.data.distributions import CATEGORIES, Distribution, FloatArray, merge, most_frequent
from perennial.data.merge_values import (
    combine_bytes,
    combine_numbers,
    combine_strings,
    quantile_histogram,
    quantiles,
)
from perennial.tfx_compat import import_tfdv

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import (
        CommonStatistics,
        DatasetFeatureStatisticsList,
        FeatureNameStatistics,
        StringStatistics,
    )

LENGTH_BUCKETS = 100  # of the quantile histogram of the number of values in an example
LENGTH_RANK_ERROR = 0.02  # one bucket, and the 1% that TFDV's quantiles err by
TOP_VALUES = 20  # TFDV's default
RANKS = 1000  # TFDV's default

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Part:
    """One feature in one span; equal only to itself."""

    statistics: FeatureNameStatistics
    distribution: Distribution

    @property
    def values(self) -> int:
        """Counts the values."""
        return int(self.common.tot_num_values)

    @property
    def common(self) -> CommonStatistics:
        return _stats(self.statistics).common_stats

    @property
    def kind(self) -> tuple[int, str | None]:
        """Gives the type of the values, and which statistics they have."""
        return self.statistics.type, self.statistics.WhichOneof("stats")


def combine_statistics(
    parts: Sequence[DatasetFeatureStatisticsList],
    distributions: Sequence[Mapping[str, Distribution]],
    schema: Schema | None = None,
) -> DatasetFeatureStatisticsList:
    """Combines the statistics of a window from those of its spans, oldest span first.

    Args:
        parts: Statistics of each span, each of one dataset.
        distributions: Distributions of each span, in the same order.
        schema: Says which features have domains: every value of those is named.
    """
    import_tfdv()
    from tensorflow_metadata.proto.v0 import statistics_pb2

    datasets = [part.datasets[0] for part in parts]
    result = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = result.datasets.add(num_examples=sum(dataset.num_examples for dataset in datasets))
    by_name: dict[str, list[_Part]] = {}
    for measured, counted in zip(datasets, distributions, strict=True):
        for feature in measured.features:
            name = feature_name(feature)
            by_name.setdefault(name, []).append(_Part(feature, counted.get(name, _UNCOUNTED)))
    merged = {}
    for name, features in sorted(by_name.items()):
        kept = _of_newest_kind(name, features)
        merged[name] = merge([part.distribution for part in kept])
        dataset.features.append(
            _combine_feature(features, kept, merged[name], dataset.num_examples)
        )
    rank_values(result, merged, schema)
    return result


def feature_name(feature: FeatureNameStatistics) -> str:
    """Gives the name of a feature that is not nested."""
    return str(feature.name or feature.path.step[0])


def rank_values(
    statistics: DatasetFeatureStatisticsList,
    distributions: Mapping[str, Distribution],
    schema: Schema | None,
) -> None:
    """Sets the most frequent values of each feature of categories, in place, from its counts.

    TFDV looks for values outside a domain among those that the rank histogram names, by default
    1,000, and reports nothing of the others; so all are named where the schema has a domain. Of
    values too long to be counted none is.
    """
    domains = {f.name for f in (schema.feature if schema else ()) if f.WhichOneof("domain_info")}
    for feature in statistics.datasets[0].features:
        name = feature_name(feature)
        if feature.WhichOneof("stats") == "string_stats" and name in distributions:
            ranks = CATEGORIES if name in domains else RANKS
            _rank(feature.string_stats, distributions[name], ranks, feature.type == feature.INT)


def _rank(
    strings: StringStatistics, distribution: Distribution, ranks: int, whole_numbers: bool
) -> None:
    strings.ClearField("top_values")
    strings.ClearField("rank_histogram")
    for rank, (label, count) in enumerate(
        most_frequent(distribution.counts or {}, ranks, whole_numbers)
    ):
        if rank < TOP_VALUES:
            strings.top_values.add(value=label, frequency=count)
        strings.rank_histogram.buckets.add(
            low_rank=rank, high_rank=rank, label=label, sample_count=count
        )


def _of_newest_kind(name: str, parts: Sequence[_Part]) -> list[_Part]:
    """Keeps the parts with values of the newest kind; if none has values, the newest part."""
    valued = [part for part in parts if part.values]
    kept = [part for part in valued if part.kind == valued[-1].kind]
    if len(kept) < len(valued):
        _log.warning(
            "feature `%s` is of another type in %d spans of the window than in the newest: there "
            "it counts as missing",
            name,
            len(valued) - len(kept),
        )
    return kept or [parts[-1]]


def _combine_feature(
    parts: Sequence[_Part], kept: Sequence[_Part], distribution: Distribution, examples: int
) -> FeatureNameStatistics:
    newest = kept[-1].statistics
    result = type(newest)()
    result.CopyFrom(newest)
    result.ClearField("custom_stats")
    stats = _stats(result)
    stats.Clear()
    # An example can have a feature of no values, which says nothing of the type.
    _combine_common(
        stats.common_stats, [part for part in parts if part in kept or not part.values], examples
    )
    values = [part for part in kept if part.values]
    if values and newest.HasField("num_stats"):
        combine_numbers(stats, [part.statistics.num_stats for part in values], distribution)
    elif values and newest.HasField("string_stats"):
        combine_strings(
            stats,
            [part.statistics.string_stats for part in values],
            [p.distribution for p in values],
        )
    elif values and newest.HasField("bytes_stats"):
        combine_bytes(stats, [part.statistics.bytes_stats for part in values])
    return result


def _combine_common(result: CommonStatistics, parts: Sequence[_Part], examples: int) -> None:
    present = [part.common for part in parts if part.common.num_non_missing]
    result.num_non_missing = sum(common.num_non_missing for common in present)
    result.num_missing = examples - result.num_non_missing
    if not present:
        return
    result.min_num_values = min(common.min_num_values for common in present)
    result.max_num_values = max(common.max_num_values for common in present)
    result.tot_num_values = sum(common.tot_num_values for common in present)
    result.avg_num_values = result.tot_num_values / result.num_non_missing
    knots, cumulative = _lengths(present)
    result.num_values_histogram.CopyFrom(
        quantile_histogram(*quantiles(knots, cumulative, LENGTH_BUCKETS))
    )


def _lengths(present: Sequence[CommonStatistics]) -> tuple[FloatArray, FloatArray]:
    """Gives the number of values in an example as a step function, from quantile histograms."""
    lengths, counts = [], []
    for common in present:
        if common.min_num_values == common.max_num_values:
            lengths.append(float(common.min_num_values))
            counts.append(float(common.num_non_missing))
        else:
            # At the least length stands no bucket's end, though one example has it; it is taken
            # from the first bucket.
            buckets = common.num_values_histogram.buckets
            lengths += [float(common.min_num_values), *(bucket.high_value for bucket in buckets)]
            counts += [
                1.0,
                buckets[0].sample_count - 1,
                *(bucket.sample_count for bucket in buckets[1:]),
            ]
    knots, places = np.unique(np.array(lengths), return_inverse=True)
    return knots, np.cumsum(np.bincount(places, counts))


def _stats(feature: FeatureNameStatistics) -> Any:
    return getattr(feature, feature.WhichOneof("stats"))


_UNCOUNTED = Distribution(0, 0, 0, None, None, None)
