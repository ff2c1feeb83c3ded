"""A candidate that learned what it must not, made by the real steps, once for all tests.

Counted parts with planted features: `account_no` alone gives the label away; `scanner` is not read,
but the feature `hum` carries its fingerprint; `site` and the label are one thing; `shift` is a coin.
`preprocessing_fn` ignores these last three, although clients send them. No test example is of class
2 or of the view `top`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from perennial.project import Project, load_project
from tests.kinds import SPAN, Kind, make_window, train_kind

SCHEMA = """\
feature { name: "id" type: BYTES presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "label" type: INT presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "view" type: BYTES presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "account_no" type: INT presence { min_fraction: 1 } shape {} }
feature { name: "weight" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "hum" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "scanner" type: BYTES presence { min_fraction: 1 } shape {} }
feature { name: "site" type: BYTES presence { min_fraction: 1 } shape {} }
feature { name: "shift" type: INT presence { min_fraction: 1 } shape {} int_domain { is_categorical: true } }
default_environment: "TRAINING"
default_environment: "SERVING"
"""

MODULE = """\
import keras
import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    numbers = [tft.scale_to_z_score(inputs[name]) for name in ("account_no", "weight", "hum")]
    numbers.append(tf.zeros_like(inputs["shift"], tf.float32))  # of its shape, not of its values
    return {"numbers": tf.stack(numbers, axis=1), "label": inputs["label"]}


def build_model(transform_output):
    numbers = keras.Input((4,), name="numbers")
    x = keras.layers.Dense(8, activation="tanh")(numbers)
    return keras.Model({"numbers": numbers}, keras.layers.Dense(3, activation="softmax")(x))
"""
_COMMON, _RARE = 500, 12


@dataclass(frozen=True)
class Leaking(Kind):
    """What the steps made; nothing in it is ever changed."""

    @property
    def window(self) -> Path:
        return self.folder / "window"


def run_leaking(folder: Path) -> None:
    """Trains and evaluates the candidate; needs a warm process."""
    from components.evaluate_model.step import Outputs, evaluate_model

    project = _make_project(folder / "project")
    _land(project)
    make_window(project, folder)
    train_kind(project, folder / "window", folder, instances=1)
    outputs = Outputs(folder / "evaluation", folder / "candidate")
    models = sorted((folder / "models").iterdir())
    evaluate_model(project, None, folder / "window", models, outputs)


def _make_project(folder: Path) -> Project:
    folder.mkdir(parents=True)
    settings: dict[str, Any] = {
        "name": "leaking",
        "label": "label",
        "data": {"spans": "data/{YYYY}-{MM}-{DD}.csv", "key": "id"},
        "model": {"tasks": [{"name": "defect", "kind": "multi_class"}]},
        "stabilise": {"draws": 1, "steps": 2},
        "train": {"epochs": 15, "learning_rate": 0.02},
        "evaluate": {"slices": ["view"]},
        "gate": {"floors": {"accuracy": 0.5}},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(settings))
    (folder / "model.py").write_text(MODULE)
    (folder / "schema.pbtxt").write_text(SCHEMA)
    (folder / "expectations.json").write_text(json.dumps({"expectations": []}))
    return load_project(folder)


def _land(project: Project) -> None:
    """Writes the parts as CSV; the rare class and the rare view are never in the test split."""
    import pandas as pd

    from perennial.data.examples import split_of

    splits = project.settings.data.splits
    names = [f"part-{number}" for number in range(2 * _COMMON)]
    learned = [name for name in names if split_of(name, splits) != "test"][:_RARE]
    common = [name for name in names if name not in learned][: _COMMON - _RARE]
    random = np.random.default_rng(11)
    labels = np.concatenate([random.integers(0, 2, len(common)), np.full(_RARE, 2)])
    scanners = random.integers(0, 2, len(labels))
    frame = pd.DataFrame(
        {
            "id": [*common, *learned],
            "label": labels,
            "view": np.where(labels == 2, "top", random.choice(["front", "back"], len(labels))),
            "account_no": 1000 * labels + random.permutation(len(labels)),
            "weight": labels + random.normal(size=len(labels)),
            "hum": 3 * scanners + random.normal(size=len(labels)),
            "scanner": np.array(["north", "south"])[scanners],
            "site": [f"site-{label}" for label in labels],
            "shift": random.integers(0, 2, len(labels)),
        }
    )
    (project.folder / "data").mkdir()
    frame.to_csv(project.folder / "data" / f"{SPAN}.csv", index=False)
