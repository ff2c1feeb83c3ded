"""What runs in a warm process for the tests of `compute_statistics`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from perennial.data.distributions import Distribution
from tests.perennial.data.merge_jobs import measure


def count(
    batches: list[dict[str, list[Any]]], images: list[str], categories: list[str], parts: int
) -> Any:
    """The distributions of batches that are counted in so many parts, as on several workers."""
    import pyarrow as pa

    from perennial.data.value_counts import MeasureDistributions

    measure = MeasureDistributions(frozenset(images), frozenset(categories))
    accumulators = [measure.create_accumulator() for _ in range(parts)]
    for number, batch in enumerate(batches):
        record_batch = pa.RecordBatch.from_pydict(
            {name: _column(values) for name, values in batch.items()}
        )
        accumulators[number % parts] = measure.add_input(accumulators[number % parts], record_batch)
    return measure.extract_output(measure.merge_accumulators(accumulators))


def count_with_cap(batches: list[dict[str, list[Any]]], cap: int) -> Any:
    from perennial.data import value_counts

    value_counts.CATEGORIES = cap  # this process ends with the call
    return count(batches, [], [], parts=1)


def count_shapes(size: int, parts: int) -> dict[str, tuple[Any, Distribution]]:
    """Shape -> the numbers, and how they were counted."""
    rng = np.random.default_rng(5)
    ties = np.where(rng.random(size) < 0.6, rng.choice([0.0, 3.0], size), rng.normal(size=size))
    shapes = {
        "normal": rng.normal(size=size),
        "skewed": rng.lognormal(sigma=3, size=size),
        "ties": ties,
        "sorted": np.sort(rng.random(size)),
        "few": rng.integers(1024, size=size).astype(float),
        "one more than few": np.arange(size) % 1025.0,
    }
    found = {}
    for name, values in shapes.items():
        batches = [{"x": [[v] for v in part]} for part in np.array_split(values, 20)]
        found[name] = values, count(batches, [], [], parts)["x"]
    return found


def find_anomaly(rows: list[dict[str, Any]], domain: list[str], folder: Path) -> str:
    """What TFDV says of the feature `code` where the schema gives it a domain."""
    import tensorflow_data_validation as tfdv
    from tensorflow_metadata.proto.v0 import schema_pb2

    schema = schema_pb2.Schema()
    schema.feature.add(name="code", type=schema_pb2.BYTES).string_domain.value.extend(domain)
    statistics, _ = measure(rows, folder, schema)
    return str(tfdv.validate_statistics(statistics, schema).anomaly_info["code"].description)


def _column(values: list[Any]) -> Any:
    import pyarrow as pa

    some = next((value[0] for value in values if value), None)
    if some is None:
        return pa.nulls(len(values))
    inner = (
        pa.large_binary()
        if isinstance(some, bytes)
        else pa.int64()
        if isinstance(some, int)
        else pa.float64()
    )
    return pa.array(values, pa.large_list(inner))
