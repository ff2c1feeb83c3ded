"""Temperature scaling of models that were trained; runs in processes of their own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from perennial.project import Project
from tests.chain import Chain, with_settings
from tests.kinds import Kind

# What makes a model three times as sure as it was.
SHARPENED = 3.0


def calibrated(project: Project) -> Project:
    """The project with temperature scaling."""
    return with_settings(project, "model", calibration="temperature")


def export_overconfident(kind: Kind, folder: Path) -> dict[str, Any]:
    """A model with several tasks whose classes are too sure, exported as it is (`plain`) and calibrated (`scaled`)."""
    from perennial.export.saved_model import export_model, read_exported_weights
    from perennial.export.temperature_scaling import eval_answers, fit_temperatures
    from perennial.training.model_builder import ModelBuilder
    from perennial.training.transformed_features import TransformedFeatures
    from perennial.training.weights import assign_weights, weights_of

    project = calibrated(kind.project)
    features = TransformedFeatures(kind.folder / "features", project.tasks)
    model = ModelBuilder(project, features).build()
    assign_weights(model, read_exported_weights(kind.models[0] / "saved_model"))
    head = model.output["severe"]._keras_history[0]
    head.set_weights([SHARPENED * array for array in head.get_weights()])
    fitted = fit_temperatures(project, eval_answers(model, features))
    assert (
        fit_temperatures(kind.project, iter([])).temperatures == {}
    )  # nothing is read where none is wanted
    export_model(model, project, features, folder / "plain")
    export_model(model, project, features, folder / "scaled", fitted.temperatures)
    weights = {name: read_exported_weights(folder / name) for name in ("plain", "scaled")}
    trained = weights_of(model)
    same = [
        all(np.array_equal(array, found[name]) for name, array in trained.items())
        for found in weights.values()
    ]
    answers = {
        name: answers_of(folder / name, kind.window, "train", "test")
        for name in ("plain", "scaled")
    }
    return {**answers, "fitted": fitted, "weights unchanged": all(same)}


def answers_of(saved_model: Path, window: Path, *splits: str) -> dict[str, Any]:
    """What a model's signatures give for the window's examples, and its contract."""
    import tensorflow as tf

    from perennial.data.examples import read_records, split_files
    from perennial.export.saved_model import EXAMPLES_SIGNATURE, LABELS_SIGNATURE
    from perennial.export.served_model import ServedModel

    examples = tf.constant(list(read_records(split_files(window, *splits))))
    model = ServedModel.load(saved_model)
    outputs = model.signature(EXAMPLES_SIGNATURE)(examples=examples)
    labels = model.signature(LABELS_SIGNATURE)(examples=examples)
    return {
        "outputs": {name: value.numpy() for name, value in outputs.items()},
        "labels": {name: value.numpy() for name, value in labels.items()},
        "contract": model.contract,
    }


def evaluations(kind: Kind, models: Path, folder: Path) -> list[str]:
    """Evaluations with the predictions of the calibrated model and of the plain one.

    The first is the candidate.
    """
    from perennial.evaluation.prediction_table import read_examples, read_table, table_file
    from perennial.export.served_model import ServedModel
    from schemas.records import Evaluation

    record, records, found = (
        Evaluation.read(kind.evaluation),
        read_examples(kind.window, "id", []).records,
        [],
    )
    for name in ("scaled", "plain"):
        found.append(folder / f"evaluation of {name}")
        shutil.copytree(kind.evaluation, found[-1])
        for task, given in ServedModel.load(models / name).predict_examples(records).items():
            table = read_table(kind.evaluation, record, task)
            table[record.candidate] = list(given) if given.ndim > 1 else given
            table.to_parquet(found[-1] / table_file(task, record.tasks[0].name))
    shutil.copytree(models / "scaled", folder / "candidate" / "saved_model")
    return [str(path) for path in found]


def train_calibrated(
    project: Project, by_run_fn: Project, chain: Chain, folder: Path
) -> dict[str, Any]:
    """Case -> the training of a calibrated instance, and what its model gives for the test split."""
    from perennial.registry.versions import Candidate, Registry
    from perennial.training.artifacts import SAVED_MODEL
    from schemas.records import Champion, Instance
    from tests.components.train_model.jobs import COLD, train

    wanted, found = calibrated(project), {}
    found["plain"] = train(project, chain, folder / "plain", COLD)
    found["scaled"] = train(wanted, chain, folder / "scaled", COLD)
    saved = folder / "scaled" / SAVED_MODEL
    version = Registry(wanted).register(
        Candidate(saved, found["scaled"].digest, {}, {}, {}, {"run": "run-0"})
    )
    champion = Champion(version=version.version, digest=found["scaled"].digest, deployment=1)
    patched = Instance(name="patched-1", seed=18, start="patched")
    found["patched"] = train(wanted, chain, folder / "patched", patched, champion)
    found["run_fn"] = train(by_run_fn, chain, folder / "run_fn", COLD)
    found["run_fn scaled"] = train(calibrated(by_run_fn), chain, folder / "run_fn scaled", COLD)
    return {
        case: {"record": record, **answers_of(folder / case / SAVED_MODEL, chain.window, "test")}
        for case, record in found.items()
    }
