"""Project folders and models for tests that need no TensorFlow."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from perennial.project import Project, load_project
from perennial.registry.versions import Candidate
from perennial.storage.digests import digest_folder

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
# 15,002 real taxi trips, which may lie beside the repository; tests that need them are skipped
# elsewhere.
TAXI = Path(__file__).parents[3] / "shared" / "data" / "taxi" / "data.csv"
# The example's own gate asks for a gain, which models that are trained for seconds seldom show.
TOLERANT_GATE = {
    "metric": "accuracy",
    "mode": "not_worse",
    "margin": 0.05,
    "confidence": 0.9,
    "floors": {"accuracy": 0.7},
}
FILES = ("project.yaml", "model.py", "schema.pbtxt", "expectations.json", "land.py")


def make_project(folder: Path, **changes: Any) -> Project:
    """A copy of the digits project with a tolerant gate; `changes` update its sections."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(DIGITS / name, folder / name)
    settings = yaml.safe_load((folder / "project.yaml").read_text())
    settings["gate"] = dict(TOLERANT_GATE)
    for section, values in changes.items():
        settings[section] = (
            {**settings.get(section, {}), **values} if isinstance(values, dict) else values
        )
    (folder / "project.yaml").write_text(yaml.safe_dump(settings))
    return load_project(folder)


def make_model(folder: Path, contents: str) -> Candidate:
    """A folder with the files of a SavedModel, whose bytes the registry keeps but never reads."""
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(contents)
    (folder / "variables" / "variables.index").write_text(f"weights of {contents}")
    return Candidate(
        saved_model=folder,
        digest=digest_folder(folder),
        parameters={"batch_size": 32},
        metrics={"test_accuracy": 0.9},
        curves={"eval_loss": [2.0, 1.0]},
        lineage={"run": f"run-{contents}", "spans": "2026-01-01@1"},
    )
