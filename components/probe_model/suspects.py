"""The suspect features that the settings name, as values of the test examples."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from components.probe_model.covariates import Suspect
from perennial.data.examples import as_text
from perennial.evaluation.prediction_table import Array, read_values
from perennial.export.served_model import Columns
from schemas.records import SuspectFeature

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema

_MISSING = "None"


def find_suspects(
    names: Sequence[str],
    columns: Columns,
    ignored: Collection[str],
    records: Sequence[bytes],
    schema: Schema,
) -> tuple[list[Suspect], list[SuspectFeature]]:
    """Finds the suspect features, and why some cannot be probed.

    Args:
        names: Of the features.
        columns: What the model is given, of the same examples.
        ignored: Names of those of these columns that it makes nothing of.
        records: The examples; they hold what the model is not given, too.
        schema: Says which integers are names.
    """
    kinds = {feature.name: feature for feature in schema.feature}
    held = _read(records, [name for name in names if name not in columns])
    values = {name: flat(columns[name]) for name in names if name in columns} | held
    suspects = [
        Suspect(
            name,
            values[name],
            is_number(values[name], kinds.get(name)),
            is_read=name in columns and name not in ignored,
        )
        for name in names
        if name in values
    ]
    why = "no test example has it, or some have several values"
    return suspects, [
        SuspectFeature(name=name, is_read=False, not_compared=why)
        for name in names
        if name not in values
    ]


def _read(records: Sequence[bytes], names: Sequence[str]) -> dict[str, Array]:
    """Reads the features that have at most one value in each example, [n].

    A feature with several values in an example, or with none in all of them, is left out.
    """
    columns = {}
    for name, rows in read_values(list(records), names).items():
        sizes = {len(row) if row else 0 for row in rows}
        if max(sizes) == 1:
            columns[name] = _column([row[0] if row else None for row in rows])
    return columns


def _column(values: Sequence[Any]) -> Array:
    """Numbers as float64, where missing ones are NaN; bytes as text."""
    if any(isinstance(value, bytes) for value in values):
        return np.array([_MISSING if value is None else as_text(value) for value in values])
    return np.array([np.nan if value is None else float(value) for value in values])


def flat(values: Array) -> Array:
    """Gives a column of single values, [n] or [n, 1], as [n]."""
    return values.reshape(-1) if values.size == len(values) else values


def is_number(values: Array, feature: Feature | None) -> bool:
    """Tells whether values have an order: neither text nor the schema's categories have one."""
    if not np.issubdtype(values.dtype, np.number):
        return False
    return feature is None or not (
        feature.HasField("bool_domain") or feature.int_domain.is_categorical
    )
