"""The served model of a user's `run_fn`: what it saved within ours, with our signatures."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.errors import ProjectError, TrainingError, describe_error
from perennial.export.contract import EXTRA, write_contract
from perennial.export.saved_model import (
    EXAMPLES_SIGNATURE,
    LABELS_SIGNATURE,
    SERVING_SIGNATURE,
    Tensors,
    labels_signature,
    make_contract,
    named_outputs,
    serving_signatures,
)
from perennial.export.served_model import ServedModel
from perennial.export.temperature_scaling import fit_temperatures
from perennial.project import Project
from perennial.tasks import LATENT
from perennial.tfx_module.outputs import TaskOutput, check_classes, choose_outputs, decide_forms
from perennial.tfx_module.signature import (
    Arrays,
    UserSignature,
    find_signature,
    first_rows,
    probe_rows,
)
from perennial.training.transformed_features import TransformedFeatures

if TYPE_CHECKING:
    import tensorflow as tf

USER_MODEL = "user_model"
# What `model.save` of Keras 2 adds to a SavedModel: layers and functions for Keras to call. Only
# `tf.keras.models.load_model` reads it.
_KERAS_CODE = "keras_metadata.pb"
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_LABELS_READ = 2000
# Examples of the eval split that tell logits from probabilities.
_DECIDED_ON = 10_000
_BATCH = 512


@dataclass(frozen=True)
class WrappedModel:
    """The served model as it was saved, still in memory, and what a person should know of it."""

    served: ServedModel
    notes: list[str]


def wrap_model(
    project: Project,
    features: TransformedFeatures,
    where: str,
    saved: Path,
    output: Path,
    held_out: Sequence[str],
) -> WrappedModel:
    """Writes a SavedModel around a user's, with the signatures and contract of `export_model`.

    The user's own stays in it (`user_model`), as the base of later models; nothing refers to the
    folder `saved`.

    Args:
        project: Whose tasks and schema decide.
        features: What `transform_features` left; its graph computes the labels.
        where: Where the `run_fn` stands, for messages.
        saved: The user's SavedModel.
        output: Folder to make.
        held_out: Gzipped TFRecords of the raw examples of the eval split, which it is calibrated
            on.

    Raises:
        ProjectError: The user's SavedModel cannot be loaded, or does not fit what clients send or
            the tasks.
        TrainingError: It holds or gives NaN.
    """
    import tensorflow as tf

    module = tf.Module()
    module.user = _load(saved, where)
    rows = first_rows(project.schema, list(_raw_examples(held_out).take(2).as_numpy_iterator()))
    signature = find_signature(module.user, project.schema, where, rows)
    chosen, latent, probed = _outputs(signature, project, features, rows)
    answered = _own_answers(signature, chosen, project, held_out)
    chosen, notes = decide_forms(chosen, chain([probed], answered), where)

    def answer(raw: Tensors) -> Tensors:
        given = signature(raw)
        outputs = {output.task.name: output.read(given) for output in chosen}
        return (
            outputs
            if latent is None
            else {**outputs, LATENT: tf.reshape(given[LATENT], [-1, latent])}
        )

    labels = labels_signature(features.transform_within(module), project)
    calibrated = fit_temperatures(project, _eval_answers(answer, labels, project, held_out))

    def predict(raw: Tensors) -> Tensors:
        return named_outputs(answer(raw), project.tasks, calibrated.temperatures)

    signatures = {**serving_signatures(predict, project.schema), LABELS_SIGNATURE: labels}
    shutil.rmtree(output, ignore_errors=True)  # of an attempt that was killed
    tf.saved_model.save(module, str(output), signatures=signatures)
    contract = make_contract(signatures[EXAMPLES_SIGNATURE], project, calibrated.temperatures)
    write_contract(contract, output)
    shutil.copytree(saved, output / EXTRA / USER_MODEL, ignore=shutil.ignore_patterns(_KERAS_CODE))
    serve = signatures[SERVING_SIGNATURE]
    # A loaded SavedModel takes features as keyword arguments.
    by_keyword = {**signatures, SERVING_SIGNATURE: lambda **raw: serve(raw)}
    return WrappedModel(
        ServedModel(f"model of {where}", contract, by_keyword, module),
        [*notes, *calibrated.notes],
    )


def user_model(saved_model: Path) -> Path | None:
    """Gives the SavedModel that `run_fn` saved, inside the served one.

    None in a model that no `run_fn` made.
    """
    folder = saved_model / EXTRA / USER_MODEL
    return folder if folder.is_dir() else None


def _own_answers(
    signature: UserSignature,
    chosen: Sequence[TaskOutput],
    project: Project,
    held_out: Sequence[str],
) -> Iterator[Arrays]:
    """Predicts the first raw examples with a user's model; gives its own outputs, in batches."""
    predict = serving_signatures(signature, project.schema)[EXAMPLES_SIGNATURE]
    for examples in _raw_examples(held_out).take(_DECIDED_ON).batch(_BATCH):
        outputs = predict(examples=examples)
        yield {output.name: outputs[output.name].numpy() for output in chosen}


def _raw_examples(held_out: Sequence[str]) -> tf.data.Dataset:
    import tensorflow as tf

    return tf.data.TFRecordDataset(list(held_out), compression_type="GZIP")


def _eval_answers(
    answer: Callable[[Tensors], Tensors], labels: Any, project: Project, held_out: Sequence[str]
) -> Iterator[tuple[Tensors, Tensors]]:
    """Predicts labelled raw examples with a function of raw features.

    Gives outputs and labels, in batches by task.
    """
    predict = serving_signatures(answer, project.schema)[EXAMPLES_SIGNATURE]
    for examples in _raw_examples(held_out).batch(_BATCH):
        yield predict(examples=examples), labels(examples=examples)


def _load(saved: Path, where: str) -> Any:
    import tensorflow as tf

    _check_weights(saved, where)
    try:
        return tf.saved_model.load(str(saved))
    except Exception as error:  # whatever TensorFlow raises, these files are no model
        remedy = "Save it with tf.saved_model.save."
        raise ProjectError(
            where, "must save a model that TensorFlow loads", describe_error(error), remedy
        ) from error


def _check_weights(saved: Path, where: str) -> None:
    """Checks that no weight is NaN: with one, some rows may still get an answer."""
    import tensorflow as tf

    prefix = saved / "variables" / "variables"
    if not prefix.with_suffix(".index").is_file():
        return  # a model without variables
    reader = tf.train.load_checkpoint(str(prefix))
    for name, dtype in reader.get_variable_to_dtype_map().items():
        if dtype.is_floating and np.isnan(np.asarray(reader.get_tensor(name), np.float64)).any():
            remedy = (
                "Check the features' range in preprocessing_fn, or lower the learning rate in "
                "run_fn."
            )
            expected = "must save a model whose weights are numbers"
            raise TrainingError(where, expected, f"NaN in {name.removesuffix(_SUFFIX)}", remedy)


def _outputs(
    signature: UserSignature, project: Project, features: TransformedFeatures, rows: Arrays
) -> tuple[list[TaskOutput], int | None, Arrays]:
    """Tells which output belongs to which task, and the latent vector's length if there is one.

    Also gives the answers that tell so.
    """
    outputs, count = signature.try_on(rows), 2
    try:
        probes = probe_rows(project.schema)
        outputs = signature.try_on(probes)
        count = len(next(iter(probes.values())))
    except ProjectError:  # the schema's domains hold values that no client sends together
        pass
    chosen = choose_outputs(outputs, count, project.tasks, signature.where)
    _, labels = features.sample("train", _LABELS_READ)
    highest = {name: int(np.max(values)) for name, values in labels.items()}
    check_classes(chosen, highest, signature.where)
    latent = outputs.get(LATENT)
    length = math.prod(latent.shape[1:]) if latent is not None and latent.ndim > 1 else None
    return chosen, length, outputs
