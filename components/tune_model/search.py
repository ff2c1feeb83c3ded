"""The search: trial after trial from the stabilised weights, kept so that a killed one goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.tune_model.choices import commonest_message, ranked, wants_more
from components.tune_model.space import (
    Values,
    hyperparameters_of,
    make_space,
    own_values,
    propose,
    random_draws,
    values_of,
)
from perennial.errors import TrainingError, describe_error
from perennial.project import Project
from perennial.results.unfinished import UnfinishedWork
from perennial.training.batches import TrainingBatches
from perennial.training.hyperparameters import balance_classes, one_process, plan_batches
from perennial.training.model_builder import ModelBuilder
from perennial.training.strategy import choose_strategy
from perennial.training.trainer import REMEDY, Trainer, learning_rate_of, quick_train
from perennial.training.transformed_features import TransformedFeatures
from perennial.training.weights import AssignedWeights, Weights, assign_weights, load_weights
from perennial.user_module import function_line
from schemas.project import TrainSettings
from schemas.records import Hyperparameters, Trial

if TYPE_CHECKING:
    import keras
    import keras_tuner
    import tensorflow as tf


@dataclass(frozen=True)
class Trials:
    """Runs trials of a project's model."""

    project: Project
    features: TransformedFeatures
    weights: Weights
    strategy: tf.distribute.Strategy
    train: TrainSettings
    class_weights: list[float] | None

    def run(self, number: int, values: Values) -> Trial:
        """Trains the model with these values for `tune.epochs`.

        Whatever goes wrong is the trial's message.
        """
        began = time.monotonic()
        losses: list[float] = []
        started_from, message = "", None
        try:
            chosen = hyperparameters_of(values, self.train)
            trainer, assigned = self._start(chosen)
            started_from = str(assigned)
            losses = self._train(trainer, chosen)
        except Exception as error:  # the search goes on with other values
            message = describe_error(error)
        return Trial(
            number=number,
            values=values,
            loss=min(losses, default=None),
            losses=losses,
            seconds=time.monotonic() - began,
            started_from=started_from,
            message=message,
        )

    def _start(self, chosen: Hyperparameters) -> tuple[Trainer, AssignedWeights]:
        import keras

        # One seed for all trials: what differs between them is their hyperparameters, not their
        # luck.
        keras.utils.set_random_seed(self.train.seed)
        tasks, balance = self.features.tasks, self.class_weights
        trainer = Trainer(lambda: self._build(chosen), tasks, self.strategy, self.train, balance)
        return trainer, assign_weights(trainer.model, self.weights)

    def _build(self, chosen: Hyperparameters) -> keras.Model:
        builder = ModelBuilder(self.project, self.features)
        model = builder.build(chosen.model)
        builder.check(model)
        return model

    def _train(self, trainer: Trainer, chosen: Hyperparameters) -> list[float]:
        train, epochs = self.train, self.project.settings.tune.epochs
        batches = TrainingBatches(self.features, plan_batches(train, chosen.batch_size, train.seed))
        return quick_train(trainer, self.features, batches, epochs, learning_rate_of(train, chosen))


def search(
    project: Project,
    features: TransformedFeatures,
    weights: Path,
    earlier: Hyperparameters | None,
    kept: UnfinishedWork,
) -> list[Trial]:
    """Searches until the budget is spent, or nothing is left to try.

    The first trial has the settings' own values, the second those of an earlier search of the same
    space; so the best is never worse, on the eval split, than what would be used without a search.

    Args:
        project: Its module builds the models.
        features: Transformed examples.
        weights: `weights.npz` of the stabilised weights; each trial takes what fits.
        earlier: The best of an earlier search.
        kept: Holds each finished trial; those of a killed search are not run again.

    Raises:
        ProjectError: There is nothing to search, the module does not build, or a split is empty.
        TrainingError: Every trial failed.
    """
    features.count("eval")
    settings = project.settings
    space = make_space(
        ModelBuilder(project, features).declared(), settings, features.count("train")
    )
    first = _first_values(space, settings.train, earlier)
    trials = _run_trials(_prepare(project, features, weights), space, first, kept)
    if not ranked(trials):
        raise TrainingError(
            where=function_line(project.module().build_model),
            expected="must train with at least one of the hyperparameters that were tried",
            received=f"all of {len(trials)} trials failed, most of them with: "
            f"{commonest_message(trials)}",
            remedy=REMEDY,
        )
    return trials


def read_trials(kept: UnfinishedWork) -> list[Trial]:
    """Reads the finished trials, in their order."""
    read = [kept.read(part) for part in kept.parts()]
    return [Trial.model_validate_json(data) for data in read if data is not None]


def _prepare(project: Project, features: TransformedFeatures, weights: Path) -> Trials:
    train = one_process(project.settings.train)
    balance = balance_classes(features, train)
    return Trials(project, features, load_weights(weights), choose_strategy(train), train, balance)


def _first_values(
    space: keras_tuner.HyperParameters, train: TrainSettings, earlier: Hyperparameters | None
) -> list[Values]:
    first = [own_values(space, train)]
    if earlier is not None and (values := values_of(earlier, space)) not in first:
        first.append(values)
    return first


def _run_trials(
    trials: Trials,
    space: keras_tuner.HyperParameters,
    first: Sequence[Values],
    kept: UnfinishedWork,
) -> list[Trial]:
    tune, finished = trials.project.settings.tune, read_trials(kept)
    drawn = random_draws(space, tune.trials)

    def next_values() -> Values | None:
        if len(finished) < len(first):
            return first[len(finished)]
        return propose(space, tune.algorithm, finished, trials.train.seed, drawn)

    while wants_more(finished, tune) and (values := next_values()) is not None:
        trial = trials.run(len(finished) + 1, values)
        kept.write(f"trial-{trial.number:05d}.json", trial.model_dump_json().encode())
        finished.append(trial)
    return finished
