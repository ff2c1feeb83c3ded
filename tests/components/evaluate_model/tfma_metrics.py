"""The metrics of a small table by TensorFlow Model Analysis: an oracle for Perennial's own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from schemas.project import Metric, TaskKind

CLASSES: dict[TaskKind, dict[Metric, str]] = {
    "binary": {"accuracy": "BinaryAccuracy", "log_loss": "BinaryCrossentropy", "auc": "AUC"},
    "multi_class": {
        "accuracy": "SparseCategoricalAccuracy",
        "log_loss": "SparseCategoricalCrossentropy",
    },
    "regression": {
        "mean_absolute_error": "MeanAbsoluteError",
        "mean_squared_error": "MeanSquaredError",
    },
}


def measure_by_tfma(
    table: pd.DataFrame, feature: str, folder: Path
) -> dict[tuple[str, str], dict[str, float]]:
    """(Kind of task, slice) -> metrics, and `example_count`, overall and by one feature.

    Args:
        table: `label:<kind>` and `prediction:<kind>` of each kind of task, and `slice:<feature>`.
        feature: What is sliced by.
        folder: Becomes TFMA's result.
    """
    import tensorflow_model_analysis as tfma
    from google.protobuf import json_format
    from tensorflow_model_analysis.proto import (
        config_pb2,
    )  # TFMA 0.52 does not export it at its top

    settings = {
        "model_specs": [
            {"name": kind, "prediction_key": f"prediction:{kind}", "label_key": f"label:{kind}"}
            for kind in CLASSES
        ],
        "slicing_specs": [{}, {"feature_keys": [f"slice:{feature}"]}],
        "metrics_specs": [
            {
                "model_names": [kind],
                "metrics": [
                    {"class_name": name, "config": f'"name": "{metric}"'}
                    for metric, name in {"example_count": "ExampleCount", **classes}.items()
                ],
            }
            for kind, classes in CLASSES.items()
        ],
    }
    config = json_format.ParseDict(settings, config_pb2.EvalConfig())
    tfma.analyze_raw_data(table, config, output_path=str(folder))
    found = {}
    for kind in CLASSES:
        for key, values in tfma.load_eval_result(str(folder), model_name=kind).slicing_metrics:
            where = (
                ", ".join(f"{name.removeprefix('slice:')}={value}" for name, value in key)
                or "overall"
            )
            found[kind, where] = {
                metric: value["doubleValue"] for metric, value in values[""][""].items()
            }
    return found
