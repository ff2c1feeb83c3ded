"""The suspect features that the settings name, as values of the test examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from components.probe_model.covariates import Suspect
from perennial.data.examples import as_text
from perennial.evaluation.prediction_table import Array, read_values
from perennial.export.served_model import Columns

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema

_MISSING = "None"


def find_suspects(
    names: Sequence[str], columns: Columns, records: Sequence[bytes], schema: Schema
) -> tuple[list[Suspect], list[str]]:
    """Finds the suspect features, and why some cannot be probed.

    Args:
        names: Of the features.
        columns: What the model reads, of the same examples.
        records: The examples; they hold what the model does not read, too.
        schema: Says which integers are names.
    """
    named = {feature.name: feature for feature in schema.feature}
    unread = [name for name in names if name not in columns]
    values = _read(records, unread)
    suspects = [
        Suspect(name, _flat(columns[name]), _is_number(columns[name], named.get(name)), True)
        for name in names
        if name in columns
    ]
    suspects += [
        Suspect(name, held, _is_number(held, named.get(name)), False)
        for name, held in values.items()
    ]
    missing = [name for name in unread if name not in values]
    why = "no test example has it, or some have several values"
    return suspects, [f"suspect feature `{name}`: {why}" for name in missing]


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


def _flat(values: Array) -> Array:
    """Gives a column of single values, [n] or [n, 1], as [n]."""
    return values.reshape(-1) if values.size == len(values) else values


def _is_number(values: Array, feature: Feature | None) -> bool:
    """Tells whether values have an order: neither text nor the schema's categories have one."""
    if not np.issubdtype(values.dtype, np.number):
        return False
    return feature is None or not (
        feature.HasField("bool_domain") or feature.int_domain.is_categorical
    )
