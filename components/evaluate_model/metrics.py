"""Metrics of every model on every slice of a task's table (TensorFlow Model Analysis)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluate_model.tables import LABEL, SLICE, Array, class_scores
from perennial.tasks import METRICS, Task
from perennial.tfx_compat import import_tfma
from schemas.project import Metric, TaskKind
from schemas.records import SliceMetrics

if TYPE_CHECKING:
    import pandas as pd

OVERALL = "overall"
_COUNT = ("ExampleCount", "example_count")
# What TFMA calls each metric: its class, and the name that its results have.
_TFMA: dict[TaskKind, dict[Metric, tuple[str, str]]] = {
    "binary": {
        "accuracy": ("BinaryAccuracy", "binary_accuracy"),
        "log_loss": ("BinaryCrossentropy", "binary_crossentropy"),
        "auc": ("AUC", "auc"),
    },
    "multi_class": {
        "accuracy": ("SparseCategoricalAccuracy", "sparse_categorical_accuracy"),
        "log_loss": ("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy"),
    },
    "regression": {
        "mean_absolute_error": ("MeanAbsoluteError", "mean_absolute_error"),
        "mean_squared_error": ("MeanSquaredError", "mean_squared_error"),
    },
}


def analyse(
    table: pd.DataFrame, task: Task, models: Sequence[str], slices: Sequence[str], output: Path
) -> list[SliceMetrics]:
    """Runs TFMA over a task's table; gives its metrics of every model, overall and on every slice.

    What cannot be measured, such as the AUC of a slice with one class, is NaN. TFMA's AUC takes probabilities within
    1/10,000 for ties, so it may differ in the last digits from the difference that the gate reads. `output` becomes a
    folder that TFMA's own viewers read.
    """
    from google.protobuf import json_format

    tfma = import_tfma()
    columns = [f"{SLICE}{name}" for name in slices]
    names = [name for name, _ in (_COUNT, *_TFMA[task.kind].values())]
    settings = {
        "model_specs": [{"name": m, "prediction_key": m, "label_key": LABEL} for m in models],
        "slicing_specs": [{}, *({"feature_keys": [column]} for column in columns)],
        "metrics_specs": [{"metrics": [{"class_name": name} for name in names]}],
    }
    config = json_format.ParseDict(settings, tfma.EvalConfig())
    data = table[columns].assign(**_numbers(table, task, models))
    tfma.analyze_raw_data(data, config, output_path=str(output))
    rows = [_read(tfma, output, task, model, alone=len(models) == 1) for model in models]
    return [row for found in rows for row in sorted(found, key=lambda row: (row.slice != OVERALL, row.slice))]


def _numbers(table: pd.DataFrame, task: Task, models: Sequence[str]) -> dict[str, Any]:
    """The label and the models' predictions as TFMA's metrics of that kind of task read them."""
    if task.kind == "regression":
        return {LABEL: table[LABEL]} | {model: table[model].astype(float) for model in models}
    scores = {model: class_scores(table, model) for model in models}
    if task.kind == "binary":
        return {LABEL: table[LABEL]} | {model: found[:, 1] for model, found in scores.items()}
    width = max(found.shape[1] for found in scores.values())
    # All labels that no model knows share one class more, to which every model gives 0.
    labels = table[LABEL].clip(upper=width)
    padded = {model: _padded(found, max(width, int(labels.max()) + 1)) for model, found in scores.items()}
    return {LABEL: labels} | {model: list(found) for model, found in padded.items()}


def _padded(scores: Array, width: int) -> Array:
    return np.pad(scores, ((0, 0), (0, width - scores.shape[1])))


def _read(tfma: Any, output: Path, task: Task, model: str, alone: bool) -> list[SliceMetrics]:
    # TFMA drops the name of a model that is the only one.
    result = tfma.load_eval_result(str(output), model_name=None if alone else model)
    found = []
    for key, values in result.slicing_metrics:
        metrics = {name: value.get("doubleValue", float("nan")) for name, value in values[""][""].items()}
        where = ", ".join(f"{name.removeprefix(SLICE)}={value}" for name, value in key) or OVERALL
        found.append(
            SliceMetrics(
                model=model,
                task=task.name,
                slice=where,
                examples=int(metrics[_COUNT[1]]),
                values={name: metrics[_TFMA[task.kind][name][1]] for name in METRICS[task.kind]},
            )
        )
    return found
