"""Hyperparameters before training: those to begin with, and those of earlier searches."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from perennial.errors import ProjectError
from perennial.project import Project
from perennial.storage.digests import digest_value
from schemas.project import ProjectSettings, TrainSettings
from schemas.records import Hyperparameters, Tuned

if TYPE_CHECKING:
    from perennial.training.batches import BatchPlan
    from perennial.training.transformed_features import TransformedFeatures

_SECONDS_PER_DAY = 86_400


def usable(
    tuned: Tuned | None, now: datetime, max_age_days: float, asked: bool
) -> tuple[Tuned | None, str]:
    """Gives the earlier search if its outcome may still be used, else why not.

    The reason is the end of "searched because ...".

    Args:
        tuned: The newest search, if there was one.
        now: With a time zone.
        max_age_days: Older than that is too old.
        asked: Whether a person asked for a new search.
    """
    if asked:
        return None, "a person asked for it"
    if tuned is None:
        return None, "there was no search before"
    age = age_in_days(tuned, now)
    if age > max_age_days:
        return (
            None,
            f"that of {tuned.run} is {age:.1f} days old, more than tune.max_age_days of "
            f"{max_age_days:g}",
        )
    return tuned, ""


def age_in_days(tuned: Tuned, now: datetime) -> float:
    """Counts the days since a search; 0 when it lies in the future, as with clocks that differ."""
    ended = datetime.fromisoformat(tuned.at)
    ended = ended if ended.tzinfo else ended.replace(tzinfo=UTC)
    return max(0.0, (now - ended).total_seconds() / _SECONDS_PER_DAY)


def settings_hyperparameters(settings: ProjectSettings) -> Hyperparameters:
    """Gives the hyperparameters of the settings: every default of `build_model`."""
    train = settings.train
    return Hyperparameters(
        learning_rate=train.learning_rate, batch_size=train.batch_size, source="settings"
    )


def one_process(train: TrainSettings) -> TrainSettings:
    """Gives the settings for what is trained briefly, in one process: draws of weights, trials.

    Workers of `multi_worker` wait for each other; here there is only one.
    """
    return (
        train.model_copy(update={"strategy": "one_device"})
        if train.strategy == "multi_worker"
        else train
    )


def plan_batches(train: TrainSettings, batch_size: int, seed: int) -> BatchPlan:
    """Plans batches of this size, as the settings say."""
    from perennial.training.batches import BatchPlan

    return BatchPlan(
        batch_size, seed, "resample" if train.balance == "resample" else "none", train.cache_mb
    )


def balance_classes(features: TransformedFeatures, train: TrainSettings) -> list[float] | None:
    """Gives the weights of the first task's classes in the loss.

    None where the settings ask for none.

    Raises:
        ProjectError: Classes are to be balanced, but the first task predicts a value.
    """
    from perennial.training.batches import class_shares, class_weights

    first = features.tasks[0]
    if train.balance != "none" and not first.is_classes:
        raise ProjectError(
            where="project.yaml: train.balance",
            expected=f"must be none, as the first task `{first.name}` is a {first.kind}",
            received=train.balance,
            remedy="Remove it, or name a task with classes first in model.tasks.",
        )
    return (
        class_weights(class_shares(features, first)) if train.balance == "class_weights" else None
    )


def space_digest(project: Project) -> str:
    """Computes the digest of what decides which hyperparameters there are and what they mean.

    It holds the module, the tasks, how rare classes count, the ranges, how many of the best are
    kept, the algorithm, and of the settings' own learning rate and batch size what is not searched,
    because that is part of what a search found. The budget and the epochs of a trial are not in it:
    what a short search found is still good when a longer one is asked for. The data is not in it
    either: drift is looked at by itself.
    """
    settings = project.settings
    tune, train = settings.tune, settings.train
    kept = tune.model_dump(
        mode="json", include={"algorithm", "learning_rate", "batch_size", "best"}
    )
    fixed = {
        "learning_rate": None if tune.learning_rate else train.learning_rate,
        "batch_size": None if tune.batch_size else train.batch_size,
    }
    model = settings.model.model_dump(mode="json", include={"tasks"})
    scale = {"balance": train.balance, "base_batch_size": train.base_batch_size}
    return digest_value([project.module_digest(), settings.label, model, kept, fixed, scale])
