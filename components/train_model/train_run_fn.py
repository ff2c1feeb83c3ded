"""Instances of a module with TFX's `run_fn`, which trains by itself.

What it saved is measured as it serves.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.train_model.initial_weights import champion_folder
from components.train_model.instance import RECORD_FILE, SAVED_MODEL
from components.train_model.job import Job
from components.train_model.logs import LOGS
from perennial.data.examples import split_files
from perennial.errors import RegistryError, TrainingError
from perennial.export.saved_model import EXAMPLES_SIGNATURE, LABELS_SIGNATURE
from perennial.storage.atomic import publish_text
from perennial.storage.digests import digest_folder
from perennial.tasks import Task, output_name
from perennial.training.losses import example_scores, total_losses
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
        ProjectError: `run_fn` fails, or saves nothing that can be served.
        TrainingError: The model's loss is not finite.
        IntegrityError: The champion that it starts from is not the one that was evaluated.
    """
    import tensorflow as tf

    from perennial.tfx_module.run_fn import train_by_run_fn

    project, began = job.project, time.monotonic()
    features = TransformedFeatures(job.features, project.tasks)
    base, notes = _base_model(job)
    output = job.output / SAVED_MODEL
    work, logs, held_out = job.checkpoints.folder / "run_fn", job.output / LOGS, split_files(window, "eval")
    notes += train_by_run_fn(project, job.instance, features, job.hyperparameters, base, work, logs, output, held_out)
    model = tf.saved_model.load(str(output))  # once: it takes seconds
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
        seconds=time.monotonic() - began,
        notes=notes,
        digest=digest_folder(output),
    )
    publish_text(record.model_dump_json(indent=2), job.output / RECORD_FILE)
    return record


def measure_served(model: Any, files: list[str], tasks: Sequence[Task], most: int | None = None) -> Measured:
    """Measures a served model's weighted mean loss and first metric on raw examples.

    Args:
        model: The loaded SavedModel.
        files: Gzipped TFRecords of labelled raw examples.
        tasks: What it predicts.
        most: How many examples are measured, from the first; None: all.
    """
    import tensorflow as tf

    predict, label = model.signatures[EXAMPLES_SIGNATURE], model.signatures[LABELS_SIGNATURE]
    records = tf.data.TFRecordDataset(files, compression_type="GZIP").take(-1 if most is None else most)
    loss = metric = count = 0.0
    for examples in records.batch(_BATCH):
        labels = label(examples=examples)
        outputs = _model_outputs(predict(examples=examples), tasks)
        loss += float(tf.reduce_sum(total_losses(tasks, labels, outputs)))
        first = tasks[0]
        metric += float(tf.reduce_sum(example_scores(first, labels[first.name], outputs[first.name])))
        count += int(tf.shape(examples)[0])
    return Measured(loss / max(count, 1), metric / max(count, 1))


def count_parameters(model: Any) -> int:
    """Counts the trainable weights that a loaded SavedModel's function holds."""
    trainable = model.signatures[EXAMPLES_SIGNATURE].trainable_variables
    return sum(int(variable.shape.num_elements() or 0) for variable in trainable)


def _model_outputs(served: dict[str, tf.Tensor], tasks: Sequence[Task]) -> dict[str, tf.Tensor]:
    """Gives what a model computed for each task, from what is served.

    It is [n, classes], or [n, 1] for a probability or a value.
    """
    import tensorflow as tf

    names, outputs = [task.name for task in tasks], {}
    for task in tasks:
        if task.kind == "regression":
            outputs[task.name] = tf.reshape(served[output_name(names, task.name, "value")], [-1, 1])
            continue
        probabilities = served[output_name(names, task.name, "probabilities")]
        outputs[task.name] = probabilities[:, 1:] if task.kind == "binary" else probabilities
    return outputs


def _base_model(job: Job) -> tuple[Path | None, list[str]]:
    """Gives the path for `fn_args.base_model`, and notes.

    It is the champion's own model where the instance starts from it.
    """
    from perennial.tfx_module.wrapped_model import user_model

    if job.instance.start == "cold":
        return None, []
    if job.champion is None:
        return None, ["there is no champion to patch yet; run_fn was given no base_model"]
    try:
        folder = user_model(champion_folder(job.project, job.champion))
    except RegistryError as error:
        return None, [f"champion version {job.champion.version} could not be patched: {error}; run_fn trained anew"]
    if folder is None:
        return None, [f"champion version {job.champion.version} holds no model of run_fn; run_fn trained anew"]
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
            remedy=f"Check the features' range in {function_line(module.preprocessing_fn)}, or its learning rate.",
        )
