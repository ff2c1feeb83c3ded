"""The tables that all judgement is a function of: one for each task, with the same rows, one for each example.

The columns are `span`, `key`, `label` (int of classes, float of values), one `slice:<feature>` for each slice (text),
and one for each model: its class probabilities, float32 [classes], or its value, float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.errors import ProjectError
from perennial.examples import as_text, decode_records, read_records, split_files
from perennial.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

SPAN = "span"
LABEL = "label"
KEY = "key"
SLICE = "slice:"

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Examples:
    """Examples as they lie on disk, and what names and slices them: the columns `span`, `key` and `slice:<feature>`."""

    records: list[bytes]
    named: pd.DataFrame


@dataclass(frozen=True)
class TaskTable:
    """The table of one task, and the models that are in it."""

    task: Task
    frame: pd.DataFrame
    models: list[str]


def read_examples(window: Path, key: str, slices: Sequence[str]) -> Examples:
    """The window's test split, span by span.

    Raises:
        ProjectError: It is empty.
    """
    import pandas as pd

    spans = [_read_span(folder, key, slices) for folder in sorted(window.iterdir()) if folder.is_dir()]
    records = [record for span in spans for record in span.records]
    if not records:
        where, remedy = "project.yaml: data.splits.test", "Land more data, or raise it."
        raise ProjectError(where, "must leave some examples of the window", "none", remedy)
    return Examples(records, pd.concat([span.named for span in spans], ignore_index=True))


def make_table(task: Task, examples: Examples, labels: Array, predictions: Mapping[str, Array]) -> TaskTable:
    """The table of one task: its labels [n], and each model's predictions, [n, classes] or [n]."""
    columns = {name: list(found) if found.ndim > 1 else found for name, found in predictions.items()}
    return TaskTable(task, examples.named.assign(**{LABEL: labels, **columns}), list(predictions))


def check_labels(task: Task, labels: Array, examples: Examples) -> None:
    """Checks that a task's labels are what its kind can be measured by.

    Raises:
        ProjectError: A label is no class number, or not finite; the message names an example.
    """
    kinds = {
        "binary": ("must be 0 or 1", (labels == 0) | (labels == 1)),
        "multi_class": ("must be class numbers from 0", labels >= 0),
        "regression": ("must be finite", np.isfinite(labels)),
    }
    expected, good = kinds[task.kind]
    if not good.all():
        row = int(np.argmin(good))
        key, count = examples.named[KEY][row], int((~good).sum())
        received = f"{labels[row]} for the example {key}; {count} of {len(labels)} test examples have no such label"
        remedy = "Set such rows aside with an expectation, or correct the label in preprocessing_fn."
        raise ProjectError(f"labels of task `{task.name}`", expected, received, remedy)


def class_scores(table: pd.DataFrame, model: str) -> Array:
    """A model's class probabilities, float64 [n, classes]."""
    return np.stack(table[model].tolist()).astype(np.float64)


def _read_span(folder: Path, key: str, slices: Sequence[str]) -> Examples:
    import pandas as pd

    records = list(read_records(split_files(folder, "test")))
    if not records:
        return Examples([], pd.DataFrame())
    batch = decode_records(records)

    def column(name: str) -> list[str]:
        if name not in batch.schema.names:  # an optional feature that no example of this span has
            return ["None"] * len(records)
        values = batch.column(batch.schema.names.index(name)).to_pylist()
        return [str(as_text(value[0]) if value else None) for value in values]

    columns = {SPAN: [folder.name] * len(records), KEY: column(key)}
    return Examples(records, pd.DataFrame(columns | {f"{SLICE}{name}": column(name) for name in slices}))
