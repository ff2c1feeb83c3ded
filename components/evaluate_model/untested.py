"""Classes, slices and groups that the test split holds no example of: nothing is known of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perennial.data.examples import read_batches, split_files
from perennial.evaluation.groups import group_name, slicings
from perennial.evaluation.prediction_table import SLICE, Array, first_texts
from perennial.tasks import Task
from schemas.project import EvaluateSettings

if TYPE_CHECKING:
    import pandas as pd
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

# More are counted, not listed.
_LISTED = 10


def untested_classes(task: Task, labels: Array, predictions: Array) -> list[str]:
    """Says which classes that a model can give no test example has.

    Args:
        task: Of classes.
        labels: int [n].
        predictions: The candidate's class probabilities, float [n, classes].
    """
    classes = predictions.shape[1]
    tested = np.bincount(labels, minlength=classes)[:classes]
    predicted = np.bincount(predictions.argmax(axis=1), minlength=classes)
    missing = [(number, int(predicted[number])) for number in np.flatnonzero(tested == 0)]
    if not missing:
        return []
    names = [
        f"{number} (predicted {count} time{'s' * (count != 1)})" if count else str(number)
        for number, count in sorted(missing, key=lambda item: (-item[1], item[0]))
    ]
    return [f"task `{task.name}`: no test example is of class {_list_first(names)}"]


def untested_slices(
    named: pd.DataFrame, window: Path, schema: Schema, settings: EvaluateSettings
) -> list[str]:
    """Says which slices and groups have examples in the train and eval splits only.

    Args:
        named: The test split's columns `slice:<feature>`.
        window: Folder with the examples of each span.
        schema: Says how values are read.
        settings: Which features slice, cross or group the examples.
    """
    groups = [(name,) for name in settings.fairness.features]
    asked = list(dict.fromkeys([*slicings(settings), *groups]))
    features = sorted({name for names in asked for name in names})
    if not features:
        return []
    learned: dict[tuple[str, ...], Counter[tuple[str, ...]]] = {names: Counter() for names in asked}
    for columns in _read_columns(window, schema, features):
        for names, counter in learned.items():
            counter.update(zip(*(columns[name] for name in names), strict=True))
    notes = []
    for names, counter in learned.items():
        tested = set(zip(*(named[f"{SLICE}{name}"] for name in names), strict=True))
        missing = [
            (values, count) for values, count in counter.most_common() if values not in tested
        ]
        if missing:
            listed = [
                f"{group_name(names, values)} ({count} to train on)" for values, count in missing
            ]
            notes.append(f"no test example is of {_list_first(listed)}")
    return notes


def _read_columns(
    window: Path, schema: Schema, features: Sequence[str]
) -> Iterator[Mapping[str, list[str]]]:
    """Reads features of the train and eval splits as text, batch by batch."""
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

    types = Schema()
    for feature in schema.feature:
        if feature.name in features:
            types.feature.add(name=feature.name, type=feature.type)
    for batch in read_batches(split_files(window, "train", "eval"), schema=types):
        named = dict(zip(batch.schema.names, batch.columns, strict=True))
        yield {name: first_texts(named[name].to_pylist()) for name in features}


def _list_first(items: Sequence[str]) -> str:
    more = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {more} more" if more > 0 else "")
