"""Measures the candidates and the champion on the same test examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.check_examples.step import read_checked
from components.evaluate_model.champion import predict_champion
from components.evaluate_model.differences import compare
from components.evaluate_model.metrics import OVERALL, analyse
from components.evaluate_model.mistakes import confusion, find_mistakes
from components.evaluate_model.predictions import Contender, not_finite
from components.evaluate_model.tables import (
    Array,
    Examples,
    TaskTable,
    check_labels,
    make_table,
    read_examples,
)
from components.train_model.step import SAVED_MODEL, read_training
from perennial.digests import verify_folder
from perennial.errors import TrainingError
from perennial.project import Project
from perennial.publishing import link_tree, publish_text
from perennial.spans import span_order
from perennial.tasks import metric_words
from schemas.records import (
    Champion,
    ConfusionMatrix,
    Difference,
    EvaluatedTask,
    Evaluation,
    SliceMetrics,
    Span,
    Training,
)

if TYPE_CHECKING:
    import pandas as pd

RECORD_FILE = "evaluation.json"
TABLE_FILE = "predictions.parquet"
LOGS = "logs"
CHAMPION = "champion"
CANDIDATE = "candidate"


@dataclass(frozen=True)
class Outputs:
    """Folders that `evaluate_model` writes: the evaluation with its tables, and the candidate's SavedModel."""

    evaluation: Path
    model: Path


@dataclass(frozen=True)
class Instances:
    """What the instances say of the examples.

    `predictions` are by model and task: class probabilities, float32 [n, classes], or values, float32 [n]; `labels`
    by task, [n]. `not_measured` says which instances are left out, and why.
    """

    predictions: dict[str, dict[str, Array]]
    labels: dict[str, Array]
    not_measured: list[str]


def evaluate_model(
    project: Project, champion: Champion | None, window: Path, models: Sequence[Path], outputs: Outputs
) -> Evaluation:
    """Evaluates all instances and the champion; the instance with the lowest eval loss is the candidate.

    Writes `evaluation.json`, a table of predictions for each task, TFMA's results, the instances' TensorBoard logs and
    the candidate's SavedModel.

    Raises:
        IntegrityError: An instance is not the one that training wrote.
        ProjectError: The window's test split is empty, or holds labels that nothing can be measured by.
        TrainingError: The candidate's predictions are not finite.
    """
    trainings = [read_training(folder) for folder in models]
    for training, folder in zip(trainings, models, strict=True):
        verify_folder(folder / SAVED_MODEL, training.digest)
    chosen = choose_candidate(trainings)
    examples = read_examples(window, project.settings.data.key, project.settings.evaluate.slices)
    folders = {training.instance.name: folder for training, folder in zip(trainings, models, strict=True)}
    instances = predict_instances(project, folders, chosen.instance.name, examples)
    against = predict_champion(project, champion, examples, instances.labels)
    predictions = instances.predictions | ({CHAMPION: against.predictions} if against.predictions else {})
    tables = _write_tables(project, examples, instances.labels, predictions, outputs.evaluation)
    evaluation = _evaluate(project, chosen, trainings, tables, outputs.evaluation).model_copy(
        update={
            "champion": champion,
            "window": read_window(window),
            "not_compared": [*instances.not_measured, *against.not_compared],
        }
    )
    publish_text(evaluation.model_dump_json(indent=2), outputs.evaluation / RECORD_FILE)
    _link_logs(folders, outputs.evaluation)
    link_tree(folders[chosen.instance.name] / SAVED_MODEL, outputs.model / SAVED_MODEL)
    return evaluation


def read_evaluation(folder: Path) -> Evaluation:
    """The record that `evaluate_model` left in a folder."""
    return Evaluation.model_validate_json((folder / RECORD_FILE).read_text(encoding="utf-8"))


def table_file(task: str, first: str) -> str:
    """Name of the file that holds a task's table; the first task's is `TABLE_FILE`."""
    return TABLE_FILE if task == first else f"predictions.{task}.parquet"


def read_table(folder: Path, evaluation: Evaluation, task: str) -> pd.DataFrame:
    """The table of a task that `evaluate_model` left in a folder."""
    import pandas as pd

    return pd.read_parquet(folder / table_file(task, evaluation.tasks[0].name))


def describe_overall(evaluation: Evaluation) -> dict[str, float]:
    """Every model's overall metrics by their names in words; a metric that could not be measured is left out."""
    several = len(evaluation.tasks) > 1
    return {
        f"{row.model} {row.task + ' ' if several else ''}{metric_words(metric)}": value
        for row in evaluation.slices
        if row.slice == OVERALL
        for metric, value in row.values.items()
        if math.isfinite(value)
    }


def read_window(window: Path) -> list[Span]:
    """The spans in the window: what was trained on, which is less than what was selected when a span was refused."""
    spans = [read_checked(folder).span for folder in window.iterdir() if folder.is_dir()]
    return sorted(spans, key=lambda span: span_order(span.name))


def choose_candidate(trainings: Sequence[Training]) -> Training:
    """The instance with the lowest eval loss. The test split has no say, so that judging on it stays fair."""
    return min(trainings, key=lambda training: training.best.eval_loss)


def predict_instances(project: Project, folders: Mapping[str, Path], candidate: str, examples: Examples) -> Instances:
    """Predicts the examples with every instance; the labels are the candidate's.

    Raises:
        ProjectError: A label cannot be measured by.
        TrainingError: The candidate's predictions are not finite, or a model does not take an example.
    """
    found = Instances({}, {}, [])
    for name, folder in folders.items():
        contender = Contender(f"model of {name}", folder / SAVED_MODEL)
        if name == candidate:
            found.labels.update(contender.labels(examples.records))
            for task in project.tasks:
                check_labels(task, found.labels[task.name], examples)
        predictions = contender.predict(examples.records)
        bad = not_finite(predictions, examples)
        if bad and name == candidate:
            remedy = "Check the range of that example's features in preprocessing_fn, or lower train.learning_rate."
            raise TrainingError(f"model of {name}", "must give finite predictions", bad, remedy)
        if bad:
            found.not_measured.append(f"{name} was not measured: it gives {bad}")
        else:
            found.predictions[name] = predictions
    return found


def _write_tables(
    project: Project,
    examples: Examples,
    labels: Mapping[str, Array],
    predictions: Mapping[str, Mapping[str, Array]],
    folder: Path,
) -> list[TaskTable]:
    """Writes the table of each task; the champion is in those of the tasks that can be compared."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for task in project.tasks:
        said = {model: found[task.name] for model, found in predictions.items() if task.name in found}
        tables.append(make_table(task, examples, labels[task.name], said))
        tables[-1].frame.to_parquet(folder / table_file(task.name, project.tasks[0].name))
    return tables


def _evaluate(
    project: Project, chosen: Training, trainings: Sequence[Training], tables: Sequence[TaskTable], folder: Path
) -> Evaluation:
    name, first = chosen.instance.name, tables[0]
    return Evaluation(
        candidate=name,
        digest=chosen.digest,
        champion=None,
        tasks=[EvaluatedTask(name=table.task.name, kind=table.task.kind) for table in tables],
        trainings=list(trainings),
        examples=len(first.frame),
        slices=[row for table in tables for row in _measure(project, table, name, folder)],
        differences=[row for table in tables for row in _compare(project, table, name)],
        confusion=_confusion(first, name),
        mistakes=find_mistakes(first.frame, first.task, name),
        not_compared=[],
    )


def _measure(project: Project, table: TaskTable, candidate: str, folder: Path) -> list[SliceMetrics]:
    output = folder / ("tfma" if table.task == project.tasks[0] else f"tfma.{table.task.name}")
    rows = analyse(table.frame, table.task, table.models, project.settings.evaluate.slices, output)
    return [row.model_copy(update={"model": CANDIDATE}) if row.model == candidate else row for row in rows]


def _compare(project: Project, table: TaskTable, candidate: str) -> list[Difference]:
    """The gate's metric on the first task, and each other task's own."""
    if CHAMPION not in table.models:
        return []
    gate = project.settings.gate
    metric = gate.metric if table.task == project.tasks[0] else table.task.metric
    slices = project.settings.evaluate.slices
    return compare(table.frame, table.task, metric, slices, gate.confidence, candidate, CHAMPION)


def _confusion(table: TaskTable, candidate: str) -> list[ConfusionMatrix]:
    if not table.task.is_classes:
        return []
    shown = {candidate: CANDIDATE, CHAMPION: CHAMPION}
    return [matrix for m, named in shown.items() if m in table.models for matrix in confusion(table.frame, m, named)]


def _link_logs(folders: Mapping[str, Path], evaluation: Path) -> None:
    for name, folder in folders.items():
        if (folder / LOGS).is_dir():
            link_tree(folder / LOGS, evaluation / LOGS / name)
