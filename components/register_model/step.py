"""Registers the candidate as a version with its lineage, and records the gate's decision on it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from perennial.export.contract import read_contract
from perennial.ledger.events import Ledger, NewEvent
from perennial.project import Project
from perennial.registry.mlflow_runs import TrainedInstance
from perennial.registry.model_files import verify_model
from perennial.registry.repair import decision_key
from perennial.registry.versions import Candidate, Registry
from perennial.storage.digests import digest_value
from perennial.training.artifacts import SAVED_MODEL
from schemas.records import (
    CANDIDATE,
    OVERALL,
    Decision,
    DecisionMade,
    Evaluation,
    ModelVersion,
    Probing,
    RegistrationBegun,
    Selection,
    Span,
    Training,
)

# MLflow keeps at most 5,000 characters of a tag.
_LONGEST_TAG = 5000
# What MLflow does not take in the name of a parameter.
_NOT_ALLOWED = re.compile(r"[^\w. /-]")


def register_model(
    project: Project,
    selection: Selection,
    evaluation: Evaluation,
    decision: Decision,
    model: Path,
    probing: Probing | None = None,
) -> ModelVersion:
    """Makes the candidate a version of the registry, whether it is promoted or not.

    Every instance of the run becomes an MLflow run. The ledger says first that registration began,
    and last what was decided: a run that is killed between the two is completed by
    `perennial.registry.repair`.

    Raises:
        IntegrityError: The model's files are not those that were evaluated, or more than a
            SavedModel and weights.
        ServingError: The model has no contract.
        LeaseLostError: Another run has taken the project over.
    """
    verify_model(model / SAVED_MODEL, evaluation.digest)
    candidate = make_candidate(selection, evaluation, decision, model / SAVED_MODEL, probing)
    registry, ledger, run = Registry(project), Ledger(project.ledger_url), selection.run
    with ledger.exclusive():
        if not any(event.run == run for event in ledger.events("decision")):
            begun = RegistrationBegun(digest=candidate.digest)
            ledger.append(NewEvent("registration_begun", begun, run, fence=selection.fence))
        version = registry.register(candidate, above=ledger.highest_version())
        champion = ledger.champion()
        registry.set_aliases(champion.version if champion else None)
        made = DecisionMade(decision=decision, version=version.version, digest=version.digest)
        ledger.append_once(NewEvent("decision", made, run, decision_key(run), selection.fence))
    return version


def make_candidate(
    selection: Selection,
    evaluation: Evaluation,
    decision: Decision,
    saved_model: Path,
    probing: Probing | None,
) -> Candidate:
    """Gathers all that is registered: the candidate, its judgement, and the other instances."""
    (training,) = (t for t in evaluation.trainings if t.instance.name == evaluation.candidate)
    return Candidate(
        saved_model=saved_model,
        digest=evaluation.digest,
        parameters={**describe_parameters(training), "features": describe_features(saved_model)},
        metrics=describe_metrics(evaluation),
        curves=describe_curves(training),
        lineage=describe_lineage(selection, evaluation.window, decision),
        instance=evaluation.candidate,
        documents=describe_judgement(evaluation, decision, probing),
        others=[
            describe_instance(other, evaluation)
            for other in evaluation.trainings
            if other is not training
        ],
    )


def describe_judgement(
    evaluation: Evaluation, decision: Decision, probing: Probing | None
) -> Mapping[str, str]:
    """Gives the documents that are kept with a version, by file name.

    There is no document of probes where nothing was probed.
    """
    records = [record for record in (evaluation, decision, probing) if record is not None]
    return {record.FILE: record.model_dump_json(indent=2) for record in records}


def describe_instance(training: Training, evaluation: Evaluation) -> TrainedInstance:
    """Describes an instance that did not become the candidate."""
    return TrainedInstance(
        name=training.instance.name,
        digest=training.digest,
        parameters=describe_parameters(training),
        metrics=describe_metrics(evaluation, training.instance.name),
        curves=describe_curves(training),
    )


def describe_parameters(training: Training) -> dict[str, str | int | float]:
    """Lists what the candidate was trained with; values of `hp` are named `model.<name>`."""
    chosen = training.hyperparameters
    model = {f"model.{_NOT_ALLOWED.sub('_', name)}": value for name, value in chosen.model.items()}
    return model | {
        "instance": training.instance.name,
        "start": training.instance.start,
        "seed": training.instance.seed,
        "strategy": training.strategy,
        "replicas": training.replicas,
        "workers": training.workers,
        "chosen_by": chosen.source,
        "learning_rate": chosen.learning_rate,
        "batch_size": chosen.batch_size,
        "trainable_weights": training.parameters,
        "train_examples": training.train_examples,
        "best_epoch": training.best_epoch,
    }


def describe_features(saved_model: Path) -> str:
    """Lists the names of the features that clients send.

    Raises:
        ServingError: The model has no contract: nothing could serve it.
    """
    return _fit(", ".join(feature.name for feature in read_contract(saved_model).features))


def describe_metrics(evaluation: Evaluation, model: str = CANDIDATE) -> dict[str, float]:
    """Lists a model's overall test metrics: `test_accuracy`, or `test_<task>_accuracy` of several.

    What could not be measured is left out.
    """
    several = len(evaluation.tasks) > 1
    metrics = {
        f"test_{row.task + '_' if several else ''}{metric}": value
        for row in evaluation.slices
        if (row.model, row.slice, row.view) == (model, OVERALL, False)
        for metric, value in row.values.items()
        if math.isfinite(value)
    }
    return metrics | {"test_examples": evaluation.examples}


def describe_curves(training: Training) -> dict[str, list[float]]:
    """Gives the candidate's curves by epoch."""
    return {
        "train_loss": [epoch.train_loss for epoch in training.epochs],
        "eval_loss": [epoch.eval_loss for epoch in training.epochs],
        f"eval_{training.metric}": [epoch.eval_metric for epoch in training.epochs],
    }


def describe_lineage(
    selection: Selection, window: Sequence[Span], decision: Decision
) -> dict[str, str]:
    """Lists where the candidate comes from: spans, fingerprints, digests, commit and run."""
    return {
        "run": selection.run,
        "attempt": str(selection.attempt),
        "spans": _fit(", ".join(f"{span.name}@{span.version}" for span in window)),
        "fingerprints": _fit(", ".join(span.fingerprint for span in window)),
        "schema_digest": selection.schema_digest,
        "project_digest": selection.project_digest,
        "git_commit": selection.git_commit or "none",
        "package": selection.package or "none",
        "champion": selection.champion.version if selection.champion else "none",
        "decision": "promote" if decision.promote else "keep",
    }


def _fit(value: str) -> str:
    """Shortens a value that is too long for MLflow to its beginning and its SHA-256."""
    return value if len(value) <= _LONGEST_TAG else f"{value[:4900]}… sha256:{digest_value(value)}"
