"""What runs in a warm process for the tests of `run_fn`.

Real taxi trips, and modules that train in their own way.
"""

from __future__ import annotations

import csv
import functools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from perennial.errors import PerennialError
from perennial.project import Project, load_project
from schemas.records import Hyperparameters, Instance
from tests.perennial.folders import TAXI

EXAMPLE = Path(__file__).parents[3] / "examples" / "taxi"
ROWS = 400
OPTIONAL = ("company", "pickup_latitude", "dropoff_census_tract", "trip_seconds")
SETTINGS = Hyperparameters(learning_rate=0.003, batch_size=32)

HEAD = '''
import tensorflow as tf
from tfx.examples.chicago_taxi_pipeline.taxi_utils_native_keras import preprocessing_fn

EXAMPLES = tf.TensorSpec([None], tf.string, name="examples")
FARE = {"fare": tf.io.FixedLenFeature([], tf.float32)}


def save(fn_args, predict, *specs, name="serving_default"):
    """Saves a model without training it."""
    model = tf.Module()
    model.weight = tf.Variable(0.01)
    model.serve = tf.function(lambda *inputs: predict(model.weight, *inputs))
    signature = model.serve.get_concrete_function(*(specs or [EXAMPLES]))
    tf.saved_model.save(model, fn_args.serving_model_dir, signatures={name: signature})


def fares(examples, **more):
    return tf.io.parse_example(examples, {**FARE, **more})["fare"]


'''


def taxi_project(folder: Path, module: str | None = None, **changes: Any) -> Project:
    """The taxi project; `module` is the text of a file that takes its module's place."""
    folder.mkdir(parents=True)
    for file in EXAMPLE.iterdir():
        if file.is_file():
            shutil.copy(file, folder / file.name)
    settings = yaml.safe_load((folder / "project.yaml").read_text())
    settings["run_fn"] = {"train_steps": 60, "eval_steps": 3}
    if module is not None:
        (folder / "module.py").write_text(HEAD + module)
        settings["model"]["module"] = "module.py"
    for section, values in changes.items():
        settings[section] = {**settings.get(section, {}), **values}
    (folder / "project.yaml").write_text(yaml.safe_dump(settings))
    return load_project(folder)


def with_tasks(project: Project, *tasks: dict[str, Any]) -> Project:
    """The project with other tasks."""
    from schemas.project import ModelSettings

    model = ModelSettings(module=project.settings.model.module, tasks=list(tasks))
    return replace(project, settings=project.settings.model_copy(update={"model": model}))


def trips(project: Project, data: Path) -> list[dict[str, Any]]:
    """The first trips of the file, as the schema types them."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    kinds = {schema_pb2.INT: int, schema_pb2.FLOAT: float, schema_pb2.BYTES: str}
    convert = {feature.name: kinds[feature.type] for feature in project.schema.feature}
    with data.open(newline="") as stream:
        rows = [row for row, _ in zip(csv.DictReader(stream), range(ROWS), strict=False)]
    return [
        {
            "trip_id": f"trip-{number:05d}",
            **{name: convert[name](cell) if cell else None for name, cell in row.items()},
        }
        for number, row in enumerate(rows, start=1)
    ]


@functools.cache
def transformed_taxi(base: Path) -> tuple[Project, Path]:
    """The taxi project and its transformed features, made once below a folder.

    For the tests' own process.
    """
    from tests.forked import forked

    project = taxi_project(base / "taxi" / "project")
    forked(transform, project, TAXI, base / "taxi")
    return project, base / "taxi" / "features"


def transform(project: Project, data: Path, folder: Path) -> None:
    """Leaves `folder/window` and `folder/features`."""
    from components.analyse_features.step import analyse_features
    from components.transform_features.step import transform_features
    from tests.components.analyse_features.windows import write_span

    write_span(folder / "window", project, "trips", trips(project, data))
    analyse_features(project, folder / "window", folder / "graph")
    transform_features(project, folder / "window", folder / "graph", folder / "features")


def train(
    project: Project,
    features: Path,
    folder: Path,
    hyperparameters: Hyperparameters = SETTINGS,
    base_model: Path | None = None,
) -> Path:
    """Trains by `run_fn` and deletes everything but the served model and the logs.

    Gives the model's folder.
    """
    train_and_note(project, features, folder, hyperparameters, base_model)
    return folder / "model"


def train_and_note(
    project: Project,
    features: Path,
    folder: Path,
    hyperparameters: Hyperparameters = SETTINGS,
    base_model: Path | None = None,
) -> list[str]:
    """As `train`; gives what a person is told of the model."""
    from perennial.data.examples import split_files
    from perennial.tfx_module.run_fn import train_by_run_fn
    from perennial.training.transformed_features import TransformedFeatures

    transformed = TransformedFeatures(features, project.tasks)
    work, logs, output = folder / "work", folder / "logs", folder / "model"
    wrapped = train_by_run_fn(
        project,
        Instance(name="one", seed=17),
        transformed,
        hyperparameters,
        base_model,
        work,
        logs,
        output,
        split_files(features.parent / "window", "eval"),
    )
    shutil.rmtree(work)
    return wrapped.notes


def messages(projects: list[Project], features: Path, folder: Path) -> list[str]:
    """The message that training by each project's module gives, after the name of its kind."""
    found = []
    for number, project in enumerate(projects):
        try:
            train(project, features, folder / str(number))
            found.append("no error")
        except PerennialError as error:
            found.append(f"{type(error).__name__}: {error}")
    return found


def answers(project: Project, model: Path, records: list[bytes]) -> dict[str, Any]:
    """What a served model's three signatures give for raw labelled examples, and what the user's own model gives."""
    import tensorflow as tf

    from perennial.export.saved_model import LABELS_SIGNATURE, SERVING_SIGNATURE
    from perennial.export.served_model import ServedModel
    from perennial.tfx_module.wrapped_model import user_model

    examples = tf.constant(records)
    loaded, users = ServedModel.load(model), tf.saved_model.load(str(user_model(model)))
    served, own = loaded.signatures, users.signatures[SERVING_SIGNATURE]
    (name,) = own.structured_input_signature[1]
    return {
        "served": _arrays(served[SERVING_SIGNATURE](**_raw(project, examples))),
        "examples": _arrays(served["serve_examples"](examples=examples)),
        "labels": _arrays(served[LABELS_SIGNATURE](examples=examples)),
        "own": _arrays(own(**{name: examples})),
        "inputs": sorted(served[SERVING_SIGNATURE].structured_input_signature[1]),
    }


def records_of(features: Path) -> list[bytes]:
    """The raw examples of the test split beside some features."""
    from perennial.data.examples import read_records, split_files

    return list(read_records(split_files(features.parent / "window", "test")))


def served_and_own(project: Project, model: Path, features: Path) -> dict[str, Any]:
    """`answers` for the test split, and the truth of it."""
    import tensorflow as tf

    records = records_of(features)
    rows = [tf.train.Example.FromString(record).features.feature for record in records]
    truth = [
        int(row["tips"].float_list.value[0] > row["fare"].float_list.value[0] * 0.2) for row in rows
    ]
    lacking = sum(any(name not in row for name in OPTIONAL) for row in rows)
    return {**answers(project, model, records), "truth": truth, "lacking": lacking}


def outputs(project: Project, model: Path, features: Path) -> dict[str, Any]:
    """What `serve_examples` gives for the test split."""
    import tensorflow as tf

    from perennial.export.saved_model import EXAMPLES_SIGNATURE
    from perennial.export.served_model import ServedModel

    served = ServedModel.load(model)
    return _arrays(served.signature(EXAMPLES_SIGNATURE)(examples=tf.constant(records_of(features))))


def raw_fares(features: Path) -> Any:
    """The fares of the test split, float32 [n]."""
    import numpy as np
    import tensorflow as tf

    rows = [tf.train.Example.FromString(one).features.feature for one in records_of(features)]
    return np.array([row["fare"].float_list.value[0] for row in rows], np.float32)


def encoded(values: dict[str, Any]) -> list[dict[str, list[Any]]]:
    """tf.Examples encoded in a graph, decoded again."""
    import tensorflow as tf

    from perennial.tfx_module.example_encoder import encode_examples

    serialised = tf.function(encode_examples)(
        {name: tf.constant(value) for name, value in values.items()}
    )
    found = [tf.train.Example.FromString(one).features.feature for one in serialised.numpy()]
    return [
        {name: list(getattr(held, held.WhichOneof("kind")).value) for name, held in row.items()}
        for row in found
    ]


def tuned(project: Project, features: Path, work: Path) -> dict[str, Any] | None:
    """The outcome of the module's `tuner_fn`."""
    from perennial.tfx_module.run_fn import call_tuner_fn
    from perennial.training.transformed_features import TransformedFeatures

    return call_tuner_fn(project, TransformedFeatures(features, project.tasks), work)


def _raw(project: Project, examples: Any) -> dict[str, Any]:
    """Raw features by name, with the schema's default where an example has none."""
    import tensorflow as tf

    from perennial.export.contract import parsing_specs
    from perennial.schema.environments import serving_features

    found: dict[str, Any] = tf.io.parse_example(
        examples, parsing_specs(project.schema, serving_features(project.schema))
    )
    return found


def _arrays(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
