"""Examples of the prediction log that have no label: what each key was asked about last."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.errors import DataError
from perennial.export.served_model import Columns
from perennial.production.log_files import LogFiles
from schemas.prediction_log import CHANCE, FEATURE, INSTANCE, KEY, REQUEST, TIME
from schemas.records import ModelContract, ServedFeature

if TYPE_CHECKING:
    import pyarrow as pa

    from perennial.project import Project

Array = np.ndarray[Any, np.dtype[Any]]
TEXT = "object"
_WANTED = (REQUEST, INSTANCE, KEY, TIME, CHANCE)


@dataclass(frozen=True)
class LoggedExamples:
    """The newest request about each key.

    Attributes:
        table: A row for each key: `key`, `time`, `chance` and the columns `feature:<name>`.
    """

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def keys(self) -> list[str]:
        """The keys, as the log has them."""
        keys: list[str] = self.table[KEY].to_pylist()
        return keys

    @property
    def chances(self) -> Array:
        """With which probability each was logged, float64 [n]."""
        return np.asarray(self.table[CHANCE].to_numpy(), dtype=np.float64)

    def take(self, rows: Array) -> LoggedExamples:
        """Gives some of them."""
        return LoggedExamples(self.table.take(rows))

    def columns_for(self, contract: ModelContract) -> Iterator[tuple[Array, Columns]]:
        """Gives the features that a model takes, for the rows whose values have one shape each.

        Yields:
            Row numbers [m], and by feature an array [m, ...] of the dtype of the contract.

        Raises:
            DataError: The log does not hold a feature as the model takes it.
        """
        values = {feature.name: self._values(feature) for feature in contract.features}
        shapes: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for row in range(len(self)):
            shape = tuple(values[feature.name][row].shape for feature in contract.features)
            shapes.setdefault(shape, []).append(row)
        for rows in shapes.values():
            yield (
                np.array(rows),
                {name: np.stack([of[row] for row in rows]) for name, of in values.items()},
            )

    def _values(self, feature: ServedFeature) -> list[Array]:
        name = f"{FEATURE}{feature.name}"
        column = self.table[name].to_pylist() if name in self.table.column_names else []
        try:
            values = [_value(feature, value) for value in column]
        except (TypeError, ValueError):
            values = []
        if not values:
            raise DataError(
                f"the prediction log: {feature.name}",
                f"must hold this feature as the model takes it, {feature.dtype} {feature.shape}",
                "none, or other values",
                "Leave it out of serving.log.dropped and serving.log.hashed, or choose fewer days.",
            )
        return values


def read_unlabelled(project: Project, since: datetime, known: Collection[str]) -> LoggedExamples:
    """Reads the newest request since a moment about each key that is not among the known ones.

    Requests without a key are left out: no label could be joined to them.

    Raises:
        DataError: A file of the log cannot be read.
        StoreError: The root cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    def wanted(name: str) -> bool:
        return name in _WANTED or name.startswith(FEATURE)

    moment = pa.scalar(since.astimezone(UTC), pa.timestamp("us", "UTC"))
    tables = [
        table.filter(pc.and_(pc.is_valid(table[KEY]), pc.greater_equal(table[TIME], moment)))
        for table in LogFiles.of_project(project).read(since.astimezone(UTC).date(), wanted)
    ]
    if not tables:
        return LoggedExamples(
            pa.table({KEY: pa.array([], pa.string()), CHANCE: pa.array([], pa.float64())})
        )
    log = pa.concat_tables(tables, promote_options="permissive")
    order = [(TIME, "descending"), (REQUEST, "ascending"), (INSTANCE, "ascending")]
    log = log.take(pc.sort_indices(log, sort_keys=order))
    seen, rows = set(known), []
    for row, key in enumerate(log[KEY].to_pylist()):
        if key not in seen:
            seen.add(key)
            rows.append(row)
    newest = log.take(pa.array(rows, pa.int64()))
    return LoggedExamples(newest.drop_columns([REQUEST, INSTANCE]).combine_chunks())


def _value(feature: ServedFeature, value: Any) -> Array:
    """Makes one instance's value as the model takes it, of what the log has."""
    if value is None:
        value = feature.default
    items = value if isinstance(value, list) else [value]
    if feature.dtype == TEXT:
        flat = np.array([str(item).encode() for item in items], dtype=object)
    else:
        flat = np.array(items, dtype=feature.dtype)
    return flat.reshape([-1 if size is None else size for size in feature.shape])
