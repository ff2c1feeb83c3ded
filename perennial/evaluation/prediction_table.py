"""The tables of predictions: one for each task, with the same rows, one for each example.

The columns are `span`, `key`, `label` (int of classes, float of values), one `slice:<feature>` for
each feature that slices, crosses or groups the examples (text), one `view:<name>` for each view
(bool), `group` where examples belong together (text), `example_weight` where a feature says how
much an example counts (float64), `weight` where the first task is re-weighted to serving (float64),
and one for each model: its class probabilities, float32 [classes], or its
value, float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.data.examples import as_text, decode_records, read_records, split_files
from perennial.errors import ProjectError
from perennial.tasks import Task, weight_features
from schemas.records import Evaluation

if TYPE_CHECKING:
    import pandas as pd

SPAN = "span"
LABEL = "label"
KEY = "key"
SLICE = "slice:"
VIEW = "view:"
GROUP = "group"
WEIGHT = "weight"
EXAMPLE_WEIGHT = "example_weight"
# The file of the first task's table.
TABLE_FILE = "predictions.parquet"
_MISSING = "None"

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Examples:
    """Examples as they lie on disk, and the columns that name and slice them."""

    records: list[bytes]
    named: pd.DataFrame


@dataclass(frozen=True)
class TaskTable:
    """The table of one task, and the models that are in it."""

    task: Task
    frame: pd.DataFrame
    models: list[str]


def read_examples(
    window: Path, key: str, features: Sequence[str], group: str | None = None
) -> Examples:
    """Reads the window's test split, span by span.

    Args:
        window: Folder with a folder of examples for each span.
        key: Feature that names an example.
        features: Features that become columns `slice:<feature>`.
        group: Feature that becomes the column `group`; none: there is no such column.

    Raises:
        ProjectError: It is empty.
    """
    import pandas as pd

    columns = (
        {KEY: key}
        | ({GROUP: group} if group else {})
        | {f"{SLICE}{name}": name for name in features}
    )
    spans = [_read_span(folder, columns) for folder in sorted(window.iterdir()) if folder.is_dir()]
    records = [record for span in spans for record in span.records]
    if not records:
        where, remedy = "project.yaml: data.splits.test", "Land more data, or raise it."
        raise ProjectError(where, "must leave some examples of the window", "none", remedy)
    named = pd.concat([span.named for span in spans], ignore_index=True)
    return Examples(records, named.assign(**{GROUP: _each_alone(named)}) if group else named)


def make_table(
    task: Task, examples: Examples, labels: Array, predictions: Mapping[str, Array]
) -> TaskTable:
    """Makes the table of one task of labels [n] and predictions, [n, classes] or [n].

    Raises:
        ProjectError: The task weights examples, and one has no weight, or all have the weight 0.
    """
    columns = {
        name: list(column) if column.ndim > 1 else column for name, column in predictions.items()
    }
    weights = read_weights([task], examples.records).get(task)
    if weights is not None:
        if not weights.sum() > 0:
            raise ProjectError(
                f"project.yaml: model.tasks[].example_weight: {task.example_weight}",
                "must be above 0 in some example of the test split",
                "0 in all of them",
                "Land other weights.",
            )
        columns[EXAMPLE_WEIGHT] = weights
    return TaskTable(task, examples.named.assign(**{LABEL: labels, **columns}), list(predictions))


def read_weights(tasks: Sequence[Task], records: list[bytes]) -> dict[Task, Array]:
    """Reads how much raw examples count in each task that weights them, float64 [n].

    Raises:
        ProjectError: An example has no such value.
    """
    features = weight_features(tasks)
    values = read_values(records, features) if features else {}
    for name, rows in values.items():
        lacking = sum(not row for row in rows)
        if lacking:
            raise ProjectError(
                f"project.yaml: model.tasks[].example_weight: {name}",
                "must have a value in each example of the window",
                f"none in {lacking} of {len(rows)}",
                "Let the window begin where the feature does, or land the older spans again.",
            )
    return {
        task: np.array([float(row[0]) for row in values[task.example_weight] if row])
        for task in tasks
        if task.example_weight is not None
    }


def weights_in(table: pd.DataFrame) -> Array | None:
    """Gives how much each example of a table counts, float64 [n]; None: all the same."""
    return table[EXAMPLE_WEIGHT].to_numpy() if EXAMPLE_WEIGHT in table else None


def table_file(task: str, first: str) -> str:
    """Gives the name of the file that holds a task's table; the first task's is `TABLE_FILE`."""
    return TABLE_FILE if task == first else f"predictions.{task}.parquet"


def read_table(folder: Path, evaluation: Evaluation, task: str) -> pd.DataFrame:
    """Reads the table of a task that `evaluate_model` left in a folder."""
    import pandas as pd

    return pd.read_parquet(folder / table_file(task, evaluation.tasks[0].name))


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
        others = f"{count} of {len(labels)} test examples have no such label"
        received = f"{labels[row]} for the example {key}; {others}"
        remedy = (
            "Set such rows aside with an expectation, or correct the label in preprocessing_fn."
        )
        raise ProjectError(f"labels of task `{task.name}`", expected, received, remedy)


def class_scores(table: pd.DataFrame, model: str) -> Array:
    """Gives a model's class probabilities, float64 [n, classes]."""
    return np.stack(table[model].tolist()).astype(np.float64)


def predictions_of(table: pd.DataFrame, task: Task, model: str) -> Array:
    """Gives a model's class probabilities, float64 [n, classes], or values, float64 [n]."""
    return (
        class_scores(table, model)
        if task.is_classes
        else np.asarray(table[model], dtype=np.float64)
    )


def _each_alone(named: pd.DataFrame) -> pd.Series:
    """Gives the column `group`; an example of unknown group is a group of its own."""
    return named[GROUP].where(named[GROUP] != _MISSING, "example " + named[KEY])


def _read_span(folder: Path, columns: Mapping[str, str]) -> Examples:
    """Reads a span's test examples; `columns` give the feature of each column."""
    import pandas as pd

    records = list(read_records(split_files(folder, "test")))
    if not records:
        return Examples([], pd.DataFrame())
    values = read_values(records, set(columns.values()))
    texts = {name: first_texts(values[of]) for name, of in columns.items()}
    return Examples(records, pd.DataFrame({SPAN: [folder.name] * len(records)} | texts))


def first_texts(rows: Iterable[list[Any] | None]) -> list[str]:
    """Gives the first value of each example as text, as the columns that slice hold it."""
    return [str(as_text(row[0]) if row else None) for row in rows]


def read_values(records: list[bytes], features: Iterable[str]) -> dict[str, list[list[Any] | None]]:
    """Gives the raw values of some features, a list for each example; None where it has none."""
    batch = decode_records(records)
    present = {name: number for number, name in enumerate(batch.schema.names)}
    # An optional feature may be in no example of a span.
    return {
        name: batch.column(present[name]).to_pylist() if name in present else [None] * len(records)
        for name in features
    }
