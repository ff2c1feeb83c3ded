"""Counts the values of every feature in one pass of Beam.

A column of a record batch is a list of values for each example, null where the example lacks the
feature.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perennial.data.distributions import (
    CATEGORIES,
    KNOTS,
    SKETCH_ERROR,
    Distribution,
    FloatArray,
    most_frequent,
)

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

LONGEST_CATEGORY = (
    1024  # bytes; a feature with longer values is text or binary data, not categories
)
NOT_UTF8 = "__BYTES_VALUE__"  # what TFDV calls a value that is not UTF-8


class NumberCounts:
    """Counts of numbers: one by one while few differ, then a sketch of the quantiles."""

    def __init__(self) -> None:
        self.values: FloatArray = np.empty(0, np.float64)
        self.counts: FloatArray = np.empty(0, np.float64)
        self.sketch: Any = None

    def add(self, values: FloatArray) -> None:
        """Adds numbers; those that are not finite are left out."""
        self._add_counted(*np.unique(values[np.isfinite(values)], return_counts=True))

    def merge(self, other: NumberCounts) -> None:
        """Adds what another has counted."""
        if other.sketch is not None:
            self._to_sketch()
            self.sketch.Merge(other.sketch)
        self._add_counted(other.values, other.counts)

    def extract(self) -> tuple[FloatArray, FloatArray]:
        """Gives the knots, and the number of values up to each; nothing can be added afterwards."""
        if self.sketch is None:
            return self.values, np.cumsum(self.counts)
        pair = self.sketch.GetQuantilesAndCumulativeWeights(KNOTS - 1)
        quantiles, ranks = (array.flatten().to_numpy(zero_copy_only=False) for array in pair)
        # A value that many examples share is the quantile of many ranks; the last is the number of
        # values up to it.
        last = np.append(quantiles[1:] != quantiles[:-1], True)
        return quantiles[last], ranks[last]

    def _add_counted(self, values: FloatArray, counts: Any) -> None:
        if not len(values):
            return
        if self.sketch is None:
            joined, places = np.unique(np.concatenate([self.values, values]), return_inverse=True)
            added = np.bincount(
                places, np.concatenate([self.counts, counts]), minlength=len(joined)
            )
            self.values, self.counts = joined, added.astype(np.float64)
            if len(joined) > KNOTS:
                self._to_sketch()
        else:
            self.sketch.AddValues(pa.array(values), pa.array(np.asarray(counts, np.float64)))

    def _to_sketch(self) -> None:
        if self.sketch is None:
            from tfx_bsl.sketches import QuantilesSketch

            self.sketch = QuantilesSketch(eps=SKETCH_ERROR, max_num_elements=1 << 32, num_streams=1)
            if len(self.values):
                self.sketch.AddValues(pa.array(self.values), pa.array(self.counts))
            self.values = self.counts = np.empty(0, np.float64)


class CategoryCounts:
    """Counts of categories. Beyond twice the cap the rare half is dropped, to bound memory."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.capped = False
        self.too_long = False

    def add(self, values: pa.Array) -> None:
        """Adds at least one value, whole numbers or bytes."""
        if not pa.types.is_integer(values.type):
            self.too_long |= pc.max(pc.binary_length(values)).as_py() > LONGEST_CATEGORY
        counted = values.value_counts()
        self._add_counted(
            zip(
                map(_as_label, counted.field("values").to_pylist()),
                counted.field("counts").to_pylist(),
                strict=True,
            )
        )

    def merge(self, other: CategoryCounts) -> None:
        """Adds what another has counted."""
        self.capped |= other.capped
        self.too_long |= other.too_long
        self._add_counted(other.counts.items())

    def extract(self) -> tuple[dict[str, int] | None, bool]:
        """Gives the counts, and whether rare values are left out."""
        if self.too_long:
            return None, False
        self._keep(CATEGORIES)
        return dict(self.counts), self.capped

    def _add_counted(self, counted: Iterable[tuple[str, int]]) -> None:
        if self.too_long:
            self.counts.clear()
            return
        for label, count in counted:
            self.counts[label] += count
        if len(self.counts) > 2 * CATEGORIES:
            self._keep(CATEGORIES)

    def _keep(self, number: int) -> None:
        if len(self.counts) > number:
            self.capped = True
            self.counts = Counter(dict(most_frequent(self.counts, number)))


class FeatureCounts:
    """Counts of one feature so far."""

    def __init__(self) -> None:
        self.present = 0
        self.total = 0
        self.values: NumberCounts | CategoryCounts | None = None

    def add(self, column: pa.Array, categorical: bool | None) -> None:
        """Adds a column; `categorical` is None when the values are not to be counted."""
        self.present += len(column) - column.null_count
        if pa.types.is_null(column.type):
            return
        flat = column.flatten()
        self.total += len(flat)
        if categorical is None or not len(flat) or pa.types.is_null(flat.type):
            return
        if categorical:
            self._counts_of(CategoryCounts).add(flat)
        else:
            self._counts_of(NumberCounts).add(
                flat.to_numpy(zero_copy_only=False).astype(np.float64)
            )

    def merge(self, other: FeatureCounts) -> None:
        """Adds what another has counted."""
        self.present += other.present
        self.total += other.total
        if other.values is not None:
            self._counts_of(type(other.values)).merge(other.values)

    def extract(self, examples: int) -> Distribution:
        """Gives the distribution over so many examples."""
        counts, capped, knots, cumulative = None, False, None, None
        if isinstance(self.values, CategoryCounts):
            counts, capped = self.values.extract()
        elif self.values is not None:
            knots, cumulative = self.values.extract()
        return Distribution(
            examples, examples - self.present, self.total, counts, knots, cumulative, capped
        )

    def _counts_of(self, kind: type[Any]) -> Any:
        # TFDV, which sees the same batches, refuses a feature of two types.
        if self.values is None:
            self.values = kind()
        return self.values


class MeasureDistributions(beam.CombineFn):
    """Measures the distribution of each feature over record batches of examples.

    Args:
        images: Features whose bytes are no categories.
        categories: Features whose whole numbers are categories.
    """

    def __init__(self, images: frozenset[str], categories: frozenset[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.images, self.categories = images, categories

    def create_accumulator(self) -> tuple[int, dict[str, FeatureCounts]]:
        """Starts with no examples."""
        return 0, {}

    def add_input(
        self, accumulator: tuple[int, dict[str, FeatureCounts]], batch: pa.RecordBatch
    ) -> tuple[int, dict[str, FeatureCounts]]:
        """Adds a batch."""
        examples, features = accumulator
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            features.setdefault(name, FeatureCounts()).add(
                column, self._categorical(name, column.type)
            )
        return examples + batch.num_rows, features

    def merge_accumulators(
        self, accumulators: Iterable[tuple[int, dict[str, FeatureCounts]]]
    ) -> tuple[int, dict[str, FeatureCounts]]:
        """Adds up accumulators."""
        examples, features = self.create_accumulator()
        for more, others in accumulators:
            examples += more
            for name, other in others.items():
                features.setdefault(name, FeatureCounts()).merge(other)
        return examples, features

    def extract_output(
        self, accumulator: tuple[int, dict[str, FeatureCounts]]
    ) -> dict[str, Distribution]:
        """Gives the distributions by name."""
        examples, features = accumulator
        return {name: features[name].extract(examples) for name in sorted(features)}

    def _categorical(self, name: str, column: pa.DataType) -> bool | None:
        if pa.types.is_null(column) or name in self.images:
            return None
        if pa.types.is_floating(column.value_type):
            return False
        return not pa.types.is_integer(column.value_type) or name in self.categories


def measure_distributions(
    schema: Schema | None, categorical: Iterable[str] = ()
) -> MeasureDistributions:
    """Chooses what to count: by TFDV's rule for the schema, and the features named besides."""
    from tensorflow_data_validation.utils import schema_util
    from tensorflow_metadata.proto.v0 import schema_pb2

    if schema is None:
        return MeasureDistributions(frozenset(), frozenset(categorical))
    numeric = schema_util.get_categorical_numeric_feature_types(schema)
    images = {path.steps()[0] for path in schema_util.get_bytes_features(schema)}
    named = {path.steps()[0] for path, kind in numeric.items() if kind == schema_pb2.INT}
    return MeasureDistributions(frozenset(images), frozenset(named | set(categorical)))


def _as_label(value: int | bytes) -> str:
    if isinstance(value, int):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
