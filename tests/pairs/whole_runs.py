"""Whole runs of one project by the product's own runner, each from a state that was kept.

`Runs.run` is `perennial run`: the compiled pipeline, every task in a process of its own, the ledger
and the registry. Two things let dozens of runs share what one of them trained. Before each run the
project's state is put back to how an earlier run left it. And the runner's cache tells artifacts
apart by their contents where it otherwise does by their place, so that what read the same is not
made again; which settings a step's key holds stays the product's.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import yaml
from rich.console import Console

from perennial.ledger.events import Ledger
from perennial.project import Project, load_project
from perennial.runner.project_run import RunOptions, run_project
from schemas.records import (
    Decision,
    Evaluation,
    FileRecord,
    Outcome,
    Probing,
    Reference,
    RunEnded,
    Selection,
    Tuning,
    Validation,
)
from tests.pairs.project import GOOD, SETTINGS, write_project
from tests.stored import results_of

R = TypeVar("R", bound=FileRecord)
# Of the state folder, what every run adds to and none changes.
_SHARED = ("artifacts", "objects", "results", "copies")
# The state before anything has run.
NOTHING = "nothing"


@dataclass(frozen=True)
class Scene:
    """What a run begins with.

    Attributes:
        state: The state that is put back, by its name, or `NOTHING`.
        module: Source of model.py.
        settings: Values by their keys, such as `gate.mode`, beside the project's own.
        spans: Those that have landed.
        retrain: Whether the run trains without new data.
    """

    state: str
    module: str
    settings: Mapping[str, Any]
    spans: tuple[str, ...] = (GOOD,)
    retrain: bool = True


@dataclass(frozen=True)
class Run:
    """What a whole run left: how it ended, what was selected, and the outputs of its steps.

    With `gate.repeats` there is a selection for each repetition, and the outputs are the last's.
    """

    ended: RunEnded
    selections: list[Selection]
    outputs: Mapping[str, Mapping[str, Mapping[str, bytes]]]

    @property
    def outcome(self) -> Outcome:
        return self.ended.outcome

    @property
    def validation(self) -> Validation:
        return self._read("validate_data", "validation", Validation)

    @property
    def tuning(self) -> Tuning:
        return self._read("tune_model", "hyperparameters", Tuning)

    @property
    def evaluation(self) -> Evaluation:
        return self._read("evaluate_model", "evaluation", Evaluation)

    @property
    def probing(self) -> Probing | None:
        """What was probed; None: the pipeline had no such step."""
        probed = "probe_model" in self.outputs
        return self._read("probe_model", "probing", Probing) if probed else None

    @property
    def decision(self) -> Decision:
        return self._read("decide_promotion", "decision", Decision)

    def _read(self, step: str, output: str, kind: type[R]) -> R:
        return kind.model_validate_json(self.outputs[step][output][kind.FILE])


class Runs:
    """Runs one project from states that it keeps; runs with the same settings are one run.

    Args:
        folder: Becomes the project and the states that are kept.
        states: What makes each state, by its name: the scene of a run.
    """

    def __init__(self, folder: Path, states: Mapping[str, Scene]) -> None:
        self.project_folder, self._kept, self._states = folder / "project", folder, states
        self._made: dict[str, Run] = {}
        write_project(self.project_folder)
        (folder / "states" / NOTHING).mkdir(parents=True)

    @property
    def project(self) -> Project:
        return load_project(self.project_folder)

    def run(self, scene: Scene, settings: Mapping[str, Any]) -> Run:
        """Runs a scene with these settings beside its own."""
        merged = {**scene.settings, **settings}
        begins = [scene.state, scene.module, scene.spans, scene.retrain]
        key = json.dumps([*begins, merged], sort_keys=True)
        if key not in self._made:
            self.begin(scene, settings)
            self._made[key] = self._run(scene.retrain)
        return self._made[key]

    def begin(self, scene: Scene, settings: Mapping[str, Any]) -> None:
        """Puts back the state that a scene begins with, its files and its settings."""
        _copy_state(self._state(scene.state), self.project_folder / ".perennial")
        data = self.project_folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        for span in scene.spans:
            shutil.copy(self.project_folder / "landed" / f"{span}.csv", data)
        (self.project_folder / "model.py").write_text(scene.module)
        self.configure(scene, settings)

    def configure(self, scene: Scene, settings: Mapping[str, Any]) -> None:
        """Writes a scene's settings, and these beside them."""
        merged = _nested({**SETTINGS, **scene.settings, **settings})
        (self.project_folder / "project.yaml").write_text(yaml.safe_dump(merged))

    def _state(self, name: str) -> Path:
        kept = self._kept / "states" / name
        if not kept.exists():
            self.begin(self._states[name], {})
            self._run(self._states[name].retrain)
            _copy_state(self.project_folder / ".perennial", kept)
        return kept

    def _run(self, retrain: bool) -> Run:
        before = self._runs()
        with _recorded() as references:
            result = run_project(self.project, RunOptions(retrain), Console(file=io.StringIO()))
        assert result.ended.outcome != "failed", result.ended.reasons
        outputs = {
            step: {name: self._records(reference) for name, reference in made.items()}
            for step, made in references.items()
        }
        return Run(result.ended, self._runs()[len(before) :], outputs)

    def _records(self, reference: Reference) -> dict[str, bytes]:
        """Reads the records at the top of an output, by the names of their files."""
        results = results_of(self.project)
        return {
            file.path: results.read_file(file)
            for file in results.files_of(reference)
            if file.path.endswith(".json") and "/" not in file.path
        }

    def _runs(self) -> list[Selection]:
        if not (self.project_folder / ".perennial").exists():
            return []
        return [start.selection for _, start, _ in Ledger(self.project.ledger_url).runs()]


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Gives settings by their keys as project.yaml has them."""
    nested: dict[str, Any] = {}
    for path, value in settings.items():
        *sections, name = path.split(".")
        section = nested
        for key in sections:
            section = section.setdefault(key, {})
        section[name] = value
    return nested


def _copy_state(source: Path, target: Path) -> None:
    """Makes a state folder as another one is, but for what all runs share.

    A database is written in place, as this process may hold it open.
    """
    target.mkdir(exist_ok=True)
    for path in target.iterdir():
        if path.is_dir() and path.name not in _SHARED:
            shutil.rmtree(path)
        elif path.is_file() and ".db" not in path.suffix:
            path.unlink()
    for path in source.iterdir():
        if path.is_dir() and path.name not in _SHARED:
            shutil.copytree(path, target / path.name)
        elif path.is_file() and ".db" not in path.suffix:
            shutil.copy(path, target)
    for name in {path.name for folder in (source, target) for path in folder.glob("*.db")}:
        kept = source / name if (source / name).exists() else ":memory:"
        with (
            contextlib.closing(sqlite3.connect(kept)) as of,
            contextlib.closing(sqlite3.connect(target / name)) as to,
        ):
            of.backup(to)


@contextlib.contextmanager
def _recorded() -> Iterator[dict[str, dict[str, Reference]]]:
    """Gives the references that each step of a run makes, by their names."""
    from kfp.local.orchestrator import task_executor

    from perennial.runner.side_by_side import step_of

    outputs: dict[str, dict[str, Reference]] = {}
    execute = task_executor.execute_single_task

    def recorded(**task: Any) -> tuple[dict[str, Any], Any]:
        made, status = execute(**task)
        places = {name: Path(getattr(one, "uri", "")) for name, one in made.items()}
        outputs[step_of(task["task_spec"])] = {
            name: Reference.read(place)
            for name, place in places.items()
            if (place / Reference.FILE).is_file()
        }
        return made, status

    with patch.object(task_executor, "execute_single_task", recorded):
        yield outputs
