"""Artifacts of Kubeflow's wrappers in tests: folders that are published as another step would."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from perennial.project import Project
from perennial.results.store import Results, reference_to
from perennial.storage.digests import digest_folder
from perennial.storage.objects import open_objects
from schemas.records import Reference, StepResult


class FileArtifact:
    """What wrappers use of a Kubeflow artifact."""

    def __init__(self, path: Path) -> None:
        self.path, self.metadata = str(path), {}


def results_of(project: Project) -> Results:
    return Results(project.root, project.state)


def publish(project: Project, folder: Path, place: Path | None = None) -> FileArtifact:
    """The artifact that names a folder's contents, once they lie in the project's root."""
    result = results_of(project).publish("test", digest_folder(folder), {"made": folder}, {})
    artifact = FileArtifact(place or Path(tempfile.mkdtemp()))
    reference_to(result, "made").write(Path(artifact.path))
    return artifact


def stage(project: Project, artifact: Any, folder: Path) -> Path:
    """The folder that an artifact names."""
    results_of(project).stage(Reference.read(Path(artifact.path)), folder)
    return folder


def unfinished(project: Project, step: str) -> dict[str, bytes]:
    """The parts of a step's unfinished work in the root, by their names."""
    objects = open_objects(project.root)
    listed = sorted(each.name for each in objects.list(f"unfinished/{step}"))
    return {name.rpartition("/")[2]: objects.read(name) or b"" for name in listed}


def kept(project: Project, step: str) -> list[StepResult]:
    """All that a step has made."""
    return results_of(project).of_step(step)


def read_file(project: Project, result: StepResult, output: str, path: str) -> bytes:
    """The contents of one file of a result."""
    (file,) = (file for file in result.outputs[output].files if file.path == path)
    return results_of(project).read_file(file)
