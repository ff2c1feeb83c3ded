"""All measurements of an evaluation: functions of the tasks' tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.evaluate_model.calibration import measure_calibration
from components.evaluate_model.mistakes import confusion
from components.evaluate_model.serving_distribution import ServingWeights
from perennial.evaluation.comparison import (
    Pair,
    Terms,
    compare_instances,
    compare_overall,
    compare_serving,
    compare_slices,
)
from perennial.evaluation.groups import make_groups
from perennial.evaluation.metrics import measure
from perennial.evaluation.prediction_table import (
    GROUP,
    LABEL,
    TaskTable,
    class_scores,
    predictions_of,
    weights_in,
)
from perennial.evaluation.trivial import compare_trivial
from perennial.project import Project
from perennial.tasks import Task
from schemas.project import Metric
from schemas.records import (
    CANDIDATE,
    CHAMPION,
    Calibration,
    ConfusionMatrix,
    Difference,
    ServedTask,
    SliceMetrics,
    TrivialPredictor,
)


@dataclass(frozen=True)
class Measured:
    """Input of all measures: the tables, the first task's first, and the candidate.

    `serves` holds what the candidate and the champion serve, by their columns; `serving` the
    weights of what serving sees, None: the tables have none.
    """

    project: Project
    candidate: str
    digest: str
    tables: Sequence[TaskTable]
    serves: Mapping[str, Mapping[str, ServedTask]]
    serving: ServingWeights | None = None

    @property
    def judged(self) -> dict[str, str]:
        """The columns of the two models that are judged, and what records call them."""
        return {self.candidate: CANDIDATE, CHAMPION: CHAMPION}


def measure_slices(measured: Measured) -> list[SliceMetrics]:
    """Computes every model's metrics of every task, overall, on slices and on views."""
    rows = []
    for table in measured.tables:
        groups = make_groups(table.frame, measured.project.settings.evaluate)
        rows += measure(table.frame, table.task, table.models, groups)
    return [
        row.model_copy(update={"model": CANDIDATE}) if row.model == measured.candidate else row
        for row in rows
    ]


def compare_models(measured: Measured) -> list[Difference]:
    """Compares the candidate with the champion on every task, with other instances on the first."""
    differences = []
    for number, table in enumerate(measured.tables):
        if CHAMPION in table.models:
            differences += (
                _compare_first(measured, table) if number == 0 else _compare_other(measured, table)
            )
    return differences


def compare_candidate_with_trivial(measured: Measured) -> TrivialPredictor:
    """Compares the candidate with the best constant answer, on the first task."""
    first, gate = measured.tables[0], measured.project.settings.gate
    return compare_trivial(
        predictions_of(first.frame, first.task, measured.candidate),
        first.frame[LABEL].to_numpy(),
        gate.metric,
        _terms(measured.project, first.task, gate.repeats),
        first.frame[GROUP].to_numpy() if GROUP in first.frame else None,
        weights_in(first.frame),
    )


def confuse(measured: Measured) -> list[ConfusionMatrix]:
    """Counts the confusions of the first task's classes, of the candidate and the champion."""
    first = measured.tables[0]
    if not first.task.is_classes:
        return []
    return [
        matrix
        for model, named in measured.judged.items()
        if model in first.models
        for matrix in confusion(first.frame, model, named)
    ]


def calibrate(measured: Measured) -> list[Calibration]:
    """Measures the calibration of the candidate and the champion on every task with classes."""
    confidence = measured.project.settings.gate.confidence
    calibrations = []
    for table in measured.tables:
        name, labels = table.task.name, table.frame[LABEL].to_numpy()
        for model, named in measured.judged.items():
            if table.task.is_classes and model in table.models:
                temperature = measured.serves[model][name].temperature
                scores = class_scores(table.frame, model)
                calibrations.append(
                    measure_calibration(labels, scores, named, name, confidence, temperature)
                )
    return calibrations


def _compare_first(measured: Measured, table: TaskTable) -> list[Difference]:
    """Compares the gate's metric, on everything that the gate reads."""
    settings = measured.project.settings
    gate, terms = settings.gate, _terms(measured.project, table.task, settings.gate.repeats)
    pairs = {m: _pair(table, m, gate.metric) for m in table.models if m != CHAMPION}
    pair = pairs.pop(measured.candidate)
    groups = make_groups(table.frame, settings.evaluate)
    differences = [compare_overall(pair, terms), *compare_slices(pair, terms, groups)]
    if measured.serving is not None:
        weights, reweigh = measured.serving.weights, measured.serving.resample
        differences.append(
            compare_serving(pair, terms, weights, reweigh, decides=gate.distribution == "serving")
        )
    return differences + compare_instances(pairs, terms)


def _compare_other(measured: Measured, table: TaskTable) -> list[Difference]:
    """Compares the task's own metric, which the gate does not read."""
    terms = _terms(measured.project, table.task, 0)
    pair = _pair(table, measured.candidate, table.task.metric)
    groups = make_groups(table.frame, measured.project.settings.evaluate)
    return [compare_overall(pair, terms), *compare_slices(pair, terms, groups)]


def _terms(project: Project, task: Task, repeats: int) -> Terms:
    settings = project.settings
    return Terms(task.name, settings.gate.confidence, settings.evaluate.least_examples, repeats)


def _pair(table: TaskTable, model: str, metric: Metric) -> Pair:
    labels = table.frame[LABEL].to_numpy()
    clusters = table.frame[GROUP].to_numpy() if GROUP in table.frame else None
    candidate, champion = (
        predictions_of(table.frame, table.task, name) for name in (model, CHAMPION)
    )
    return Pair(candidate, champion, labels, metric, clusters, weights_in(table.frame))
