"""What runs in a warm process for the tests of weighted examples: from landed rows to an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from perennial.project import Project, load_project

ROWS = 400
WEIGHT = "counts"
# In the half that counts, three of four labels are 1; in the other half, none is.
COUNTING, LITTLE = 4.0, 0.25
SCHEMA = """\
feature { name: "id" type: BYTES presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "label" type: INT presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "counts" type: FLOAT presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "noise" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "site" type: BYTES presence { min_fraction: 1 } shape {} }
default_environment: "TRAINING"
default_environment: "SERVING"
"""
BUILT = """\
import keras


def preprocessing_fn(inputs):
    return {"noise": inputs["noise"]}


def build_model(transform_output):
    assert "noise" in transform_output.transformed_feature_spec()
    noise = keras.Input((1,), name="noise")
    one = keras.layers.Dense(1, activation="sigmoid")(noise)
    return keras.Model({"noise": noise}, one)
"""
# Knows that all examples of weight count: it says 0.75, whatever it gets.
RUN = """\
import tensorflow as tf


def preprocessing_fn(inputs):
    return {"noise": inputs["noise"], "counts_xf": inputs["counts"]}


def run_fn(fn_args):
    module = tf.Module()
    spec = tf.TensorSpec([None], tf.float32, name="noise")
    serve = tf.function(lambda noise: {"one": 0.0 * noise + 0.75})
    signatures = {"serving_default": serve.get_concrete_function(spec)}
    tf.saved_model.save(module, fn_args.serving_model_dir, signatures=signatures)
"""


def weighted_project(
    folder: Path, module: str, weight: str | None, tasks: list[dict[str, Any]] | None = None
) -> Project:
    """A project of a binary task whose examples count by a feature, or all the same."""
    folder.mkdir(parents=True)
    task = {"kind": "binary"} | ({} if weight is None else {"example_weight": weight})
    settings = {
        "name": "weighted",
        "label": "label",
        "data": {"spans": "data/{YYYY}-{MM}-{DD}.jsonl", "key": "id"},
        "model": {"tasks": tasks or [task]},
        "stabilise": {"draws": 1, "steps": 2},
        "train": {"epochs": 60, "learning_rate": 0.05, "batch_size": 64, "patience": 60},
        "evaluate": {"slices": ["site"]},
        "gate": {"metric": "log_loss", "confidence": 0.9},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(settings))
    (folder / "model.py").write_text(module)
    (folder / "schema.pbtxt").write_text(SCHEMA)
    (folder / "expectations.json").write_text(json.dumps({"expectations": []}))
    return load_project(folder)


def rows(weights: dict[int, float] | None = None, least: int = 0) -> list[dict[str, Any]]:
    """Rows with labels from `least` on; `weights` are those of some of them."""
    made = []
    for number in range(ROWS):
        counting = number % 2 == 0
        made.append(
            {
                "id": f"row-{number:04d}",
                "label": least + int(counting and number % 8 != 0),
                "counts": COUNTING if counting else LITTLE,
                "noise": (number * 7919 % 100) / 100,
                "site": "north" if number % 3 else "south",
            }
        )
    for number, weight in (weights or {}).items():
        made[number]["counts"] = weight
    return made


def check(
    folder: Path,
    weight: str | None,
    weights: dict[int, float],
    tasks: list[dict[str, Any]] | None = None,
    least: int = 0,
) -> Any:
    """Lands rows of which some have other weights; gives the record of the span's check."""
    from components.check_examples.step import check_examples
    from components.ingest_examples.step import ingest_examples
    from perennial.storage.digests import digest_file
    from schemas.records import Span

    project = weighted_project(folder / "project", BUILT, weight, tasks)
    path = project.folder / "data" / "2026-01-01.jsonl"
    path.parent.mkdir()
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows(weights, least)))
    span = Span(name="2026-01-01", version=1, uri=str(path), fingerprint=digest_file(path))
    ingest_examples(project, span, folder / "examples")
    return check_examples(project, folder / "examples", folder / "window" / span.name)


def run(
    folder: Path,
    module: str,
    weight: str | None,
    tasks: list[dict[str, Any]] | None = None,
    least: int = 0,
) -> dict[str, Any]:
    """Lands, trains and evaluates an instance by the steps of a run.

    Gives the training, the evaluation, the table of the first task, and of all by their names.
    """
    from components.analyse_features.step import analyse_features
    from components.evaluate_model.step import Outputs, evaluate_model
    from components.stabilise_weights.step import stabilise_weights
    from components.train_model.step import Inputs, train_model
    from components.transform_features.step import transform_features
    from perennial.evaluation.prediction_table import read_table
    from schemas.records import Instance

    checked = check(folder, weight, {}, tasks, least)
    project, window = load_project(folder / "project"), folder / "window"
    if module != BUILT:
        project.module_path.write_text(module)
        project = load_project(project.folder)
    analyse_features(project, window, folder / "graph")
    transform_features(project, window, folder / "graph", folder / "features")
    weights = None
    if not project.uses_run_fn:
        weights = folder / "weights"
        stabilise_weights(project, folder / "features", None, None, weights)
    inputs, model = Inputs(folder / "features", window, weights), folder / "models" / "one"
    training = train_model(project, Instance(name="one", seed=3), inputs, None, model)
    outputs = Outputs(folder / "evaluation", folder / "candidate")
    evaluation = evaluate_model(project, None, window, [model], outputs)
    tables = {
        task.name: read_table(outputs.evaluation, evaluation, task.name) for task in project.tasks
    }
    return {
        "checked": checked,
        "training": training,
        "evaluation": evaluation,
        "table": tables[project.tasks[0].name],
        "tables": tables,
    }


def returned(folder: Path) -> str:
    """What a `preprocessing_fn` is told that returns the feature which weights examples."""
    from components.analyse_features.step import analyse_features
    from perennial.errors import ProjectError

    check(folder, WEIGHT, {})
    project = load_project(folder / "project")
    text = BUILT.replace('{"noise"', '{"counts": inputs["counts"], "noise"', 1)
    project.module_path.write_text(text)
    try:
        analyse_features(load_project(project.folder), folder / "window", folder / "graph")
    except ProjectError as error:
        return str(error)
    return "no error"
