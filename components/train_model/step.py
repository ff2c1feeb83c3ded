"""Trains one instance from the stabilised weights and exports it as a SavedModel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from components.stabilise_weights.step import WEIGHTS_FILE
from components.tune_model.step import read_hyperparameters
from perennial.digests import digest_folder
from perennial.errors import TrainingError
from perennial.modelling.export import export_model
from perennial.modelling.features import TransformedFeatures, batches
from perennial.modelling.loop import Trainer, checked_build, choose_strategy
from perennial.project import Project
from perennial.publishing import publish_text
from perennial.user_module import load_module
from schemas.records import Epoch, Hyperparameters, Instance, Training

if TYPE_CHECKING:
    import tensorflow as tf

SAVED_MODEL = "saved_model"
RECORD_FILE = "training.json"

Split = tuple["dict[str, tf.Tensor]", "tf.Tensor"]


@dataclass(frozen=True)
class Inputs:
    """Folders that the steps before left: transformed features, stabilised weights, hyperparameters."""

    features: Path
    weights: Path
    hyperparameters: Path


def train_model(project: Project, instance: Instance, inputs: Inputs, output: Path) -> Training:
    """Trains until the eval loss has not fallen for `train.patience` epochs; exports the best epoch's weights.

    Writes `output/saved_model/` and a record of the training with the SavedModel's SHA-256.

    Raises:
        ProjectError: The model does not build.
        TrainingError: The loss is not finite.
    """
    import keras

    output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(instance.seed)
    transformed = TransformedFeatures(inputs.features, project.settings.label)
    parameters = read_hyperparameters(inputs.hyperparameters)
    train, held_out = transformed.split("train"), transformed.split("eval")
    trainer = _make_trainer(project, transformed, train, parameters)
    trainer.model.load_weights(inputs.weights / WEIGHTS_FILE)
    epochs, best = _fit(trainer, project, train, held_out, parameters, instance.seed)
    export_model(trainer.model, transformed.transform_output(), project.schema, output / SAVED_MODEL)
    record = Training(
        instance=instance,
        strategy=project.settings.train.strategy,
        replicas=trainer.strategy.num_replicas_in_sync,
        parameters=sum(math.prod(variable.shape) for variable in trainer.model.trainable_variables),
        train_examples=int(train[1].shape[0]),
        eval_examples=int(held_out[1].shape[0]),
        hyperparameters=parameters,
        epochs=epochs,
        best_epoch=best,
        digest=digest_folder(output / SAVED_MODEL),
    )
    publish_text(record.model_dump_json(indent=2), output / RECORD_FILE)
    return record


def read_training(folder: Path) -> Training:
    """The record that `train_model` left in a folder."""
    return Training.model_validate_json((folder / RECORD_FILE).read_text(encoding="utf-8"))


def should_stop(losses: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` epochs all failed to beat the lowest loss before them."""
    return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def _make_trainer(
    project: Project, transformed: TransformedFeatures, train: Split, parameters: Hyperparameters
) -> Trainer:
    module, graph = load_module(project.module_path), transformed.transform_output()
    features, labels = train
    probe = {name: values[:2] for name, values in features.items()}
    strategy = choose_strategy(project.settings.train.strategy)
    return Trainer(lambda: checked_build(module, graph, probe, labels), strategy, parameters.learning_rate)


def _fit(
    trainer: Trainer, project: Project, train: Split, held_out: Split, parameters: Hyperparameters, seed: int
) -> tuple[list[Epoch], int]:
    """Trains; gives the epochs and the index of the best, whose weights the model then has."""
    dataset = trainer.distribute(batches(*train, parameters.batch_size, seed))
    epochs: list[Epoch] = []
    best, weights = 0, trainer.model.get_weights()
    for _ in range(project.settings.train.epochs):
        loss = fmean(trainer.train_step(*batch).loss for batch in dataset)
        eval_loss, eval_accuracy = trainer.measure(*held_out)
        epochs.append(Epoch(train_loss=loss, eval_loss=_finite(eval_loss), eval_accuracy=eval_accuracy))
        if eval_loss <= epochs[best].eval_loss:
            best, weights = len(epochs) - 1, trainer.model.get_weights()
        if should_stop([epoch.eval_loss for epoch in epochs], project.settings.train.patience):
            break
    trainer.model.set_weights(weights)
    return epochs, best


def _finite(loss: float) -> float:
    if not math.isfinite(loss):
        remedy = "Check the features' range in preprocessing_fn, or lower train.learning_rate."
        raise TrainingError("eval loss", "must be finite", loss, remedy)
    return loss
