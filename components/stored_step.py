"""One task of a step as Kubeflow runs it: inputs staged from the root, outputs published to it.

What travels between tasks are references of a few hundred bytes. The data lie in the root by the
key of what they were made of, and a step whose result lies there does nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from perennial.project import Project, load_project, open_project
from perennial.results.store import Results, key_of, reference_to
from schemas.records import FileRecord, Reference, StepResult

# In an artifact's metadata: its step found it in the root, and did nothing.
KEPT = "kept"


class Artifact(Protocol):
    """Describes what wrappers use of a Kubeflow artifact: its file's place, and what is shown."""

    path: str
    metadata: dict[str, Any]


class StagedTask:
    """A task that reads results of other steps, and keeps none of its own.

    To be used in a `with` statement: the staged folders are gone after it.

    Args:
        project: The project folder.
    """

    def __init__(self, project: str) -> None:
        self.project: Project = load_project(project)
        self._scratch: Path | None = None

    def __enter__(self) -> Self:
        scratch = self.project.scratch
        scratch.mkdir(parents=True, exist_ok=True)
        self.results = Results(self.project.root, self.project.state)
        self._scratch = Path(tempfile.mkdtemp(dir=scratch))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def input(self, artifact: Artifact | Reference) -> Path:
        """Gives a folder with what another step made; its files must not be changed."""
        folder = self._folder("inputs", f"{len(self._made('inputs'))}")
        self.results.stage(_reference(artifact), folder)
        return folder

    def optional(self, artifact: Artifact | None) -> Path | None:
        """Gives the same for an input that may not be there."""
        return self.input(artifact) if artifact is not None else None

    def publish_record(self, step: str, run: str, record: FileRecord, output: Artifact) -> None:
        """Publishes what a step that is never kept made in a run, as a record.

        Where an earlier attempt of that run published one, that one stands.
        """
        folder = self._folder("outputs", "record")
        record.write(folder)
        result = self.results.publish(step, key_of(step, "", [run]), {"record": folder}, {})
        reference_to(result, "record").write(Path(output.path))

    def _made(self, kind: str) -> list[Path]:
        assert self._scratch is not None
        return list(self._scratch.glob(f"{kind}/*"))

    def _folder(self, *parts: str) -> Path:
        assert self._scratch is not None
        folder = self._scratch.joinpath(*parts)
        folder.mkdir(parents=True)
        return folder


class StoredStep(StagedTask):
    """A task whose result is kept by key.

    Args:
        project: The project folder.
        step: Name of the step.
        digest: What the step reads of the project, when the run began.
        outputs: The artifacts that it makes, by their names.
    """

    def __init__(self, project: str, step: str, digest: str, **outputs: Artifact) -> None:
        self.project = open_project(project, step, digest)
        self._scratch = None
        self._step, self._digest, self._outputs = step, digest, outputs
        self._key = ""
        self._result: StepResult | None = None

    def is_kept(self, *inputs: object) -> bool:
        """Looks for the result of these inputs: artifacts, lists of them, and plain values.

        Where there is one, the outputs are references to it, and nothing is left to do.
        """
        self._key = key_of(self._step, self._digest, [_by_digest(item) for item in inputs])
        self._result = self.results.find(self._step, self._key)
        if self._result is not None:
            self._refer(self._result, kept=True)
        return self._result is not None

    def output(self, name: str) -> Path:
        """Gives an empty folder for an output."""
        return self._folder("outputs", name)

    def publish(self, value: Any = None, **metadata: Mapping[str, Any]) -> None:
        """Publishes the folders that `output` gave, with what the dashboard shows of each."""
        folders = {folder.name: folder for folder in self._made("outputs")}
        self._result = self.results.publish(self._step, self._key, folders, metadata, value)
        self._refer(self._result, kept=False)

    def reference(self, name: str) -> Reference:
        """Gives the reference to an output, once it is kept or published."""
        assert self._result is not None
        return reference_to(self._result, name)

    @property
    def value(self) -> Any:
        """Gives what the step returned."""
        return self._result.value if self._result is not None else None

    def _refer(self, result: StepResult, kept: bool) -> None:
        for name, artifact in self._outputs.items():
            reference_to(result, name).write(Path(artifact.path))
            artifact.metadata.update({**result.outputs[name].metadata, KEPT: kept})


def _reference(artifact: Artifact | Reference) -> Reference:
    return artifact if isinstance(artifact, Reference) else Reference.read(Path(artifact.path))


def _by_digest(item: Any) -> object:
    """Gives what an input counts as in a key."""
    if isinstance(item, Sequence) and not isinstance(item, str):
        return [_by_digest(each) for each in item]
    return Reference.read(Path(item.path)) if hasattr(item, "path") else item
