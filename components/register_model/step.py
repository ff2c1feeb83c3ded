"""Registers the candidate as a version with its lineage, and records the gate's decision on it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from components.train_model.step import SAVED_MODEL
from perennial.digests import digest_value
from perennial.ledger import Ledger, NewEvent
from perennial.project import Project
from perennial.registry import Candidate, Registry
from schemas.records import Decision, DecisionMade, Evaluation, ModelVersion, Selection, Span, Training

# MLflow keeps at most 5,000 characters of a tag.
_LONGEST_TAG = 5000
# What MLflow does not take in the name of a parameter.
_NOT_ALLOWED = re.compile(r"[^\w. /-]")


def register_model(
    project: Project, selection: Selection, evaluation: Evaluation, decision: Decision, model: Path
) -> ModelVersion:
    """Makes the candidate a version of the registry; candidates that were not promoted are kept, too.

    Raises:
        IntegrityError: The model's files are not those that were evaluated.
    """
    training = next(t for t in evaluation.trainings if t.instance.name == evaluation.candidate)
    candidate = Candidate(
        saved_model=model / SAVED_MODEL,
        digest=evaluation.digest,
        parameters=describe_parameters(training),
        metrics=describe_metrics(evaluation),
        curves=describe_curves(training),
        lineage=describe_lineage(selection, evaluation.window, decision),
    )
    version = Registry(project).register(candidate)
    made = DecisionMade(decision=decision, version=version.version, digest=version.digest)
    Ledger(project.ledger_url).append_once(NewEvent("decision", made, selection.run, key=f"decision:{selection.run}"))
    return version


def describe_parameters(training: Training) -> dict[str, str | int | float]:
    """What the candidate was trained with; what `build_model` asked its `hp` for is named `model.<name>`."""
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


def describe_metrics(evaluation: Evaluation) -> dict[str, float]:
    """The candidate's overall metrics on the test split: `test_accuracy`, or `test_<task>_accuracy` of several tasks.

    What could not be measured is left out.
    """
    several = len(evaluation.tasks) > 1
    found = {
        f"test_{row.task + '_' if several else ''}{metric}": value
        for row in evaluation.slices
        if (row.model, row.slice) == ("candidate", "overall")
        for metric, value in row.values.items()
        if math.isfinite(value)
    }
    return found | {"test_examples": evaluation.examples}


def describe_curves(training: Training) -> dict[str, list[float]]:
    """The candidate's curves by epoch."""
    return {
        "train_loss": [epoch.train_loss for epoch in training.epochs],
        "eval_loss": [epoch.eval_loss for epoch in training.epochs],
        f"eval_{training.metric}": [epoch.eval_metric for epoch in training.epochs],
    }


def describe_lineage(selection: Selection, window: Sequence[Span], decision: Decision) -> dict[str, str]:
    """Where the candidate comes from: spans, fingerprints, digests, commit and run."""
    return {
        "run": selection.run,
        "spans": _fit(", ".join(f"{span.name}@{span.version}" for span in window)),
        "fingerprints": _fit(", ".join(span.fingerprint for span in window)),
        "schema_digest": selection.schema_digest,
        "project_digest": selection.project_digest,
        "git_commit": selection.git_commit or "none",
        "champion": selection.champion.version if selection.champion else "none",
        "decision": "promote" if decision.promote else "keep",
    }


def _fit(value: str) -> str:
    """The value, or its beginning and its SHA-256 where MLflow would refuse its length."""
    return value if len(value) <= _LONGEST_TAG else f"{value[:4900]}… sha256:{digest_value(value)}"
