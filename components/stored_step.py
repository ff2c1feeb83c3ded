"""One task of a step as Kubeflow runs it: inputs staged from the root, outputs published to it.

What travels between tasks are references of a few hundred bytes. The data lie in the root by the
key of what they were made of, and a step whose result lies there does nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Protocol, Self

from typing_extensions import override

from perennial.data.examples import are_examples
from perennial.data.worker_files import Workers
from perennial.errors import ProjectError
from perennial.ledger.task_lease import RUN_VARIABLE, TaskPlace, current_run
from perennial.project import Project, load_project
from perennial.results.run_records import RunRecords
from perennial.results.run_task import RunTask
from perennial.results.store import Results, key_of, reference_to
from perennial.results.task_inputs import read_task_inputs
from schemas.records import FileRecord, Reference, Selection, StepMade, StepResult

# In an artifact's metadata: its step found it in the root, and did nothing.
KEPT = "kept"


class Artifact(Protocol):
    """Describes what wrappers use of a Kubeflow artifact: its file's place, and what is shown."""

    path: str
    metadata: dict[str, Any]


class StagedTask:
    """A task that reads results of other steps, and keeps none of its own.

    To be used in a `with` statement: the staged folders are gone after it. A task of a run leaves
    in the root what it was given, to be run once more, and what it made, for the end of the run.

    Args:
        project: The project folder, the reference to its package, or the project as loaded.
        step: Name of the step.
        part: Of a task in a loop: the name of its span or instance.
        place: Of the task in its run.

    Attributes:
        project: The project.
        task: What surrounds a task of a run; None: the step is called by itself.
    """

    def __init__(
        self,
        project: str | Project,
        step: str,
        part: str = "",
        place: TaskPlace = "inner",
    ) -> None:
        self.project = project if isinstance(project, Project) else load_project(project)
        self.task: RunTask | None = None
        if (run := current_run()) is not None:
            self.task = RunTask(self.project, run, step, part, place)
        self._made_by, self._place = StepMade(step=step, part=part), place
        self._left: dict[str, Reference] = {}
        self._returned: Any = None
        self._leaves = True
        self._scratch: Path | None = None
        self._surroundings = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self.task is not None:
                stack.enter_context(self.task)
            self.project = self._opened()
            scratch = self.project.scratch
            scratch.mkdir(parents=True, exist_ok=True)
            self.results = Results(self.project.root, self.project.state)
            self._record_inputs()
            self._scratch = Path(
                stack.enter_context(TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True))
            )
            stack.push(self._leave)
            self._surroundings = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._surroundings.__exit__(kind, error, trace)

    @property
    def run(self) -> str:
        """The run that the task is of.

        Raises:
            ProjectError: Nothing says which.
        """
        if self.task is None:
            raise ProjectError(
                f"the environment variable {RUN_VARIABLE}",
                "must name the run",
                "nothing",
                "Compile the pipeline with `perennial compile`, or set it.",
            )
        return self.task.run

    @property
    def fence(self) -> int | None:
        """The fencing number of the run; None: the step is called by itself."""
        return self.task.lease.fence if self.task is not None else None

    @property
    def surrounds(self) -> bool:
        """Tells whether tasks are all that there is of the run, as on a cluster."""
        return self.task is not None and self.task.lease.of_tasks

    def _opened(self) -> Project:
        return self.project

    def _record_inputs(self) -> None:
        """Leaves what the task was given; those that take and end the run are run by it alone."""
        if self.task is not None and self._place == "inner":
            inputs = read_task_inputs(sys.argv, self._made_by.step, self._made_by.part)
            if inputs is not None:
                RunRecords(self.results, self.task.run).begin(inputs)

    def _leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves in the root what the task made, for the end of the run."""
        if error is None and self.task is not None and self._leaves:
            update = {"outputs": self._left, "value": self._returned}
            made = self._made_by.model_copy(update=update)
            RunRecords(self.results, self.task.run).leave(made)

    def release(self) -> None:
        """Gives back the lease that only tasks hold: the run has ended, and leaves no more."""
        self._leaves = False
        if self.task is not None:
            self.task.lease.release()

    @property
    def is_of_tasks(self) -> bool:
        """Tells whether nothing but tasks holds the run's lease, as on a cluster."""
        return self.task is not None and self.task.lease.of_tasks

    def selection(self, artifact: Artifact) -> Selection:
        """Reads the run's selection, with the number of the lease as the run holds it now.

        A run that is tried again has another than the one that it began with.
        """
        selection = Selection.read(self.input(artifact))
        return selection.model_copy(update={"fence": self.fence or selection.fence})

    def returns(self, value: Any) -> None:
        """Leaves what the task returns for the end of the run."""
        self._returned = value

    def input(self, artifact: Artifact | Reference) -> Path:
        """Gives a folder with what another step made; its files must not be changed."""
        folder = self._folder("inputs", f"{len(self._made('inputs'))}")
        self.results.stage(_reference(artifact), folder)
        return folder

    def examples(self, artifact: Artifact | Reference) -> Path:
        """Gives such a folder to a step whose pipeline reads the files of examples in it.

        They stay in the root where the pipeline's workers are on other machines.
        """
        if Workers.of(self.project).root is None:
            return self.input(artifact)
        folder = self._folder("inputs", f"{len(self._made('inputs'))}")
        self.results.stage(_reference(artifact), folder, leaves=are_examples)
        return folder

    def reference_of(self, artifact: Artifact) -> Reference:
        """Gives the reference that another step left: it names the artifact on any machine."""
        return _reference(artifact)

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
        self._left["record"] = reference_to(result, "record")
        self._left["record"].write(Path(output.path))

    def part_of(self, step: str, digest: str, **outputs: Artifact) -> StoredStep:
        """Makes a step that is kept by itself; its outputs and its failure are this task's."""
        part = StoredStep(self.project, step, digest, "", False, **outputs)
        part._left = self._left
        return part

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
        project: The project folder, the reference to its package, or the project as loaded.
        step: Name of the step.
        digest: What the step reads of the project, when the run began.
        part: Of a task in a loop: the name of its instance.
        alone: Whether it is a task; else it is a step of one that does several.
        outputs: The artifacts that it makes, by their names.
    """

    def __init__(
        self,
        project: str | Project,
        step: str,
        digest: str,
        part: str = "",
        alone: bool = True,
        **outputs: Artifact,
    ) -> None:
        super().__init__(project, step, part)
        if not alone:
            self.task = None
        self._step, self._digest, self._outputs = step, digest, outputs
        self._key = ""
        self._result: StepResult | None = None

    @override
    def _opened(self) -> Project:
        return self.project.opened_for(self._step, self._digest)

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
        self._returned = result.value
        for name, artifact in self._outputs.items():
            self._left[name] = reference_to(result, name)
            self._left[name].write(Path(artifact.path))
            artifact.metadata.update({**result.outputs[name].metadata, KEPT: kept})


def _reference(artifact: Artifact | Reference) -> Reference:
    return artifact if isinstance(artifact, Reference) else Reference.read(Path(artifact.path))


def _by_digest(item: Any) -> object:
    """Gives what an input counts as in a key."""
    if isinstance(item, Sequence) and not isinstance(item, str):
        return [_by_digest(each) for each in item]
    return Reference.read(Path(item.path)) if hasattr(item, "path") else item
