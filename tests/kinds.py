"""Models of every kind, trained by the real steps on real patients, once for all tests.

scikit-learn's diabetes data: 442 patients, five measurements, and how far the disease got in a
year.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from perennial.project import Project, load_project
from perennial.storage.atomic import link_tree
from perennial.storage.digests import digest_file
from schemas.records import Champion, Instance, Selection, Span
from tests.perennial.records import deployment, selection

SPAN = "2026-01-01"

SCHEMA = """\
feature { name: "id" type: BYTES presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "progression" type: FLOAT presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "sex" type: INT presence { min_fraction: 1 } shape {} }
feature { name: "age" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "bmi" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "ltg" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "pressure" type: FLOAT value_count { min: 1 max: 1 } }
default_environment: "TRAINING"
default_environment: "SERVING"
tensor_representation_group {
  key: ""
  value {
    tensor_representation {
      key: "pressure"
      value { dense_tensor { column_name: "pressure" shape {} default_value { float_value: 90 } } }
    }
  }
}
"""

MODULE = """\
import keras
import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    numbers = [tft.scale_to_z_score(inputs[name]) for name in ("age", "bmi", "ltg", "pressure")]
    labels = {{"severe": tf.cast(inputs["progression"] > 140.0, tf.int64)}}
    labels["progression"] = inputs["progression"]
    return {{"numbers": tf.stack(numbers, axis=1), **{{name: labels[name] for name in {labels}}}}}


def build_model(transform_output):
    numbers = keras.Input((4,), name="numbers")
    x = keras.layers.Dense(8, activation="relu")(numbers)
    severe = keras.layers.Dense(1, activation="sigmoid")(x)
    progression = keras.layers.Rescaling(77.0, 152.0)(keras.layers.Dense(1)(x))
    return keras.Model({{"numbers": numbers}}, {outputs})
"""

SEVERE = {"name": "severe", "kind": "binary", "label": "severe"}
PROGRESSION = {"name": "progression", "kind": "regression", "weight": 0.0001}
# Two instances: the worse one is the champion. One: there is none yet.
KINDS: dict[str, dict[str, Any]] = {
    "binary": {"tasks": [SEVERE], "metric": "auc", "outputs": "severe", "instances": 2},
    "regression": {
        "tasks": [PROGRESSION],
        "metric": "mean_absolute_error",
        "outputs": "progression",
        "instances": 1,
    },
    "several": {
        "instances": 2,
        "tasks": [SEVERE, PROGRESSION],
        "metric": "log_loss",
        "outputs": '{"severe": severe, "progression": progression}',
    },
}


@dataclass(frozen=True)
class Kind:
    """What the steps made of one kind of project; nothing in it is ever changed."""

    folder: Path

    @property
    def project(self) -> Project:
        return load_project(self.folder / "project")

    @property
    def window(self) -> Path:
        return self.folder.parent / "window"

    @property
    def models(self) -> list[Path]:
        return sorted((self.folder / "models").iterdir())

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation"

    @property
    def candidate(self) -> Path:
        return self.folder / "candidate"

    @property
    def champion(self) -> Champion | None:
        """The instance that is not the candidate, if there is one; it is registered and serves."""
        from perennial.ledger.events import Ledger

        return Ledger(self.project.ledger_url).champion()

    @property
    def selection(self) -> Selection:
        return selection("run-1", [span_of(self.project)], self.champion)

    def table(self, task: str) -> Any:
        """The predictions of a task."""
        from perennial.evaluation.prediction_table import read_table
        from schemas.records import Evaluation

        return read_table(self.evaluation, Evaluation.read(self.evaluation), task)


def span_of(project: Project) -> Span:
    path = project.folder / "data" / f"{SPAN}.csv"
    return Span(name=SPAN, version=1, uri=str(path), fingerprint=digest_file(path))


def make_kind_project(folder: Path, kind: str) -> Project:
    """A project of one kind."""
    settings = KINDS[kind]
    folder.mkdir(parents=True)
    (folder / "project.yaml").write_text(
        yaml.safe_dump(
            {
                "name": kind,
                "label": "progression",
                "data": {"spans": "data/{YYYY}-{MM}-{DD}.csv", "key": "id"},
                "model": {"tasks": settings["tasks"]},
                "stabilise": {"draws": 1, "steps": 2},
                "train": {"epochs": 4, "learning_rate": 0.01},
                "evaluate": {"slices": ["sex"]},
                "gate": {"metric": settings["metric"], "mode": "not_worse", "confidence": 0.9},
            }
        )
    )
    labels = [task["name"] for task in settings["tasks"]]
    module = MODULE.format(labels=labels, outputs=settings["outputs"])
    (folder / "model.py").write_text(module)
    (folder / "schema.pbtxt").write_text(SCHEMA)
    (folder / "expectations.json").write_text(json.dumps({"expectations": []}))
    return load_project(folder)


def land_patients(project: Project) -> None:
    """Writes the patients as CSV; every fifth blood pressure was not taken."""
    from sklearn.datasets import load_diabetes

    frame = load_diabetes(as_frame=True, scaled=False).frame
    frame = frame.rename(columns={"target": "progression", "bp": "pressure", "s5": "ltg"})
    frame["id"] = [f"patient-{number}" for number in range(len(frame))]
    frame["sex"] = frame["sex"].astype(int)
    frame.loc[frame.index % 5 == 0, "pressure"] = None
    (project.folder / "data").mkdir()
    names = ["id", "progression", "sex", "age", "bmi", "ltg", "pressure"]
    frame[names].to_csv(project.folder / "data" / f"{SPAN}.csv", index=False)


def run_kinds(folder: Path) -> None:
    """Trains, registers and evaluates every kind on the same window; needs a warm process."""
    for kind in KINDS:
        project = make_kind_project(folder / kind / "project", kind)
        land_patients(project)
        if not (folder / "window").exists():
            make_window(project, folder)
        train_kind(project, folder / "window", folder / kind, KINDS[kind]["instances"])
        _register(Kind(folder / kind))
        _evaluate(Kind(folder / kind))


def make_window(project: Project, folder: Path) -> None:
    """The patients as examples, checked."""
    from components.check_examples.step import check_examples
    from components.ingest_examples.step import ingest_examples

    ingest_examples(project, span_of(project), folder / "examples" / SPAN)
    check_examples(project, folder / "examples" / SPAN, folder / "checked" / SPAN)
    link_tree(folder / "checked" / SPAN, folder / "window" / SPAN)


def train_kind(project: Project, window: Path, folder: Path, instances: int) -> None:
    """From the window to trained instances."""
    from components.analyse_features.step import analyse_features
    from components.stabilise_weights.step import stabilise_weights
    from components.train_model.step import Inputs, train_model
    from components.transform_features.step import transform_features

    analyse_features(project, window, folder / "graph")
    transform_features(project, window, folder / "graph", folder / "features")
    stabilise_weights(project, folder / "features", None, None, folder / "weights")
    inputs = Inputs(folder / "features", window, folder / "weights")
    for number in range(instances):
        instance = Instance(name=f"try-{number}", seed=3 + number)
        train_model(project, instance, inputs, None, folder / "models" / instance.name)


def _register(kind: Kind) -> None:
    """Makes the worse of two instances the champion."""
    from components.evaluate_model.step import choose_candidate
    from perennial.ledger.events import Ledger
    from perennial.registry.versions import Candidate, Registry
    from perennial.training.artifacts import SAVED_MODEL
    from schemas.records import Training

    registry = Registry(kind.project)
    trainings = [Training.read(folder) for folder in kind.models]
    for other in (t for t in trainings if t is not choose_candidate(trainings)):
        saved_model = kind.folder / "models" / other.instance.name / SAVED_MODEL
        version = registry.register(
            Candidate(saved_model, other.digest, {}, {}, {}, {"run": "run-0"})
        )
        Ledger(kind.project.ledger_url).deploy(
            deployment(version.version, digest=version.digest), "run-0"
        )


def _evaluate(kind: Kind) -> None:
    from components.evaluate_model.step import Outputs, evaluate_model

    outputs = Outputs(kind.evaluation, kind.candidate)
    evaluate_model(kind.project, kind.champion, kind.window, kind.models, outputs)


def copy_kind_project(kind: Kind, folder: Path) -> Project:
    """The project in a folder of its own, with its ledger and registry."""
    shutil.copytree(kind.project.folder, folder)
    return load_project(folder)
