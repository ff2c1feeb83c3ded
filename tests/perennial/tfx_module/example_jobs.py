"""What runs in a warm process for the tests of TFX's example modules: data as they expect it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from perennial.project import Project, load_project

Rows = Sequence[Mapping[str, Any]]

_PENGUINS = "tfx.examples.penguin.penguin_utils_keras"
_MNIST = "tfx.examples.mnist.mnist_utils_native_keras"
# Means of the Palmer Archipelago's Adelie, Chinstrap and Gentoo penguins, and a spread of each.
# Source: Horst, Hill and Gorman 2020, "palmerpenguins".
_MEASURES = {
    "culmen_length_mm": ((38.8, 48.8, 47.5), 3.0),
    "culmen_depth_mm": ((18.3, 18.4, 15.0), 1.0),
    "flipper_length_mm": ((190.0, 196.0, 217.0), 6.5),
    "body_mass_g": ((3701.0, 3733.0, 5076.0), 400.0),
}
_DIGITS = 400


def train_penguins(folder: Path) -> dict[str, Any]:
    """Trains TFX's penguin module; gives what `_train` does."""
    draw = np.random.default_rng(5)
    rows = [
        {
            name: float(draw.normal(means[number % 3], spread))
            for name, (means, spread) in _MEASURES.items()
        }
        | {"species": number % 3}
        for number in range(300)
    ]
    features = {name: "type: FLOAT shape {}" for name in _MEASURES}
    return _train(folder, _PENGUINS, features, "species", rows)


def train_digits(folder: Path) -> dict[str, Any]:
    """Trains TFX's MNIST module on scikit-learn's digits, drawn as large as MNIST's."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    rows = [
        {"image_floats": _as_mnist(image), "image_class": int(label)}
        for image, label in zip(images[:_DIGITS], labels[:_DIGITS], strict=True)
    ]
    features = {"image_floats": "type: FLOAT shape { dim { size: 784 } }"}
    return _train(folder, _MNIST, features, "image_class", rows)


def _as_mnist(image: np.ndarray) -> list[float]:
    """Draws 8 x 8 pixels from 0 to 16 as 28 x 28 from -0.5 to 0.5."""
    large = np.zeros((28, 28))
    large[2:26, 2:26] = np.kron(image.reshape(8, 8) / 16, np.ones((3, 3)))
    return [float(value) for value in (large - 0.5).ravel()]


def _train(
    folder: Path, module: str, features: Mapping[str, str], label: str, rows: Rows
) -> dict[str, Any]:
    """Trains a module on rows of features and an INT label.

    Gives the served outputs and the truth of the test split, and what a person is told.
    """
    from components.analyse_features.step import analyse_features
    from components.transform_features.step import transform_features
    from perennial.data.examples import read_records, split_files
    from perennial.export.served_model import ServedModel
    from tests.components.analyse_features.windows import write_span
    from tests.perennial.tfx_module.jobs import outputs, train_and_note

    project = _project(folder / "project", module, features, label)
    keyed = [{"id": f"row-{number}", **row} for number, row in enumerate(rows)]
    write_span(folder / "window", project, "2026-01-01", keyed)
    analyse_features(project, folder / "window", folder / "graph")
    transform_features(project, folder / "window", folder / "graph", folder / "features")
    notes = train_and_note(project, folder / "features", folder / "trained")
    model = folder / "trained" / "model"
    records = list(read_records(split_files(folder / "window", "test")))
    truth = ServedModel.load(model).label_examples(records)["prediction"]
    return {**outputs(project, model, folder / "features"), "truth": truth, "notes": notes}


def _project(folder: Path, module: str, features: Mapping[str, str], label: str) -> Project:
    folder.mkdir()
    settings = {
        "name": "example",
        "label": label,
        "data": {"spans": "data/{SPAN}.jsonl", "key": "id"},
        "model": {"module": module, "tasks": [{"label": f"{label}_xf"}]},
        "run_fn": {"train_steps": 120, "eval_steps": 3},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(settings))
    (folder / "expectations.json").write_text(json.dumps({"expectations": []}))
    unsent = 'shape {} not_in_environment: "SERVING"'
    specs = {**features, "id": f"type: BYTES {unsent}", label: f"type: INT {unsent}"}
    lines = [
        f'feature {{ name: "{name}" {spec} presence {{ min_fraction: 1 }} }}\n'
        for name, spec in specs.items()
    ]
    environments = 'default_environment: "TRAINING"\ndefault_environment: "SERVING"\n'
    (folder / "schema.pbtxt").write_text("".join(lines) + environments)
    return load_project(folder)
