"""Instances of a module with TFX's `run_fn`, which trains by itself.

What it saved is measured as it serves.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.train_model.initial_weights import champion_folder
from components.train_model.job import Job
from perennial.data.examples import split_files
from perennial.errors import RegistryError, TrainingError
from perennial.evaluation.prediction_table import read_weights
from perennial.export.saved_model import EXAMPLES_SIGNATURE
from perennial.export.served_model import Array, ServedModel
from perennial.storage.digests import digest_folder
from perennial.tasks import Task
from perennial.training.artifacts import LOGS, SAVED_MODEL
from perennial.training.finite_values import naming_not_finite
from perennial.training.losses import example_losses, example_scores, example_weights
from perennial.training.trainer import Measured
from perennial.training.transformed_features import TransformedFeatures
from perennial.user_module import function_line
from schemas.records import Epoch, Training

if TYPE_CHECKING:
    import tensorflow as tf

# The train loss is for comparison with the eval loss alone.
_MOST_TRAIN = 10_000
_BATCH = 512


def train_by_calling(job: Job, window: Path) -> Training:
    """Calls the user's `run_fn`; measures the served model on raw examples of the window.

    Publishes the record.

    Raises:
        ProjectError: `run_fn` fails, or saves nothing that can be served; or training fails, and
            transformed values are NaN or infinite.
        TrainingError: The loss is not finite, or the model does not take an example.
        IntegrityError: The champion that it starts from is not the one that was evaluated.
    """
    from perennial.tfx_module.run_fn import train_by_run_fn

    project, began = job.project, time.monotonic()
    features = TransformedFeatures(job.features, project.tasks)
    base, notes = _base_model(job)
    output = job.output / SAVED_MODEL
    work, logs, held_out = (
        job.local_folder / "run_fn",
        job.output / LOGS,
        split_files(window, "eval"),
    )
    with naming_not_finite(project, features):
        # It is measured by the functions that were saved: to load them again would take seconds.
        wrapped = train_by_run_fn(
            project, job.instance, features, job.hyperparameters, base, work, logs, output, held_out
        )
        model = wrapped.served
        train, evaluated = (
            measure_served(model, split_files(window, split), project.tasks, most)
            for split, most in (("train", _MOST_TRAIN), ("eval", None))
        )
        epoch = Epoch(train_loss=train.loss, eval_loss=evaluated.loss, eval_metric=evaluated.metric)
        _check_finite(job, epoch)
    record = Training(
        instance=job.instance,
        strategy="run_fn",
        replicas=1,
        parameters=count_parameters(model),
        train_examples=features.count("train"),
        eval_examples=features.count("eval"),
        hyperparameters=job.hyperparameters,
        metric=project.tasks[0].metric,
        epochs=[epoch],
        best_epoch=0,
        weights_from="draw" if base is None else "champion",
        seconds=time.monotonic() - began,
        notes=[*notes, *wrapped.notes],
        digest=digest_folder(output),
    )
    record.write(job.output)
    return record


def measure_served(
    model: ServedModel, files: list[str], tasks: Sequence[Task], most: int | None = None
) -> Measured:
    """Measures a served model's weighted mean loss and first metric on raw examples.

    Args:
        model: The model.
        files: Gzipped TFRecords of labelled raw examples.
        tasks: What it predicts.
        most: How many examples are measured, from the first; None: all.

    Raises:
        TrainingError: The model does not take an example.
    """
    import tensorflow as tf

    records = tf.data.TFRecordDataset(files, compression_type="GZIP").take(
        -1 if most is None else most
    )
    losses, weights = dict.fromkeys(tasks, 0.0), dict.fromkeys(tasks, 0.0)
    metric, first = 0.0, tasks[0]
    for examples in records.batch(_BATCH).as_numpy_iterator():
        labels = {
            name: tf.constant(values) for name, values in model.label_examples(examples).items()
        }
        counting = read_weights(tasks, list(examples))
        labels |= {
            task.weights: tf.constant(values, tf.float32) for task, values in counting.items()
        }
        predictions = model.predict_examples(examples)
        for task in tasks:
            output = _model_output(task, predictions[task.name])
            weight, label = example_weights(task, labels), labels[task.name]
            losses[task] += float(tf.reduce_sum(weight * example_losses(task, label, output)))
            weights[task] += float(tf.reduce_sum(weight))
            if task == first:
                metric += float(tf.reduce_sum(weight * example_scores(task, label, output)))
    means = {task: losses[task] / weights[task] if weights[task] else 0.0 for task in tasks}
    loss = sum(task.weight * mean for task, mean in means.items())
    return Measured(loss, metric / weights[first] if weights[first] else 0.0)


def count_parameters(model: ServedModel) -> int:
    """Counts the trainable weights that a model's function for examples holds."""
    trainable = model.signature(EXAMPLES_SIGNATURE).trainable_variables
    return sum(int(variable.shape.num_elements() or 0) for variable in trainable)


def _model_output(task: Task, predictions: Array) -> tf.Tensor:
    """Gives predictions as training has them: [n, classes], or [n, 1] if binary or a value."""
    import tensorflow as tf

    if task.kind == "regression":
        return tf.constant(predictions[:, None])
    return tf.constant(predictions[:, 1:] if task.kind == "binary" else predictions)


def _base_model(job: Job) -> tuple[Path | None, list[str]]:
    """Finds the champion's own model for `fn_args.base_model`, if the instance starts from it."""
    from perennial.tfx_module.wrapped_model import user_model

    if job.instance.start == "cold":
        return None, []
    if job.champion is None:
        return None, ["there is no champion to patch yet; run_fn was given no base_model"]
    try:
        folder = user_model(champion_folder(job.project, job.champion))
    except RegistryError as error:
        return None, [
            f"champion version {job.champion.version} could not be patched: {error}; run_fn "
            "trained anew"
        ]
    if folder is None:
        return None, [
            f"champion version {job.champion.version} holds no model of run_fn; run_fn trained anew"
        ]
    return folder, []


def _check_finite(job: Job, epoch: Epoch) -> None:
    import math

    if not math.isfinite(epoch.eval_loss) or not math.isfinite(epoch.train_loss):
        where = f"eval loss of {job.instance.name} ({function_line(job.project.module().run_fn)})"
        module = job.project.module()
        raise TrainingError(
            where=where,
            expected="must be finite",
            received=epoch.eval_loss,
            remedy=f"Check the features' range in {function_line(module.preprocessing_fn)}, or "
            "its learning rate.",
        )
