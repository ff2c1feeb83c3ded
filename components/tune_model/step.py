"""Chooses the hyperparameters of the full training: those of the settings."""

from __future__ import annotations

from pathlib import Path

from perennial.project import Project
from perennial.publishing import publish_text
from schemas.records import Hyperparameters

RECORD_FILE = "hyperparameters.json"


def tune_model(project: Project, output: Path) -> Hyperparameters:
    """Writes `output/hyperparameters.json`. There is no search yet: `source` says that the settings chose."""
    train = project.settings.train
    chosen = Hyperparameters(learning_rate=train.learning_rate, batch_size=train.batch_size, source="settings")
    publish_text(chosen.model_dump_json(indent=2), output / RECORD_FILE)
    return chosen


def read_hyperparameters(folder: Path) -> Hyperparameters:
    """The record that `tune_model` left in a folder."""
    return Hyperparameters.model_validate_json((folder / RECORD_FILE).read_text(encoding="utf-8"))
