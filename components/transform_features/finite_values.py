"""Counts the examples in which a transformed feature or label is NaN or infinite."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perennial.data.worker_files import Handover
from schemas.records import NotFinite

_ROWS = ""  # no feature has this name
_SPARSE = "$sparse_values"  # how TensorFlow Transform names the values of a sparse feature


def add_counts(batches: Any, split: str, handover: Handover) -> None:
    """Adds to a pipeline that it hands over `<split>.json` with the counts of a split.

    Args:
        batches: Transformed Arrow batches.
        split: Names the steps and the file.
        handover: Where the file goes.
    """
    import apache_beam as beam

    (
        batches
        | f"Count not finite[{split}]" >> beam.Map(count_not_finite)
        | f"Add counts[{split}]" >> beam.CombineGlobally(_add)
        | f"Write counts[{split}]" >> beam.Map(_give, f"{split}.json", handover)
    )


def read_counts(folder: Path, splits: Sequence[str]) -> NotFinite:
    """Adds up the counts of the splits."""
    total = _add(
        Counter(json.loads((folder / f"{split}.json").read_text(encoding="utf-8")))
        for split in splits
    )
    return NotFinite(rows=total.pop(_ROWS, 0), examples=dict(sorted(total.items())))


def count_not_finite(batch: pa.RecordBatch) -> Counter[str]:
    """Counts by feature the rows of a batch that hold NaN or infinity, and under '' all rows."""
    counts = Counter({_ROWS: batch.num_rows})
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        rows = np.arange(len(column))
        while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            rows = rows[pc.list_parent_indices(column).to_numpy(zero_copy_only=False)]
            column = column.flatten()
        if pa.types.is_floating(column.type):
            values = column.to_numpy(zero_copy_only=False)
            if not np.isfinite(values).all():
                broken = np.unique(rows[~np.isfinite(values)])
                counts[name.removesuffix(_SPARSE)] += len(broken)
    return counts


def _add(counts: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


def _give(counts: Counter[str], name: str, handover: Handover) -> None:
    handover.give(name, json.dumps(counts).encode())
