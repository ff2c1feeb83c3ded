"""Compares design spaces by the errors of models that are sampled from each and trained briefly.

Source: Radosavovic et al. 2019, "On Network Design Spaces for Visual Recognition".
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from components.compare_designs.spaces import DesignSpace, Sampler, Values, find_spaces
from perennial.errors import ProjectError, describe_error
from perennial.evaluation.error_distributions import compare_spaces
from perennial.project import Project
from perennial.results.unfinished import UnfinishedWork
from perennial.storage.digests import digest_folder, digest_value
from perennial.training.batches import TrainingBatches
from perennial.training.hyperparameters import (
    balance_classes,
    one_process,
    plan_batches,
    settings_hyperparameters,
)
from perennial.training.strategy import choose_strategy
from perennial.training.trainer import Trainer, learning_rate_of, quick_train
from perennial.training.transformed_features import TransformedFeatures
from schemas.project import TrainSettings
from schemas.records import DesignComparison, DesignSample

if TYPE_CHECKING:
    import tensorflow as tf

# Draws of values until new ones are found; a space with fewer models than samples gives some of
# them again.
_ATTEMPTS = 50


@dataclass(frozen=True)
class _Training:
    """Everything that all samples share."""

    features: TransformedFeatures
    settings: TrainSettings
    epochs: int
    strategy: tf.distribute.Strategy
    rate: float
    class_weights: list[float] | None


def compare_designs(
    project: Project, features: Path, output: Path, publish: Callable[[], None] = lambda: None
) -> DesignComparison:
    """Trains `designs.samples` models of each space for `designs.epochs` epochs, and compares.

    A model's error is its lowest eval loss. One that does not build or diverges is kept with its
    message; its error counts as infinite. Samples are distinct where the space is large enough. A
    comparison that was killed goes on after the last sample that was finished, on whatever machine;
    these lie in the root until then. Writes `output/designs.json`.

    Args:
        project: Its module names the spaces.
        features: Folder of `transform_features`.
        output: Folder that is written.
        publish: Publishes what was written there; only after it the kept samples go.

    Raises:
        ProjectError: The module names less than two spaces, or no model of a space trains.
    """
    output.mkdir(parents=True, exist_ok=True)
    key = digest_value([project.digest_of("compare_designs"), digest_folder(features)])[:32]
    kept = UnfinishedWork(project.root, "compare_designs", key)
    record = _compare(project, features, kept)
    record.write(output)
    publish()
    kept.remove_all()
    return record


def _compare(project: Project, folder: Path, kept: UnfinishedWork) -> DesignComparison:
    features = TransformedFeatures(folder, project.tasks)
    spaces = find_spaces(project, features)
    training = _prepare(project, features)
    finished = _read_finished(kept)
    samples = [
        sample
        for number in range(len(spaces))
        for sample in _sample_space(spaces, number, training, kept, finished)
    ]
    errors = {
        space.name: [sample.error for sample in samples if sample.space == space.name]
        for space in spaces
    }
    return DesignComparison(spaces=list(errors), samples=samples, tests=compare_spaces(errors))


def _prepare(project: Project, features: TransformedFeatures) -> _Training:
    for split in ("train", "eval"):
        features.count(split)  # an empty split is no fault of a sample
    train = one_process(project.settings.train)
    rate = learning_rate_of(train, settings_hyperparameters(project.settings))
    weights = balance_classes(features, train)
    return _Training(
        features, train, project.settings.designs.epochs, choose_strategy(train), rate, weights
    )


def _sample_space(
    spaces: list[DesignSpace],
    place: int,
    training: _Training,
    kept: UnfinishedWork,
    finished: Mapping[str, DesignSample],
) -> list[DesignSample]:
    """Trains the samples of one space, but for those that were finished before."""
    space, samples, seen = spaces[place], list[DesignSample](), list[Values]()
    sampler = Sampler(space)
    for number in range(space.project.settings.designs.samples):
        part = f"{place}-{number:04d}.json"
        sample = finished.get(part)
        if sample is None:
            seeds = _seeds(space, [place, number])
            sample = _train_sample(space, _new_values(sampler, seeds, seen), seeds[0], training)
            kept.write(part, sample.model_dump_json().encode())
        seen.append(sample.values)
        samples.append(sample)
    if all(sample.error is None for sample in samples):
        kept.remove_all()  # what is tried again must be trained again
        expected = (
            "must give at least one model that builds and trains, for the design space "
            f"`{space.name}`"
        )
        received = f"{len(samples)} of {len(samples)} failed, the first: {samples[0].message}"
        raise ProjectError(space.place, expected, received, "Correct it, or leave the space out.")
    return samples


def _new_values(sampler: Sampler, seeds: Sequence[int], seen: Sequence[Values]) -> Values:
    """Draws values that no sample has had; of a space that holds no others, any."""
    for seed in seeds:
        if (values := sampler.draw(seed)) not in seen:
            return values
    return sampler.draw(seeds[0])


def _seeds(space: DesignSpace, place: Sequence[int]) -> list[int]:
    first = space.project.settings.train.seed
    return [int(digest_value([first, *place, attempt])[:8], 16) for attempt in range(_ATTEMPTS)]


def _train_sample(
    space: DesignSpace, values: Values, seed: int, training: _Training
) -> DesignSample:
    import keras

    begun, parameters, error, message = time.monotonic(), 0, None, None
    keras.backend.clear_session()
    keras.mixed_precision.set_global_policy(training.settings.precision)  # which that clears, too
    keras.utils.set_random_seed(seed)
    try:
        tasks, strategy = space.project.tasks, training.strategy
        trainer = Trainer(
            lambda: space.build(values),
            tasks,
            strategy,
            train=training.settings,
            class_weights=training.class_weights,
        )
        parameters = sum(
            math.prod(variable.shape) for variable in trainer.model.trainable_variables
        )
        error = min(_losses(trainer, training, seed))
    except (
        Exception
    ) as failure:  # a model that fails is a finding about its space, whatever it fails of
        message = describe_error(failure)
    seconds = time.monotonic() - begun
    return DesignSample(
        space=space.name,
        values=values,
        error=error,
        parameters=parameters,
        seconds=seconds,
        message=message,
    )


def _losses(trainer: Trainer, training: _Training, seed: int) -> list[float]:
    """Gives the eval loss after each epoch."""
    train, features = training.settings, training.features
    batches = TrainingBatches(features, plan_batches(train, train.batch_size, seed))
    return quick_train(trainer, features, batches, training.epochs, training.rate)


def _read_finished(kept: UnfinishedWork) -> dict[str, DesignSample]:
    """Reads the samples that a comparison that was killed had finished, by their parts."""
    finished = {}
    for part in kept.parts():
        with suppress(ValidationError):  # of another form: it is trained again
            finished[part] = DesignSample.model_validate_json(kept.read(part) or b"")
    return finished
