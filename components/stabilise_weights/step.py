"""Finds initial weights that train stably, before anything is tuned.

Several draws of initial weights are trained briefly while the learning rate warms up; the draw that
is numerically healthy and reaches the lowest loss goes on.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.stabilise_weights.dead_units import dead_units
from perennial.errors import TrainingError
from perennial.project import Project
from perennial.training.artifacts import WEIGHTS_FILE
from perennial.training.batches import TrainingBatches
from perennial.training.hyperparameters import (
    balance_classes,
    one_process,
    plan_batches,
    settings_hyperparameters,
    space_digest,
)
from perennial.training.model_builder import ModelBuilder
from perennial.training.strategy import choose_strategy
from perennial.training.trainer import REMEDY, Trainer, learning_rate_of, warm_up
from perennial.training.transformed_features import TransformedFeatures
from perennial.training.weight_draws import choose_draw, measure_draw
from perennial.training.weights import (
    Weights,
    assign_weights,
    load_weights,
    save_weights,
    weights_of,
)
from perennial.user_module import function_line
from schemas.project import TrainSettings
from schemas.records import Hyperparameters, Stabilisation, Tuned, WeightDraw

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_PROBED = 256


@dataclass(frozen=True)
class Drawing:
    """Everything that all draws share."""

    project: Project
    features: TransformedFeatures
    hyperparameters: Hyperparameters
    pretrained: Weights
    strategy: tf.distribute.Strategy
    train: TrainSettings
    class_weights: list[float] | None


def stabilise_weights(
    project: Project, features: Path, pretrained: Path | None, tuned: Tuned | None, output: Path
) -> Stabilisation:
    """Trains `stabilise.draws` draws for `stabilise.steps` steps each.

    Keeps the weights of the best.

    Writes `output/weights.npz`, and a record of every draw.

    Args:
        project: Its module builds the model.
        features: Folder of `transform_features`.
        pretrained: Folder of `pretrain_learner`, of whose weights each draw takes those that fit;
            None: there was no pretraining.
        tuned: An earlier search, whose best hyperparameters the model has where they are still of
            the same space.
        output: Folder that is written.

    Raises:
        ProjectError: The model does not build, or does not fit the features and the tasks.
        TrainingError: No draw stays finite.
    """
    output.mkdir(parents=True, exist_ok=True)
    record = _choose_weights(
        _prepare(project, TransformedFeatures(features, project.tasks), pretrained, tuned), output
    )
    record.write(output)
    return record


def _prepare(
    project: Project, features: TransformedFeatures, pretrained: Path | None, tuned: Tuned | None
) -> Drawing:
    fits = tuned is not None and tuned.space == space_digest(project)
    hyperparameters = (
        tuned.best[0] if tuned is not None and fits else settings_hyperparameters(project.settings)
    )
    train = one_process(project.settings.train)
    weights = load_weights(pretrained / WEIGHTS_FILE) if pretrained is not None else {}
    balance = balance_classes(features, train)
    return Drawing(
        project, features, hyperparameters, weights, choose_strategy(train), train, balance
    )


def _choose_weights(drawing: Drawing, output: Path) -> Stabilisation:
    settings = drawing.project.settings
    draws: list[WeightDraw] = []
    loaded: list[int] = []
    # Which draw is chosen is known only after the last: the weights of all are kept until then, on
    # the disk.
    with tempfile.TemporaryDirectory(dir=output) as temporary:
        files = [Path(temporary) / f"{number}.npz" for number in range(settings.stabilise.draws)]
        for number, file in enumerate(files):
            draw, fitted, weights = _train_draw(drawing, settings.train.seed + number)
            save_weights(weights, file)
            draws.append(draw)
            loaded.append(fitted)
        chosen = choose_draw(draws)
        if not draws[chosen].finite:
            where = function_line(drawing.project.module().build_model)
            raise TrainingError(
                where, "must train with a finite loss", f"none of {len(draws)} draws did", REMEDY
            )
        files[chosen].replace(output / WEIGHTS_FILE)
    return Stabilisation(draws=draws, chosen=chosen, pretrained=loaded[chosen])


def _train_draw(drawing: Drawing, seed: int) -> tuple[WeightDraw, int, Weights]:
    """Trains a draw.

    Gives its record, how many of its weights came from pretraining, and its last weights.
    """
    import keras
    import numpy as np

    train, features, steps = (
        drawing.train,
        drawing.features,
        drawing.project.settings.stabilise.steps,
    )
    keras.utils.set_random_seed(seed)
    trainer = Trainer(
        lambda: _build(drawing), features.tasks, drawing.strategy, train, drawing.class_weights
    )
    fitted = assign_weights(trainer.model, drawing.pretrained)
    trainer.feed(
        TrainingBatches(features, plan_batches(train, drawing.hyperparameters.batch_size, seed))
    )
    rate = learning_rate_of(train, drawing.hyperparameters)
    try:
        trainer.train([warm_up(step, steps // 2, rate) for step in range(steps)])
        finite = True
    except TrainingError:
        finite = False
    weights = weights_of(trainer.model)
    finite = finite and all(np.isfinite(values).all() for values in weights.values())
    dead = dead_units(trainer.model, features.sample("train", _PROBED)[0])
    return measure_draw(seed, trainer.history, finite, dead), len(fitted.assigned), weights


def _build(drawing: Drawing) -> keras.Model:
    builder = ModelBuilder(drawing.project, drawing.features)
    model = builder.build(drawing.hyperparameters.model)
    builder.check(model)
    return model
