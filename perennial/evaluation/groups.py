"""The groups of test examples that are measured apart: slices, crosses of features, and views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perennial.evaluation.prediction_table import SLICE, VIEW, Array
from schemas.project import EvaluateSettings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Group:
    """Examples that are measured apart: their name, and their row numbers [m]."""

    name: str
    rows: Array
    view: bool = False


def sliced_features(settings: EvaluateSettings) -> list[str]:
    """Lists the features that need a column of the table: of slices, crosses and fairness."""
    crossed = [name for cross in settings.crosses for name in cross]
    return list(dict.fromkeys([*settings.slices, *crossed, *settings.fairness.features]))


def slicings(settings: EvaluateSettings) -> list[tuple[str, ...]]:
    """Gives the features of each slicing once: one of a slice, several of a cross."""
    slicings: dict[frozenset[str], tuple[str, ...]] = {}
    for names in (
        *((name,) for name in settings.slices),
        *(tuple(cross) for cross in settings.crosses),
    ):
        slicings.setdefault(frozenset(names), names)
    return list(slicings.values())


def group_name(names: Sequence[str], values: Sequence[str]) -> str:
    """Gives a slice's name: `a=1`, or `a=1, b=2` of a cross."""
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def view_columns(table: pd.DataFrame) -> list[str]:
    """Gives the table's columns that say which examples are in a view."""
    return [name for name in table.columns if name.startswith(VIEW)]


def make_groups(table: pd.DataFrame, settings: EvaluateSettings) -> list[Group]:
    """Makes every slice, cross and view of a table that has examples."""
    groups = []
    for names in slicings(settings):
        rows = table.groupby([f"{SLICE}{name}" for name in names], sort=True).indices
        for values, where in rows.items():
            parts = values if isinstance(values, tuple) else (values,)
            groups.append(Group(group_name(names, parts), np.asarray(where)))
    views = {name: np.flatnonzero(table[name].to_numpy()) for name in view_columns(table)}
    return groups + [
        Group(name.removeprefix(VIEW), rows, view=True) for name, rows in views.items() if len(rows)
    ]
