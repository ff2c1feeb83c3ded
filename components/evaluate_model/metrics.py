"""Metrics of every model on every slice of the table (TensorFlow Model Analysis), and paired intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluate_model.predictions import LABEL
from perennial.tfx_compat import import_tfma
from schemas.records import ConfusionMatrix, Difference, SliceMetrics

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

OVERALL = "overall"
RESAMPLES = 2000
_SEED = 20170
# Below this probability a log loss says how the model clips, not how wrong it is.
_LEAST_PROBABILITY = 1e-7
_METRICS = {"accuracy": "SparseCategoricalAccuracy", "log_loss": "SparseCategoricalCrossentropy"}


def analyse(table: pd.DataFrame, models: Sequence[str], slices: Sequence[str], output: Path) -> list[SliceMetrics]:
    """Runs TFMA over the table; gives accuracy and log loss of every model, overall and on every slice.

    `output` becomes a folder that TFMA's own viewers read.
    """
    from google.protobuf import json_format

    tfma = import_tfma()
    columns = [f"slice:{name}" for name in slices]
    settings = {
        "model_specs": [{"name": m, "prediction_key": m, "label_key": LABEL} for m in models],
        "slicing_specs": [{}, *({"feature_keys": [column]} for column in columns)],
        "metrics_specs": [{"metrics": [{"class_name": name} for name in ("ExampleCount", *_METRICS.values())]}],
    }
    config = json_format.ParseDict(settings, tfma.EvalConfig())
    scores = {model: list(_scores(table, model)) for model in models}
    tfma.analyze_raw_data(table[[LABEL, *columns]].assign(**scores), config, output_path=str(output))
    rows = [_read(tfma, output, model, alone=len(models) == 1) for model in models]
    return [row for found in rows for row in sorted(found, key=lambda row: (row.slice != OVERALL, row.slice))]


def compare(
    table: pd.DataFrame, metric: str, slices: Sequence[str], confidence: float, candidate: str, champion: str
) -> list[Difference]:
    """Candidate minus champion on the same examples, overall and on every slice, with paired bootstrap intervals.

    Positive is better for either metric. Source of the interval: Efron and Tibshirani 1993, "An Introduction to the
    Bootstrap", chapter 13 (percentile interval), on per-example differences.
    """
    import numpy as np

    labels = table[LABEL].to_numpy(dtype=np.int64)
    gains = example_gains(_scores(table, candidate), _scores(table, champion), labels, metric)
    groups = {OVERALL: np.ones(len(table), dtype=bool)}
    for name in slices:
        column = table[f"slice:{name}"]
        groups |= {f"{name}={value}": (column == value).to_numpy() for value in sorted(column.unique())}
    return [interval(gains[rows], metric, where, confidence) for where, rows in groups.items()]


def example_gains(
    candidate: np.ndarray[Any, Any], champion: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], metric: str
) -> np.ndarray[Any, Any]:
    """What the candidate gains over the champion on each example, float64 [n]; positive is better.

    Accuracy: 1 where only the candidate is right, -1 where only the champion is. Log loss: the champion's minus the
    candidate's, in nats.
    """
    import numpy as np

    rows = np.arange(len(labels))
    if metric == "accuracy":
        hits = (candidate.argmax(axis=1) == labels).astype(float)
        return np.asarray(hits - (champion.argmax(axis=1) == labels))
    losses = [-np.log(np.clip(scores[rows, labels], _LEAST_PROBABILITY, 1.0)) for scores in (candidate, champion)]
    return np.asarray(losses[1] - losses[0])


def interval(gains: np.ndarray[Any, Any], metric: str, where: str, confidence: float) -> Difference:
    """Mean gain with its percentile bootstrap interval; the same examples always give the same interval."""
    import numpy as np

    random = np.random.default_rng(_SEED)
    means = np.array([gains[random.integers(0, len(gains), len(gains))].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(
        metric=metric,
        slice=where,
        examples=len(gains),
        value=float(gains.mean()),
        low=float(low),
        high=float(high),
        confidence=confidence,
    )


def confusion(table: pd.DataFrame, model: str, named: str) -> ConfusionMatrix:
    """Counts of true against predicted classes; the classes are those that the model can give or a label has."""
    import numpy as np

    labels, scores = table[LABEL].to_numpy(dtype=np.int64), _scores(table, model)
    classes = scores.shape[1]
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (labels, scores.argmax(axis=1)), 1)
    return ConfusionMatrix(model=named, labels=[str(i) for i in range(classes)], counts=counts.tolist())


def _scores(table: pd.DataFrame, model: str) -> np.ndarray[Any, Any]:
    """A model's class probabilities, float [n, classes]; 0 for a class that labels have and the model does not know."""
    import numpy as np

    scores = np.stack(table[model].tolist())
    unknown = int(table[LABEL].max()) + 1 - scores.shape[1]
    return np.pad(scores, ((0, 0), (0, max(unknown, 0))))


def _read(tfma: Any, output: Path, model: str, alone: bool) -> list[SliceMetrics]:
    # TFMA drops the name of a model that is the only one.
    result = tfma.load_eval_result(str(output), model_name=None if alone else model)
    found = []
    for key, values in result.slicing_metrics:
        metrics = {name: value.get("doubleValue", float("nan")) for name, value in values[""][""].items()}
        where = ", ".join(f"{name.removeprefix('slice:')}={value}" for name, value in key) or OVERALL
        found.append(
            SliceMetrics(
                model=model,
                slice=where,
                examples=int(metrics["example_count"]),
                accuracy=metrics["sparse_categorical_accuracy"],
                log_loss=metrics["sparse_categorical_crossentropy"],
            )
        )
    return found
