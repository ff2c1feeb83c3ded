"""Pretrains the learner without labels, so that its weights know the data before the task."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.pretrain_learner.pool import Pool, make_pool
from components.pretrain_learner.pretext_features import choose_features, held_by, make_pretext
from components.pretrain_learner.pretext_trainer import Learner, Learnt
from components.pretrain_learner.transformed_rows import transform_rows
from components.pretrain_learner.unlabelled_rows import UnlabelledRows
from perennial.project import Project
from perennial.training.artifacts import WEIGHTS_FILE
from perennial.training.hyperparameters import one_process, settings_hyperparameters
from perennial.training.model_builder import ModelBuilder, trunk
from perennial.training.strategy import choose_strategy
from perennial.training.trainer import learning_rate_of
from perennial.training.transformed_features import TransformedFeatures
from perennial.training.weights import save_weights
from schemas.records import Pretraining

if TYPE_CHECKING:
    import keras


def pretrain_learner(project: Project, features: Path, output: Path) -> Pretraining:
    """Pretrains the user's model up to its latent vector on the pretext of the settings.

    It needs no labels.

    It learns from the train split and from all files of `data.unlabelled`, but for a tenth that it
    is measured on; the epoch that does best there is kept. What cannot be read of the unlabelled
    files stands in the notes. Writes `output/weights.npz` with the weights by their paths in the
    user's model, and `output/pretraining.json`.

    Args:
        project: Its module builds the model, with the defaults of its hyperparameters.
        features: Folder of `transform_features`.
        output: Folder that is written.

    Raises:
        ProjectError: No feature fits the pretext, or the model does not build.
        TrainingError: A loss is not finite.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / WEIGHTS_FILE).unlink(missing_ok=True)  # of an attempt that was killed
    record = _pretrain(project, TransformedFeatures(features, project.tasks), output)
    record.write(output)
    return record


def _pretrain(project: Project, features: TransformedFeatures, output: Path) -> Pretraining:
    import keras

    settings = project.settings
    train = one_process(settings.train)
    strategy = choose_strategy(train)
    keras.utils.set_random_seed(train.seed)
    with strategy.scope():
        learner = _build_trunk(project, features)
    spec = _read_features(learner, features)
    names = choose_features(settings.pretext, held_by(spec))
    with tempfile.TemporaryDirectory(dir=output) as temporary:
        pool, unlabelled, notes = _gather(project, features, spec, Path(temporary))
        pretext = make_pretext(settings.pretext, names, held_by(spec), pool)
        rate = learning_rate_of(train, settings_hyperparameters(settings))
        learnt = Learner(learner, pretext, strategy, train, rate).learn(
            pool, settings.pretext.epochs
        )
    save_weights(learnt.weights, output / WEIGHTS_FILE)
    return _record(project, learner, learnt, pool, unlabelled, notes)


def _build_trunk(project: Project, features: TransformedFeatures) -> keras.Model:
    builder = ModelBuilder(project, features)
    model = builder.build()
    builder.check(model)
    return trunk(model, project.settings.model.latent)


def _read_features(learner: keras.Model, features: TransformedFeatures) -> dict[str, Any]:
    """Tells how the features that the learner reads are parsed; labels are left out."""
    spec = features.transform_output().transformed_feature_spec()
    labels = {task.label for task in features.tasks}.union(features.weight_features())
    given = learner.input
    return {
        name: kind
        for name, kind in spec.items()
        if name not in labels and (not isinstance(given, dict) or name in given)
    }


def _gather(
    project: Project, features: TransformedFeatures, spec: dict[str, Any], temporary: Path
) -> tuple[Pool, int, list[str]]:
    """Gathers what is learnt from.

    Gives it, how much of it is unlabelled, and what a person should know of that.
    """
    features.count("train")
    file = temporary / "unlabelled.gz"
    rows = UnlabelledRows(project)
    unlabelled = transform_rows(project, features, rows, list(spec), file)
    files = features.files("train") + ([str(file)] if unlabelled else [])
    return make_pool(files, spec), unlabelled, rows.notes


def _record(
    project: Project,
    learner: keras.Model,
    learnt: Learnt,
    pool: Pool,
    unlabelled: int,
    notes: list[str],
) -> Pretraining:
    return Pretraining(
        task=project.settings.pretext.task,
        examples=pool.count,
        unlabelled=unlabelled,
        losses=learnt.losses,
        held_out_losses=learnt.held_out_losses,
        parameters=sum(math.prod(variable.shape) for variable in learner.trainable_variables),
        notes=notes,
    )
