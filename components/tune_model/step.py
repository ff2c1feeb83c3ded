"""Chooses the hyperparameters of the full training, from the stabilised weights.

They are those of an earlier search while they are good, and else those that a search by this run
finds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from components.tune_model.choices import (
    describe_reuse,
    describe_search,
    distinct,
    ranked,
    why_search,
)
from components.tune_model.search import search
from components.tune_model.space import hyperparameters_of
from perennial.errors import PerennialError, StoreError
from perennial.project import FORMAT, Project
from perennial.results.unfinished import SavedFolder, UnfinishedWork
from perennial.storage.digests import digest_file, digest_folder, digest_value
from perennial.training.artifacts import WEIGHTS_FILE
from perennial.training.hyperparameters import settings_hyperparameters, space_digest
from perennial.training.transformed_features import TRANSFORM_GRAPH, TransformedFeatures
from schemas.records import Hyperparameters, Tuned, Tuning, Validation


@dataclass(frozen=True)
class Searched:
    """A search's inputs, and why there is one. A `tuner_fn` starts from no weights."""

    project: Project
    features: Path
    weights: Path | None
    space: str
    earlier: Hyperparameters | None
    why: str


def tune_model(
    project: Project,
    features: Path,
    weights: Path | None,
    validation: Path,
    tuned: Tuned | None,
    reason: str,
    output: Path,
    publish: Callable[[], None] = lambda: None,
) -> Tuning:
    """Writes `output/tuning.json`.

    A search that is killed goes on where it stopped, on whatever machine: its finished trials are
    kept in the root until it ends.

    Args:
        project: `tune` holds the budget and the ranges.
        features: Folder of `transform_features`.
        weights: Folder of `stabilise_weights`; None: the module has a `run_fn`, which owns its
            weights.
        validation: Folder of `validate_data`; drift asks for a new search.
        tuned: An earlier search that is young enough.
        reason: Why there is none, as the end of "searched because ...".
        output: Folder that is written.
        publish: Publishes what was written there; only after it the kept trials go.

    Raises:
        ProjectError: There is a budget but nothing to search, or the model does not build.
        TrainingError: Every trial failed.
    """
    space = space_digest(project)
    why = why_search(tuned, space, Validation.read(validation), reason)
    if tuned is not None and why is None:
        reason_of_reuse = describe_reuse(tuned, datetime.now(UTC))
        tuning = Tuning(
            outcome="reused", why=reason_of_reuse, best=tuned.best, space=space, tuned=tuned
        )
        tuning.write(output)
        publish()
        return tuning
    find = _ask_tuner_fn if weights is None else _search
    # The weights were trained on the features, and the graph made them: either stands for the data.
    data = (
        digest_folder(features / TRANSFORM_GRAPH)
        if weights is None
        else digest_file(weights / WEIGHTS_FILE)
    )
    kept = UnfinishedWork(project.root, "tune_model", _key_of_search(project, data))
    earlier = tuned.best[0] if tuned is not None and tuned.space == space else None
    try:
        tuning = find(Searched(project, features, weights, space, earlier, why or reason), kept)
    except PerennialError as error:  # what failed is tried anew by the next attempt
        if not isinstance(error, StoreError):
            kept.remove_all()
        raise
    tuning.write(output)
    publish()
    kept.remove_all()
    return tuning


def _search(searched: Searched, kept: UnfinishedWork) -> Tuning:
    assert searched.weights is not None
    settings = searched.project.settings
    transformed = TransformedFeatures(searched.features, searched.project.tasks)
    trials = search(
        searched.project, transformed, searched.weights / WEIGHTS_FILE, searched.earlier, kept
    )
    configurations = [hyperparameters_of(trial.values, settings.train) for trial in ranked(trials)]
    sentence = describe_search(trials, searched.why)
    best = distinct(configurations)[: settings.tune.best]
    return Tuning(outcome="searched", why=sentence, best=best, space=searched.space, trials=trials)


def _ask_tuner_fn(searched: Searched, kept: UnfinishedWork) -> Tuning:
    """Searches by a TFX module's own `tuner_fn`, which decides what is searched and how."""
    from perennial.tfx_module.run_fn import call_tuner_fn

    project = searched.project
    project.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=project.scratch) as work:
        saved = SavedFolder(kept, Path(work))
        saved.restore()
        features = TransformedFeatures(searched.features, project.tasks)
        values = call_tuner_fn(project, features, Path(work), saved.save)
    own = settings_hyperparameters(project.settings)
    best = own.model_copy(update={"model": values or {}, "source": "tuner"})
    sentence = f"{searched.why}; the module's tuner_fn searched"
    return Tuning(outcome="searched", why=sentence, best=[best], space=searched.space)


def _key_of_search(project: Project, data: str) -> str:
    """Gives the key that the trials of this search are kept by.

    Another project, other data or another kind of trial has another key.
    """
    tune = project.settings.tune.model_dump(mode="json", include={"epochs"})
    elsewhere = {"instances", "epochs", "patience", "checkpoint_steps", "restarts", "workers"}
    train = project.settings.train.model_dump(mode="json", exclude=elsewhere)
    return digest_value([FORMAT, space_digest(project), data, tune, train])[:32]
