"""Measures the candidates and the champion on the same test examples."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.check_examples.step import read_checked
from components.evaluate_model.metrics import analyse, compare, confusion
from components.evaluate_model.predictions import KEY, LABEL, SPAN, predict_scores, predict_table
from components.train_model.step import SAVED_MODEL, read_training
from perennial.digests import verify_folder
from perennial.errors import ProjectError, describe_error
from perennial.examples import read_records, split_files
from perennial.project import Project
from perennial.publishing import link_tree, publish_text
from perennial.registry import Registry
from perennial.spans import span_order
from schemas.records import Champion, Evaluation, Mistake, SliceMetrics, Span, Training

if TYPE_CHECKING:
    import pandas as pd

RECORD_FILE = "evaluation.json"
TABLE_FILE = "predictions.parquet"
CHAMPION = "champion"
CANDIDATE = "candidate"
_MISTAKES = 20


@dataclass(frozen=True)
class Outputs:
    """Folders that `evaluate_model` writes: the evaluation with its table, and the candidate's SavedModel."""

    evaluation: Path
    model: Path


def evaluate_model(
    project: Project, champion: Champion | None, window: Path, models: Sequence[Path], outputs: Outputs
) -> Evaluation:
    """Evaluates all instances and the champion; the instance with the lowest eval loss is the candidate.

    Writes `evaluation.json`, the table of predictions, TFMA's results and the candidate's SavedModel.

    Raises:
        IntegrityError: An instance is not the one that training wrote.
        ProjectError: The window's test split is empty.
    """
    trainings = [read_training(folder) for folder in models]
    for training, folder in zip(trainings, models, strict=True):
        verify_folder(folder / SAVED_MODEL, training.digest)
    chosen = choose_candidate(trainings)
    contenders = {t.instance.name: m / SAVED_MODEL for t, m in zip(trainings, models, strict=True)}
    missing = _add_champion(project, champion, window, contenders)
    settings = project.settings
    table = predict_table(window, contenders, settings.label, settings.data.key, settings.evaluate.slices)
    if table.empty:
        where, remedy = "project.yaml: data.splits.test", "Land more data, or raise it."
        raise ProjectError(where, "must leave some examples of the window", "none", remedy)
    outputs.evaluation.mkdir(parents=True, exist_ok=True)
    table.to_parquet(outputs.evaluation / TABLE_FILE)
    evaluation = _evaluate(project, champion, table, trainings, chosen, missing, outputs.evaluation)
    evaluation = evaluation.model_copy(update={"window": read_window(window)})
    publish_text(evaluation.model_dump_json(indent=2), outputs.evaluation / RECORD_FILE)
    link_tree(models[trainings.index(chosen)] / SAVED_MODEL, outputs.model / SAVED_MODEL)
    return evaluation


def read_evaluation(folder: Path) -> Evaluation:
    """The record that `evaluate_model` left in a folder."""
    return Evaluation.model_validate_json((folder / RECORD_FILE).read_text(encoding="utf-8"))


def read_window(window: Path) -> list[Span]:
    """The spans in the window: what was trained on, which is less than what was selected when a span was refused."""
    spans = [read_checked(folder).span for folder in window.iterdir() if folder.is_dir()]
    return sorted(spans, key=lambda span: span_order(span.name))


def choose_candidate(trainings: Sequence[Training]) -> Training:
    """The instance with the lowest eval loss. The test split has no say, so that judging on it stays fair."""
    return min(trainings, key=lambda training: training.best.eval_loss)


def find_mistakes(table: pd.DataFrame, model: str) -> list[Mistake]:
    """The examples that a model got wrong with the most certainty, worst first."""
    wrong = [
        Mistake(
            key=str(row[KEY]),
            span=str(row[SPAN]),
            label=int(row[LABEL]),
            predicted=int(row[model].argmax()),
            probability=float(row[model].max()),
        )
        for row in table.to_dict("records")
        if int(row[model].argmax()) != int(row[LABEL])
    ]
    return sorted(wrong, key=lambda mistake: (-mistake.probability, mistake.key))[:_MISTAKES]


def _add_champion(project: Project, champion: Champion | None, window: Path, contenders: dict[str, Path]) -> list[str]:
    """Adds the champion's model to the contenders; gives what keeps it from being compared."""
    if champion is None:
        return ["there is no champion yet"]
    registry = Registry(project)
    try:
        version = registry.version(champion.version)
        folder = registry.fetch(version)
        verify_folder(folder, champion.digest)
        # It may need a feature that the data no longer has: TensorFlow then raises errors of many kinds.
        predict_scores(folder, list(itertools.islice(read_records(split_files(window, "test")), 1)))
    except Exception as error:
        return [f"champion version {champion.version} could not be evaluated: {describe_error(error)}"]
    contenders[CHAMPION] = folder
    return []


def _evaluate(
    project: Project,
    champion: Champion | None,
    table: pd.DataFrame,
    trainings: Sequence[Training],
    chosen: Training,
    missing: list[str],
    output: Path,
) -> Evaluation:
    settings, name = project.settings, chosen.instance.name
    compared = CHAMPION in table
    models = [t.instance.name for t in trainings] + ([CHAMPION] if compared else [])
    slices, gate = settings.evaluate.slices, settings.gate
    rows = analyse(table, models, slices, output / "tfma")
    return Evaluation(
        candidate=name,
        digest=chosen.digest,
        champion=champion,
        trainings=list(trainings),
        examples=len(table),
        slices=[_renamed(row, name) for row in rows],
        differences=compare(table, gate.metric, slices, gate.confidence, name, CHAMPION) if compared else [],
        confusion=[confusion(table, name, CANDIDATE)] + ([confusion(table, CHAMPION, CHAMPION)] if compared else []),
        mistakes=find_mistakes(table, name),
        not_compared=missing,
    )


def _renamed(row: SliceMetrics, candidate: str) -> SliceMetrics:
    return row.model_copy(update={"model": CANDIDATE}) if row.model == candidate else row
