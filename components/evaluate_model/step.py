"""Measures the candidates and the champion on the same test examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from components.evaluate_model.champion import Comparable, predict_champion
from components.evaluate_model.fairness import compare_groups
from components.evaluate_model.former import compare_former
from components.evaluate_model.measurements import (
    Measured,
    calibrate,
    compare_candidate_with_trivial,
    compare_models,
    confuse,
    measure_slices,
)
from components.evaluate_model.mistakes import find_mistakes
from components.evaluate_model.newest_span import measure_newest
from components.evaluate_model.outliers import find_outliers
from components.evaluate_model.predictions import Instances, predict_instances
from components.evaluate_model.serving_distribution import ServingWeights, estimate_weights
from components.evaluate_model.untested import untested_classes, untested_slices
from components.evaluate_model.views import find_views, with_views
from perennial.errors import NotComparedError
from perennial.evaluation.groups import sliced_features
from perennial.evaluation.prediction_table import (
    WEIGHT,
    Examples,
    make_table,
    read_examples,
    table_file,
)
from perennial.project import Project
from perennial.registry.model_files import verify_model
from perennial.spans.names import span_order
from perennial.storage.atomic import link_tree
from perennial.tasks import metric_words
from perennial.training.artifacts import LOGS, SAVED_MODEL
from schemas.records import (
    CHAMPION,
    OVERALL,
    Champion,
    CheckedSpan,
    EvaluatedTask,
    Evaluation,
    Span,
    Training,
    Validation,
)


@dataclass(frozen=True)
class Outputs:
    """Folders that `evaluate_model` writes: the evaluation, and the candidate's SavedModel."""

    evaluation: Path
    model: Path


def evaluate_model(
    project: Project,
    champion: Champion | None,
    window: Path,
    models: Sequence[Path],
    outputs: Outputs,
    validation: Path | None = None,
    former: Sequence[Champion] = (),
) -> Evaluation:
    """Evaluates all instances and the champion; the least eval loss makes the candidate.

    Writes `evaluation.json`, a table of predictions for each task, the instances' TensorBoard logs
    and the candidate's SavedModel.

    Args:
        project: Whose settings say what is measured.
        champion: The version that serves; None: there is none yet.
        window: Folder with the examples of each span.
        models: Folders of the instances that training wrote.
        outputs: Folders that are written.
        validation: Folder of the run's data checks, which say what drifted; None: it is not known.
        former: Earlier champions that the present one is held against.

    Raises:
        IntegrityError: An instance is not the one that training wrote.
        ProjectError: The window's test split is empty, or holds labels that nothing can be measured
            by.
        TrainingError: The candidate's predictions are not finite.
    """
    trainings = [Training.read(folder) for folder in models]
    folders = {
        training.instance.name: folder for training, folder in zip(trainings, models, strict=True)
    }
    for training in trainings:
        verify_model(folders[training.instance.name] / SAVED_MODEL, training.digest)
    chosen = choose_candidate(trainings)
    examples = _read_examples(project, window)
    spans = read_window(window)
    views = find_views(examples, spans, None if validation is None else Validation.read(validation))
    examples = with_views(examples, views)
    saved = {name: folder / SAVED_MODEL for name, folder in folders.items()}
    instances = predict_instances(project.tasks, saved, chosen.instance.name, examples)
    against = predict_champion(project, champion, examples, instances.labels)
    earlier, not_held = compare_former(project, former, against, examples, instances.labels)
    weights, notes = _weigh(project, chosen.instance.name, instances, examples)
    measured = _write_tables(
        project, chosen, examples, instances, against, weights, outputs.evaluation
    )
    not_compared = [
        *instances.not_measured,
        *against.not_compared,
        *not_held,
        *views.not_compared,
        *notes,
        *_find_untested(project, chosen.instance.name, instances, examples, window),
    ]
    evaluation = _evaluate(measured, trainings, not_compared).model_copy(
        update={"champion": champion, "window": spans, "former": earlier}
    )
    evaluation.write(outputs.evaluation)
    _link_logs(folders, outputs.evaluation)
    link_tree(saved[chosen.instance.name], outputs.model / SAVED_MODEL)
    return evaluation


def describe_overall(evaluation: Evaluation) -> dict[str, float]:
    """Gives every model's overall metrics by their names in words, those that were measured."""
    several = len(evaluation.tasks) > 1
    return {
        f"{row.model} {row.task + ' ' if several else ''}{metric_words(metric)}": value
        for row in evaluation.slices
        if row.slice == OVERALL
        for metric, value in row.values.items()
        if math.isfinite(value)
    }


def read_window(window: Path) -> list[Span]:
    """Reads which spans are in the window: those that were selected and not refused."""
    spans = [CheckedSpan.read(folder).span for folder in window.iterdir() if folder.is_dir()]
    return sorted(spans, key=lambda span: span_order(span.name))


def choose_candidate(trainings: Sequence[Training]) -> Training:
    """Chooses the instance with the lowest eval loss.

    The test split has no say, so that judging on it stays fair.
    """
    return min(trainings, key=lambda training: training.best.eval_loss)


def _read_examples(project: Project, window: Path) -> Examples:
    settings = project.settings.evaluate
    return read_examples(
        window, project.settings.data.key, sliced_features(settings), settings.group
    )


def _weigh(
    project: Project, candidate: str, instances: Instances, examples: Examples
) -> tuple[ServingWeights | None, list[str]]:
    """Estimates the weights of what serving sees, if the settings want them.

    Gives notes on them.
    """
    if project.settings.evaluate.serving == "none":
        return None, []
    first = project.tasks[0]
    labels, predictions = instances.labels[first.name], instances.predictions[candidate][first.name]
    try:
        weights = estimate_weights(
            project, first, instances.candidate, examples, labels, predictions
        )
    except NotComparedError as reason:
        return None, [str(reason)]
    return weights, list(weights.notes)


def _find_untested(
    project: Project, candidate: str, instances: Instances, examples: Examples, window: Path
) -> list[str]:
    """Says which classes, slices and groups have no test example."""
    settings, predictions = project.settings.evaluate, instances.predictions[candidate]
    classes = [
        note
        for task in project.tasks
        if task.is_classes
        for note in untested_classes(task, instances.labels[task.name], predictions[task.name])
    ]
    return [*classes, *untested_slices(examples.named, window, project.schema, settings)]


def _write_tables(
    project: Project,
    chosen: Training,
    examples: Examples,
    instances: Instances,
    against: Comparable,
    weights: ServingWeights | None,
    folder: Path,
) -> Measured:
    """Writes the table of each task; the champion is in those of the tasks that can be compared."""
    folder.mkdir(parents=True, exist_ok=True)
    predictions = instances.predictions | (
        {CHAMPION: against.predictions} if against.predictions else {}
    )
    tables = []
    for number, task in enumerate(project.tasks):
        by_model = {
            model: by_task[task.name]
            for model, by_task in predictions.items()
            if task.name in by_task
        }
        table = make_table(task, examples, instances.labels[task.name], by_model)
        if weights is not None and number == 0:
            table = replace(table, frame=table.frame.assign(**{WEIGHT: weights.weights}))
        table.frame.to_parquet(folder / table_file(task.name, project.tasks[0].name))
        tables.append(table)
    serves = {chosen.instance.name: instances.candidate.tasks, CHAMPION: against.tasks}
    return Measured(project, chosen.instance.name, chosen.digest, tables, serves, weights)


def _evaluate(
    measured: Measured, trainings: Sequence[Training], not_compared: Sequence[str]
) -> Evaluation:
    first, name = measured.tables[0], measured.candidate
    fairness, alone = compare_groups(
        first.frame, first.task, name, measured.project.settings.evaluate.fairness
    )
    return Evaluation(
        candidate=name,
        digest=measured.digest,
        champion=None,
        tasks=[
            EvaluatedTask(
                name=table.task.name,
                kind=table.task.kind,
                example_weight=table.task.example_weight,
            )
            for table in measured.tables
        ],
        trainings=list(trainings),
        examples=len(first.frame),
        slices=measure_slices(measured),
        differences=compare_models(measured),
        trivial=compare_candidate_with_trivial(measured),
        confusion=confuse(measured),
        mistakes=find_mistakes(first.frame, first.task, name),
        serving=measured.serving.record if measured.serving is not None else None,
        fairness=fairness,
        calibration=calibrate(measured),
        newest=measure_newest(measured),
        outliers=find_outliers(measured),
        not_compared=[*not_compared, *alone],
    )


def _link_logs(folders: Mapping[str, Path], evaluation: Path) -> None:
    for name, folder in folders.items():
        if (folder / LOGS).is_dir():
            link_tree(folder / LOGS, evaluation / LOGS / name)
