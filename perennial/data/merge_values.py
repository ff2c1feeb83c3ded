"""Combines the values of one feature in several spans: numbers, text and bytes.

What is equal, approximate or dropped is listed in `merge_statistics`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from perennial.data.distributions import Distribution, FloatArray

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.statistics_pb2 import (
        BytesStatistics,
        Histogram,
        NumericStatistics,
        StringStatistics,
    )

BUCKETS = 10  # of each histogram of numbers: TFDV's default
_QUANTILES_PER_BUCKET = (
    100  # TFDV makes its equal-width histogram from this many quantiles for each bucket
)


def combine_numbers(
    result: NumericStatistics, parts: Sequence[NumericStatistics], distribution: Distribution
) -> None:
    """Sets all but the common statistics, from parts with values and their distribution."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    nans = [int(part.histograms[0].num_nan) if part.histograms else 0 for part in parts]
    counts = [part.common_stats.tot_num_values - nan for part, nan in zip(parts, nans, strict=True)]
    valued = [part for part, count in zip(parts, counts, strict=True) if count]
    if valued:
        _combine_moments(result, valued, np.array([count for count in counts if count], np.float64))
        _add_histograms(result, valued, sum(counts), distribution)
    elif sum(nans):
        result.histograms.add(type=statistics_pb2.Histogram.STANDARD)
        result.histograms.add(type=statistics_pb2.Histogram.QUANTILES)
    for histogram in result.histograms:
        histogram.num_nan = sum(nans)


def combine_strings(
    result: StringStatistics,
    parts: Sequence[StringStatistics],
    distributions: Sequence[Distribution],
) -> None:
    """Sets all but the common statistics and what `rank_values` sets, from parts with values."""
    totals = [part.common_stats.tot_num_values for part in parts]
    result.avg_length = sum(p.avg_length * n for p, n in zip(parts, totals, strict=True)) / sum(
        totals
    )
    result.invalid_utf8_count = sum(part.invalid_utf8_count for part in parts)
    different = set().union(*(distribution.counts or () for distribution in distributions))
    # Where some were not counted, this is the least that there can be.
    result.unique = max(len(different), *(part.unique for part in parts))


def combine_bytes(result: BytesStatistics, parts: Sequence[BytesStatistics]) -> None:
    """Sets all but the common statistics, from parts that have values."""
    totals = [part.common_stats.tot_num_values for part in parts]
    result.avg_num_bytes = sum(
        p.avg_num_bytes * n for p, n in zip(parts, totals, strict=True)
    ) / sum(totals)
    result.min_num_bytes = min(part.min_num_bytes for part in parts)
    result.max_num_bytes = max(part.max_num_bytes for part in parts)
    result.max_num_bytes_int = max(part.max_num_bytes_int for part in parts)


def quantiles(
    knots: FloatArray, cumulative: FloatArray, number: int
) -> tuple[FloatArray, FloatArray]:
    """Gives values at ranks 0, 1/number, ..., 1, and the count up to each: float64 [number + 1]."""
    places = np.searchsorted(cumulative, np.linspace(0, cumulative[-1], number + 1), side="left")
    places = np.minimum(places, len(knots) - 1)  # the last rank can exceed the count by a rounding
    return knots[places], cumulative[places]


def quantile_histogram(values: FloatArray, ranks: FloatArray) -> Histogram:
    """Makes TFDV's histogram of buckets with equally many values."""
    from tensorflow_data_validation.utils import quantiles_util

    return quantiles_util.generate_quantiles_histogram(values, ranks)


def _combine_moments(
    result: NumericStatistics, parts: Sequence[NumericStatistics], counts: FloatArray
) -> None:
    """Combines the moments of several spans' numbers.

    Source: the mean of a mixture, and its variance as the mean of the variances plus that of the
    means.
    """
    result.num_zeros = sum(part.num_zeros for part in parts)
    result.min = min(part.min for part in parts)
    result.max = max(part.max for part in parts)
    means, deviations = np.array([(part.mean, part.std_dev) for part in parts]).T
    with np.errstate(invalid="ignore"):  # infinities have no deviation
        result.mean = float(np.average(means, weights=counts))
        result.std_dev = math.sqrt(
            np.average(deviations**2 + (means - result.mean) ** 2, weights=counts)
        )


def _add_histograms(
    result: NumericStatistics,
    parts: Sequence[NumericStatistics],
    total: int,
    distribution: Distribution,
) -> None:
    """Adds the median and both histograms, as TFDV derives them from quantiles."""
    from tensorflow_data_validation.utils import quantiles_util

    knots, steps = _as_numbers(distribution)
    above = sum(_positive_infinities(part) for part in parts)
    below = total - above - float(steps.sum()) if result.min == -math.inf else 0.0
    if not len(knots) and not above and not below:
        return
    ends = np.array([-math.inf, *knots, math.inf]), np.array([below, *steps, above])
    occurring = ends[1] > 0
    values, ranks = quantiles(
        ends[0][occurring], np.cumsum(ends[1][occurring]), BUCKETS * _QUANTILES_PER_BUCKET
    )
    result.median = quantiles_util.find_median(values)
    least, greatest = (knots[0], knots[-1]) if len(knots) else (math.inf, -math.inf)
    result.histograms.append(
        quantiles_util.generate_equi_width_histogram(values, ranks, least, greatest, BUCKETS, above)
    )
    result.histograms.append(
        quantile_histogram(values[::_QUANTILES_PER_BUCKET], ranks[::_QUANTILES_PER_BUCKET])
    )


def _as_numbers(distribution: Distribution) -> tuple[FloatArray, FloatArray]:
    """Gives knots and the number of values at each, also of a label whose classes were counted."""
    if distribution.knots is not None and distribution.cumulative is not None:
        return distribution.knots, np.diff(distribution.cumulative, prepend=0.0)
    counted = sorted((float(label), count) for label, count in (distribution.counts or {}).items())
    knots, steps = np.array(counted, np.float64).reshape(-1, 2).T
    return knots, steps


def _positive_infinities(part: NumericStatistics) -> float:
    if part.max < math.inf or not part.histograms:
        return 0.0
    return float(
        sum(
            bucket.sample_count
            for bucket in part.histograms[0].buckets
            if bucket.low_value == math.inf
        )
    )
