"""Looks into the candidate: what do its answers rest on?

All of it is of the first task and of the test split, on examples that a hash of span and key
chooses: the same ones in every run, whatever lands beside them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from components.probe_model.attributions import attribute
from components.probe_model.covariates import Findings, Suspect, not_compared, probe_covariates
from components.probe_model.importance import drop_cheapest, measure_importances
from components.probe_model.leaks import find_leaks
from components.probe_model.probed_model import ProbeData, ProbedModel
from components.probe_model.sample import sample_rows
from components.probe_model.suspects import find_suspects, flat, is_number
from perennial.errors import IntegrityError, NotComparedError, TrainingError
from perennial.evaluation.definedness import why_no_interval, why_undefined
from perennial.evaluation.prediction_table import KEY, SPAN, Examples, read_examples, read_table
from perennial.export.input_dependence import unread_features
from perennial.export.saved_model import SERVING_SIGNATURE
from perennial.export.served_model import ServedModel
from perennial.project import Project
from perennial.tasks import LATENT, metric_words
from perennial.training.artifacts import SAVED_MODEL
from schemas.records import (
    DroppedFeatures,
    Evaluation,
    FeatureImportance,
    LeakingFeature,
    Probing,
    SuspectFeature,
)

if TYPE_CHECKING:
    import pandas as pd

_MOST_PROBED = 2000
_LEAKS = "features that alone give the label away"


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
    first = project.tasks[0].name
    table = read_table(evaluation, judged, first)
    _check_rows(examples, table, evaluation)
    outputs = (candidate.outputs[first], LATENT)
    unread = unread_features(model / SAVED_MODEL, SERVING_SIGNATURE, candidate.arguments, outputs)
    data = ProbeData(candidate, judged, examples, table, unread)
    covariates = _probe_covariates(project, data)
    explained = _explain(project, data)
    record = explained.model_copy(
        update={
            "suspects": covariates.suspects,
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
    names = list(dict.fromkeys(settings.features))
    if not names:
        return Findings()
    rows = sample_rows(data.examples.named, _MOST_PROBED)
    try:
        model = data.probed_model(rows)
        suspects, missing = find_suspects(
            names, model.columns, data.unread, data.records(rows), project.schema
        )
        findings = probe_covariates(model, suspects, settings)
    except TrainingError as error:  # of values that never came together before
        read = {feature.name for feature in data.model.contract.features} - data.unread
        failed = [
            SuspectFeature(name=name, is_read=name in read, not_compared=str(error))
            for name in names
        ]
        return Findings([], failed, [f"suspect features {', '.join(names)}: {error}"])
    notes = [not_compared(suspect.name, str(suspect.not_compared)) for suspect in missing]
    return Findings(findings.probes, [*findings.suspects, *missing], [*notes, *findings.not_probed])


def _explain(project: Project, data: ProbeData) -> Probing:
    """Measures importances, costs and attributions, and looks for leaks.

    The record lacks the suspect features and their probes.
    """
    settings, metric = project.settings.evaluate.explain, project.settings.gate.metric
    rows = sample_rows(data.examples.named, settings.examples)
    record = Probing(digest=data.evaluation.digest, metric=metric, examples=len(rows))
    if not settings.examples:
        why = "evaluate.explain.examples is 0"
        return record.model_copy(
            update={"not_probed": [f"explanations: {why}", f"{_LEAKS}: {why}"]}
        )
    model = data.probed_model(rows)
    importances, drops, unmeasured = _measure(project, model)
    leaks, unlooked = _find_leaks(project, model, data.unread)
    attributed = attribute(data, rows, settings)
    return record.model_copy(
        update={
            "importances": importances,
            "drops": drops,
            "leaks": leaks,
            "attributions": attributed.attributions,
            "explained": attributed.explained,
            "not_probed": [*unmeasured, *unlooked, *attributed.not_probed],
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
    if reason := why_undefined(metric, model.labels):
        undefined = f"{metric_words(metric)} is not defined: the explained examples hold {reason}"
        return [], [], [*notes, f"permutation importance: {undefined}"]
    try:
        importances = measure_importances(model, metric, repeats, costs)
        if not all(math.isfinite(row.low) for row in importances):
            reason = why_no_interval(metric, model.labels, model.clusters)
            notes.append(f"intervals of importances: the explained examples hold {reason}")
        return importances, drop_cheapest(model, metric, repeats, importances), notes
    except TrainingError as error:  # of values that never came together before
        return [], [], [*notes, f"permutation importance: {error}"]


def _find_leaks(
    project: Project, model: ProbedModel, unread: frozenset[str]
) -> tuple[list[LeakingFeature], list[str]]:
    """Finds the features that alone give the label away; lists why it could not be looked for."""
    kinds = {feature.name: feature for feature in project.schema.feature}
    columns = [
        Suspect(name, flat(values), is_number(values, kinds.get(name)), is_read=True)
        for name, values in model.columns.items()
        if name not in unread
    ]
    try:
        return find_leaks(columns, model.labels, project.tasks[0].is_classes), []
    except NotComparedError as reason:
        return [], [f"{_LEAKS}: {reason}"]
