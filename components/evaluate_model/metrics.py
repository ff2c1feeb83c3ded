"""Metrics of every model on every slice, cross and view of a task's table (TensorFlow Model Analysis)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluate_model.groups import OVERALL, SERVING, group_name, view_columns
from components.evaluate_model.tables import LABEL, SLICE, VIEW, WEIGHT, Array, class_scores
from perennial.tasks import METRICS, Task
from perennial.tfx_compat import import_tfma
from schemas.project import Metric, TaskKind
from schemas.records import SliceMetrics

if TYPE_CHECKING:
    import pandas as pd

_COUNT = ("ExampleCount", "example_count")
# What the name of a model ends with where it is measured with weights.
_WEIGHTED = " re-weighted"
_IN_VIEW = "yes"
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
    table: pd.DataFrame, task: Task, models: Sequence[str], slicings: Sequence[tuple[str, ...]], output: Path
) -> list[SliceMetrics]:
    """Runs TFMA over a task's table; gives its metrics of every model: overall, on slices and crosses, and on views.

    Where the table has weights, the models are measured a second time with them: the serving distribution. What cannot
    be measured, such as the AUC of a slice with one class, is NaN. TFMA's AUC takes probabilities within 1/10,000 for
    ties, so it may differ in the last digits from the difference that the gate reads. `output` becomes a folder that
    TFMA's own viewers read.

    Args:
        table: The task's table.
        task: What is predicted.
        models: Columns of the models.
        slicings: Features of each slicing: one of a slice, several of a cross.
        output: Folder that is written.
    """
    from google.protobuf import json_format

    tfma = import_tfma()
    columns = [*dict.fromkeys(f"{SLICE}{name}" for names in slicings for name in names)]
    data = table[columns].assign(**_views(table), **_numbers(table, task, models))
    if WEIGHT in table:
        data = data.assign(**{WEIGHT: table[WEIGHT]})
    config = json_format.ParseDict(_settings(table, task, models, slicings), tfma.EvalConfig())
    tfma.analyze_raw_data(data, config, output_path=str(output))
    # TFMA drops the name of a model that is the only one.
    alone = len(config.model_specs) == 1
    found = []
    for model in models:
        rows = _read(tfma.load_eval_result(str(output), model_name=None if alone else model), task, model, slicings)
        found += sorted(rows, key=lambda row: (row.slice != OVERALL, row.view, row.slice))
        if WEIGHT in table:
            result = tfma.load_eval_result(str(output), model_name=model + _WEIGHTED)
            found.append(_read_served(result, task, model, len(table)))
    return found


def _settings(
    table: pd.DataFrame, task: Task, models: Sequence[str], slicings: Sequence[tuple[str, ...]]
) -> dict[str, Any]:
    """TFMA's `EvalConfig` as JSON."""
    metrics = [{"class_name": name} for name, _ in (_COUNT, *_TFMA[task.kind].values())]
    # TFMA does not tell metrics with weights from those without, so each model is there twice. Where any has
    # weights, all must have them: whether they count is then a matter of the metrics.
    weight = {"example_weight_key": WEIGHT} if WEIGHT in table else {}
    named = {"": list(models)} | ({_WEIGHTED: [model + _WEIGHTED for model in models]} if weight else {})
    return {
        "model_specs": [
            {"name": model + suffix, "prediction_key": model, "label_key": LABEL} | weight
            for suffix in named
            for model in models
        ],
        "slicing_specs": [
            {},
            *({"feature_keys": [f"{SLICE}{name}" for name in slicing]} for slicing in slicings),
            *({"feature_values": {column: _IN_VIEW}} for column in view_columns(table)),
        ],
        "metrics_specs": [
            {
                "metrics": metrics,
                "model_names": names,
                "example_weights": {"weighted" if suffix else "unweighted": True},
            }
            for suffix, names in named.items()
        ],
    }


def _views(table: pd.DataFrame) -> dict[str, Any]:
    """The views as text, which TFMA slices by."""
    return {name: np.where(table[name], _IN_VIEW, "no") for name in view_columns(table)}


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


def _read(result: Any, task: Task, model: str, slicings: Sequence[tuple[str, ...]]) -> list[SliceMetrics]:
    # TFMA orders the features of a cross in its own way.
    order = {frozenset(names): names for names in slicings}
    found = []
    for key, values in result.slicing_metrics:
        where = {name.removeprefix(SLICE): str(value) for name, value in key}
        view = next((name.removeprefix(VIEW) for name in where if name.startswith(VIEW)), None)
        names = order.get(frozenset(where), ())
        named = view or group_name(names, [where[name] for name in names]) or OVERALL
        found.append(_row(task, model, named, values, view is not None))
    return found


def _read_served(result: Any, task: Task, model: str, examples: int) -> SliceMetrics:
    """The weighted metrics on all examples; TFMA's own count of them is the sum of the weights."""
    values = next(values for key, values in result.slicing_metrics if not key)
    return _row(task, model, SERVING, values, view=True, examples=examples)


def _row(task: Task, model: str, where: str, values: Any, view: bool, examples: int | None = None) -> SliceMetrics:
    metrics = {name: value.get("doubleValue", math.nan) for name, value in values[""][""].items()}
    return SliceMetrics(
        model=model,
        task=task.name,
        slice=where,
        examples=int(metrics[_COUNT[1]]) if examples is None else examples,
        values={name: metrics[_TFMA[task.kind][name][1]] for name in METRICS[task.kind]},
        view=view,
    )
