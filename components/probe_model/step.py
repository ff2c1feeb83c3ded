"""Looks into the candidate: what do its answers rest on?

All of it is of the first task and of the test split, on examples that a hash of span and key
chooses: the same ones in every run, whatever lands beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.probe_model.attributions import attribute
from components.probe_model.covariates import Findings, probe_covariates
from components.probe_model.importance import drop_cheapest, measure_importances
from components.probe_model.probed_model import ProbeData, ProbedModel
from components.probe_model.sample import sample_rows
from components.probe_model.suspects import find_suspects
from perennial.errors import IntegrityError, TrainingError
from perennial.evaluation.prediction_table import KEY, SPAN, Examples, read_examples, read_table
from perennial.export.served_model import ServedModel
from perennial.project import Project
from perennial.training.artifacts import SAVED_MODEL
from schemas.records import DroppedFeatures, Evaluation, FeatureImportance, Probing

if TYPE_CHECKING:
    import pandas as pd

_MOST_PROBED = 2000


def probe_model(
    project: Project, window: Path, evaluation: Path, model: Path, output: Path
) -> Probing:
    """Probes the candidate for hidden covariates, explains its answers, and writes the record.

    Args:
        project: The settings `evaluate.covariates`, `evaluate.explain`, `evaluate.group` and
            `features`.
        window: Folder with the examples of each span.
        evaluation: Folder of `evaluate_model`, for the same window.
        model: Folder with the candidate's SavedModel.
        output: Folder of the record.

    Raises:
        IntegrityError: The model is not the one that was evaluated, or the window is another.
    """
    judged = Evaluation.read(evaluation)
    candidate = ServedModel.load(model / SAVED_MODEL, judged.digest, "the candidate")
    settings = project.settings
    examples = read_examples(window, settings.data.key, [], settings.evaluate.group)
    table = read_table(evaluation, judged, project.tasks[0].name)
    _check_rows(examples, table, evaluation)
    data = ProbeData(candidate, judged, examples, table)
    covariates = _probe_covariates(project, data)
    explained = _explain(project, data)
    record = explained.model_copy(
        update={
            "covariates": covariates.probes,
            "not_probed": [*covariates.not_probed, *explained.not_probed],
        }
    )
    record.write(output)
    return record


def _check_rows(examples: Examples, table: pd.DataFrame, evaluation: Path) -> None:
    """Checks that the table's rows are the window's examples.

    Raises:
        IntegrityError: They are not.
    """
    same = len(table) == len(examples.named) and all(
        (examples.named[name].astype(str).to_numpy() == table[name].astype(str).to_numpy()).all()
        for name in (SPAN, KEY)
    )
    if not same:
        expected = (
            f"must hold the {len(examples.named)} test examples of the window, in their order"
        )
        raise IntegrityError(
            str(evaluation), expected, f"{len(table)} rows of others", "Evaluate the model again."
        )


def _probe_covariates(project: Project, data: ProbeData) -> Findings:
    settings = project.settings.evaluate.covariates
    if not settings.features:
        return Findings()
    rows = sample_rows(data.examples.named, _MOST_PROBED)
    try:
        model = data.probed_model(rows)
        suspects, missing = find_suspects(
            settings.features, model.columns, data.records(rows), project.schema
        )
        findings = probe_covariates(model, suspects, settings)
    except TrainingError as error:  # of values that never came together before
        return Findings([], [f"suspect features {', '.join(settings.features)}: {error}"])
    return Findings(findings.probes, [*missing, *findings.not_probed])


def _explain(project: Project, data: ProbeData) -> Probing:
    """Measures importances, costs and attributions; the record lacks the covariates' probes."""
    settings, metric = project.settings.evaluate.explain, project.settings.gate.metric
    rows = sample_rows(data.examples.named, settings.examples)
    record = Probing(digest=data.evaluation.digest, metric=metric, examples=len(rows))
    if not settings.examples:
        return record.model_copy(
            update={"not_probed": ["explanations: evaluate.explain.examples is 0"]}
        )
    importances, drops, unmeasured = _measure(project, data.probed_model(rows))
    attributed = attribute(data, rows, settings)
    return record.model_copy(
        update={
            "importances": importances,
            "drops": drops,
            "attributions": attributed.attributions,
            "explained": attributed.explained,
            "not_probed": [*unmeasured, *attributed.not_probed],
        }
    )


def _measure(
    project: Project, model: ProbedModel
) -> tuple[list[FeatureImportance], list[DroppedFeatures], list[str]]:
    """Measures importances, and what dropping costly features loses; lists what it could not."""
    repeats, metric = project.settings.evaluate.explain.repeats, project.settings.gate.metric
    costs = {name: feature.cost for name, feature in project.settings.features.items()}
    unread = [name for name, cost in costs.items() if cost and name not in model.columns]
    notes = [
        f"importance of `{name}`, which costs {costs[name]:g}: the model does not read it"
        for name in unread
    ]
    try:
        importances = measure_importances(model, metric, repeats, costs)
        return importances, drop_cheapest(model, metric, repeats, importances), notes
    except TrainingError as error:  # of values that never came together before
        return [], [], [*notes, f"permutation importance: {error}"]
