"""What the tests of `probe_model` run in processes of their own: everything with TensorFlow."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from components.probe_model.gradients import Explanations
from components.probe_model.step import probe_model
from perennial.project import Project
from perennial.storage.digests import digest_folder
from schemas.project import CovariateSettings, EvaluateSettings, ExplainSettings, FeatureSettings
from schemas.records import Probing
from tests.forked import import_wrapper
from tests.kinds import Kind
from tests.stored import FileArtifact, publish, stage

Features = dict[str, np.ndarray[Any, np.dtype[Any]]]


def explain_linear(features: Features, weights: list[float]) -> Explanations:
    """A linear model of `numbers` [n, d], which is also given `ignored`."""
    import tensorflow as tf

    from components.probe_model.gradients import average_example, explain

    def answer(given: Any) -> Any:
        return tf.linalg.matvec(given["numbers"], tf.constant(weights)) + 5.0

    return explain(answer, features, average_example(features), 8)


def explain_classes(features: Features, steps: int) -> Explanations:
    """A softmax of `numbers` [n, 3], of which each is squared, and of an embedding of `word` int64 [n]."""
    import tensorflow as tf

    from components.probe_model.gradients import average_example, explain

    words = tf.constant([[0.0, 0.0, 0.0], [2.0, 0.0, -1.0], [0.0, -2.0, 1.0]])

    def answer(given: Any) -> Any:
        return tf.nn.softmax(given["numbers"] ** 2 + tf.gather(words, given["word"]))

    return explain(answer, features, average_example(features), steps)


def compare_columns(kind: Kind) -> dict[str, Any]:
    """The candidate's predictions by columns and by serialised examples, and through its two halves."""
    import tensorflow as tf

    from components.probe_model.probed_model import read_columns
    from perennial.evaluation.prediction_table import read_examples
    from perennial.export.served_model import ServedModel

    folder, records = kind.candidate / "saved_model", read_examples(kind.window, "id", []).records
    task, model = kind.project.tasks[0].name, ServedModel.load(folder)
    assert model.halves is not None
    transformed = model.halves.transform(tf.constant(records))
    columns = read_columns(model.contract, records)
    return {
        "examples": model.predict_examples(records)[task],
        "columns": model.predict_columns(columns)[task],
        "halves": model.halves.predict(transformed)[model.outputs[task]].numpy(),
        "latent": model.latent_columns(columns),
        "pressure": columns["pressure"],
    }


def probe_kind(
    kind: Kind, output: Path, settings: EvaluateSettings, costs: dict[str, float]
) -> Probing:
    """The step on one kind's candidate, with its own settings `evaluate`, and with features that cost something."""
    project = replace(
        kind.project, settings=kind.project.settings.model_copy(update={"evaluate": settings})
    )
    features = {name: FeatureSettings(cost=cost) for name, cost in costs.items()}
    project = replace(project, settings=project.settings.model_copy(update={"features": features}))
    return probe_model(project, kind.window, kind.evaluation, kind.candidate, output)


def probe_without_halves(kind: Kind, folder: Path) -> Probing:
    """The step on a candidate whose SavedModel has signatures only, as those of `run_fn` and of older versions."""
    import tensorflow as tf

    from schemas.records import Evaluation

    module = tf.Module()
    module.inner = tf.saved_model.load(str(kind.candidate / "saved_model"))
    saved = folder / "model" / "saved_model"
    tf.saved_model.save(module, str(saved), signatures=dict(module.inner.signatures))
    shutil.copytree(kind.candidate / "saved_model" / "assets.extra", saved / "assets.extra")
    shutil.copytree(kind.evaluation, folder / "evaluation")
    judged = Evaluation.read(kind.evaluation).model_copy(update={"digest": digest_folder(saved)})
    judged.write(folder / "evaluation")
    settings = EvaluateSettings(
        covariates=CovariateSettings(features=["sex"]), explain=ExplainSettings(repeats=2, steps=8)
    )
    project = replace(
        kind.project, settings=kind.project.settings.model_copy(update={"evaluate": settings})
    )
    return probe_model(
        project, kind.window, folder / "evaluation", folder / "model", folder / "probing"
    )


def call_wrapper(project: Project, digest: str, folders: list[Path], output: Path) -> None:
    """The Kubeflow wrapper on folders: window, evaluation and model; fills the output folder."""
    with tempfile.TemporaryDirectory() as scratch:
        probing = FileArtifact(Path(scratch))
        inputs = [publish(project, folder) for folder in folders]
        import_wrapper("probe_model").python_func(str(project.folder), digest, *inputs, probing)
        stage(project, probing, output)


def suspects_of(
    names: list[str],
    columns: Features,
    ignored: set[str],
    rows: list[dict[str, Any]],
    schema: str,
) -> Any:
    """What `find_suspects` makes of examples with these raw values."""
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    from components.probe_model.suspects import find_suspects
    from perennial.data.examples import to_example

    records = [to_example(row).SerializeToString() for row in rows]
    parsed = text_format.Parse(schema, schema_pb2.Schema())
    return find_suspects(names, columns, ignored, records, parsed)


def read_with_defaults() -> dict[str, Any]:
    """Columns of two examples, of which one lacks every feature that has a default."""
    from components.probe_model.probed_model import read_columns
    from perennial.data.examples import to_example
    from schemas.records import ModelContract, ServedFeature, ServedTask

    features = [
        ServedFeature(name="town", dtype="string", shape=[], default=["nowhere"]),
        ServedFeature(name="pair", dtype="float32", shape=[2], default=[1.5, 2.5]),
        ServedFeature(name="count", dtype="int64", shape=[1]),
    ]
    rows = [{"count": 3}, {"count": 4, "town": "Oslo", "pair": [0.0, 1.0]}]
    contract = ModelContract(features=features, tasks=[ServedTask(name="t", kind="regression")])
    return read_columns(contract, [to_example(row).SerializeToString() for row in rows])
