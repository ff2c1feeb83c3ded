"""The groups of test examples that are judged apart: slices by a feature, crosses of features, and views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perennial.evaluation.prediction_table import SLICE, VIEW, Array
from schemas.project import EvaluateSettings

if TYPE_CHECKING:
    import pandas as pd

OVERALL = "overall"
SERVING = "serving distribution"


@dataclass(frozen=True)
class Group:
    """Examples that are judged apart: what they are called, and their row numbers [m]."""

    name: str
    rows: Array
    view: bool = False


def sliced_features(settings: EvaluateSettings) -> list[str]:
    """The features that the table has a column of: those of slices, crosses and fairness, each once."""
    crossed = [name for cross in settings.crosses for name in cross]
    return list(dict.fromkeys([*settings.slices, *crossed, *settings.fairness.features]))


def slicings(settings: EvaluateSettings) -> list[tuple[str, ...]]:
    """The features of each slicing, each once: one of a slice, several of a cross."""
    found: dict[frozenset[str], tuple[str, ...]] = {}
    for names in (*((name,) for name in settings.slices), *(tuple(cross) for cross in settings.crosses)):
        found.setdefault(frozenset(names), names)
    return list(found.values())


def group_name(names: Sequence[str], values: Sequence[str]) -> str:
    """What a slice is called: `a=1`, or `a=1, b=2` of a cross."""
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def view_columns(table: pd.DataFrame) -> list[str]:
    """The table's columns that say which examples are in a view."""
    return [name for name in table.columns if name.startswith(VIEW)]


def make_groups(table: pd.DataFrame, settings: EvaluateSettings) -> list[Group]:
    """Every slice, cross and view of a table; one without examples is none."""
    found = []
    for names in slicings(settings):
        rows = table.groupby([f"{SLICE}{name}" for name in names], sort=True).indices
        for values, where in rows.items():
            parts = values if isinstance(values, tuple) else (values,)
            found.append(Group(group_name(names, parts), np.asarray(where)))
    views = {name: np.flatnonzero(table[name].to_numpy()) for name in view_columns(table)}
    return found + [Group(name.removeprefix(VIEW), rows, view=True) for name, rows in views.items() if len(rows)]
