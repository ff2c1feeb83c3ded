"""Runs one task of a run once more on this machine, with the inputs that it had.

A new folder stands for all that a run shares, so that nothing of the project is changed:

    root/<project>/     the root: copies of the inputs and of the package, and what the task makes
    state/              scratch files, an empty ledger, and a copy of the registry's database
    task/               what Kubeflow has: references to the inputs and outputs
    outputs/<output>/   what the task made
"""

from __future__ import annotations

import importlib
import json
import os
import pdb
import shutil
import sqlite3
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perennial.data.beam_options import workers_are_elsewhere
from perennial.errors import PerennialError
from perennial.ledger.task_lease import RUN_VARIABLE
from perennial.package.store import PackageReference, package_name
from perennial.project import Project, load_project
from perennial.registry.versions import DATABASE
from perennial.results.copies import ResultCopies
from perennial.results.run_records import RunRecords
from perennial.results.store import Results, result_name
from perennial.results.task_inputs import PROJECT
from perennial.runner.task import parse_command
from perennial.runner.warm_imports import ALL, STEP_GROUPS
from perennial.spans.prepared import STEP as PREPARED
from perennial.spans.prepared import PreparedSpans
from perennial.storage.objects import FolderObjects, Objects, open_objects
from schemas.project import BeamSettings
from schemas.records import (
    PreparedSpan,
    Record,
    Reference,
    Selection,
    StepResult,
    TaskInputs,
)

# Steps that do more than make a result of their inputs, and what that is.
REFUSED = {
    "select_spans": "it takes the lease of a run, and records its beginning in the ledger",
    "register_model": "it registers a version",
    "push_model": "it deploys a version",
    "conclude_run": "it records the end of a run in the ledger, and publishes its report",
}
_OUTPUT_FILE, _MODULE = "executor_output.json", "ephemeral_component"  # as kfp names them


class Wrapper(Record):
    """The wrapper of a step, as Kubeflow has it.

    `outputs` are the types of the artifacts that it makes, by their names.
    """

    source: str
    outputs: dict[str, str]


class Rerun(Record):
    """A task that is to be run once more.

    Attributes:
        folder: The folder that stands for all that a run shares.
        run: The run that the task was of.
        inputs: What it was given.
        wrapper: The step's wrapper.
        location: What `load_project` loads the project from, while `variables` are set.
        name: The project's name.
    """

    folder: Path
    run: str
    inputs: TaskInputs
    wrapper: Wrapper
    location: str
    name: str

    @property
    def task(self) -> str:
        """Names the task."""
        return f"{self.inputs.step} {self.inputs.part}".rstrip()

    @property
    def needs(self) -> tuple[str, ...]:
        """Gives the groups of imports that the step needs."""
        return STEP_GROUPS.get(self.inputs.step, ALL)

    @property
    def root(self) -> Path:
        """Gives the folder of the root."""
        return self.folder / "root" / self.name

    @property
    def state(self) -> Path:
        """Gives the state folder."""
        return self.folder / "state"

    @property
    def results(self) -> Results:
        """Opens the results in the root."""
        return Results(str(self.root), self.state)

    @property
    def variables(self) -> dict[str, str | None]:
        """Gives the variables under which the task works; None: it is not set."""
        return {
            "PERENNIAL_ROOT": str(self.root.parent),
            "PERENNIAL_STATE": str(self.state),
            "PERENNIAL_LEDGER_URL": f"sqlite:///{self.state / 'ledger.db'}",
            RUN_VARIABLE: None,
        }


@dataclass(frozen=True)
class MadeAgain:
    """One output of a task that was run once more.

    `differs` are the files that differ from what the run made; None: nothing of it is there.
    """

    name: str
    folder: Path
    files: int
    differs: list[str] | None


def prepare_rerun(project: Project, run: str, step: str, part: str | None) -> Rerun:
    """Copies what a task of a run was given into a new folder.

    Raises:
        PerennialError: The step does more than make a result, or the run left no such inputs.
        LostError: One of them is not in the root any more.
        StoreError: The root cannot be read.
    """
    if step in REFUSED:
        raise PerennialError(
            step,
            "must be a step that makes a result of its inputs and does nothing else",
            REFUSED[step],
            f"`perennial logs PROJECT {run} {step}` shows what it printed.",
        )
    results = Results(project.root, project.state)
    inputs = _choose(RunRecords(results, run).inputs(), run, step, part)
    wrapper = _read_wrapper(step)
    folder = Path(tempfile.mkdtemp(prefix=f"perennial-{step}-"))
    rerun = Rerun(
        folder=folder,
        run=run,
        inputs=inputs,
        wrapper=wrapper,
        location=str(project.folder),
        name=project.settings.name,
    )
    try:
        for place in (rerun.state, folder / "task"):
            place.mkdir()
        _copy_inputs(rerun, results)
        _copy_registry(project, rerun.state)
    except BaseException:
        shutil.rmtree(folder)
        raise
    if inputs.package is None:
        return rerun
    root = str(rerun.root)
    package = PackageReference(root=root, digest=inputs.package, folder=project.folder)
    return rerun.model_copy(update={"location": str(package)})


def _choose(recorded: Sequence[TaskInputs], run: str, step: str, part: str | None) -> TaskInputs:
    chosen = [each for each in recorded if each.step == step and part in (None, each.part)]
    if len(chosen) == 1:
        return chosen[0]
    tasks = [f"{each.step} {each.part}".rstrip() for each in chosen or recorded]
    raise PerennialError(
        " ".join(filter(None, (step, part, "of run", run))),
        "must be one task that left its inputs in the root",
        f"inputs of {', '.join(tasks)}" if tasks else "no inputs of this run",
        "Name a part, a step that the run reached, or a newer run: `perennial clean` removes the "
        "inputs of old ones.",
    )


def _copy_inputs(rerun: Rerun, results: Results) -> None:
    inputs, target = rerun.inputs, FolderObjects(rerun.root)
    copies = ResultCopies(results, target)
    for reference in (each for given in inputs.artifacts.values() for each in given):
        copies.copy_output(reference)
    if inputs.package is not None:
        copies.copy_object(package_name(inputs.package), private=True)
    if inputs.step == "validate_data":  # it finds the prepared spans by itself
        selection = _read_selection(rerun, inputs.artifacts["selection"][0])
        for key in PreparedSpans.of_run(results, selection).keys(selection.window):
            prepared = PreparedSpan.model_validate(copies.copy_record(PREPARED, key).value)
            copies.copy_output(prepared.checked)
            copies.copy_output(prepared.statistics)


def _read_selection(rerun: Rerun, reference: Reference) -> Selection:
    with tempfile.TemporaryDirectory(dir=rerun.folder) as folder:
        rerun.results.stage(reference, Path(folder))
        return Selection.read(Path(folder))


def _copy_registry(project: Project, state: Path) -> None:
    """Copies the database of a registry on this machine, so that its versions can be read."""
    database = project.state / DATABASE
    if project.settings.registry.uri is None and database.is_file():
        with (
            closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(state / DATABASE)) as target,
        ):
            source.backup(target)


def run_again(prepared: str, debug: bool = False) -> None:
    """Runs a prepared task, in a process that has the libraries imported.

    Args:
        prepared: The `Rerun` as JSON.
        debug: Whether to start the debugger where the task fails.

    Raises:
        PerennialError: The step failed, as it would have in the run; so may any other error.
    """
    rerun = Rerun.model_validate_json(prepared)
    with _variables(rerun.variables):
        try:
            _execute(rerun)
        except Exception as error:
            traceback.print_exc()
            if debug:
                pdb.post_mortem(error.__traceback__)
            raise


def _read_wrapper(step: str) -> Wrapper:
    """Reads the wrapper of a step; kfp lets no process do so that runs tasks."""
    component = getattr(importlib.import_module(f"components.{step}.component"), step)
    container = component.component_spec.implementation.container
    artifacts = {
        name: output.type.partition("@")[0]
        for name, output in component.component_spec.outputs.items()
        if "@" in output.type  # else it is a parameter
    }
    command = [*container.command, *container.args]
    return Wrapper(source=parse_command(command).source, outputs=artifacts)


def _execute(rerun: Rerun) -> None:
    """Calls the step's wrapper as Kubeflow's executor does."""
    from kfp.dsl.executor import Executor
    from kfp.dsl.utils import load_module

    task, inputs = rerun.folder / "task", rerun.inputs
    artifacts = {
        name: {"artifacts": [_place(rerun, name, *numbered) for numbered in enumerate(given)]}
        for name, given in inputs.artifacts.items()
    }
    outputs = {
        name: {
            "artifacts": [{"name": name, "type": {"schemaTitle": kind}, "uri": str(task / name)}]
        }
        for name, kind in rerun.wrapper.outputs.items()
    }
    parameters = {**inputs.parameters, PROJECT: _open_project(rerun)}
    given = {
        "inputs": {"parameterValues": parameters, "artifacts": artifacts},
        "outputs": {"artifacts": outputs, "outputFile": str(task / _OUTPUT_FILE)},
    }
    (task / f"{_MODULE}.py").write_text(rerun.wrapper.source, encoding="utf-8")
    module = load_module(module_name=_MODULE, module_directory=str(task))
    Executor(given, getattr(module, inputs.step)).execute()


def _place(rerun: Rerun, name: str, number: int, reference: Reference) -> dict[str, Any]:
    """Writes the reference to an input where the step reads it."""
    place = rerun.folder / "task" / "inputs" / name / str(number)
    reference.write(place)
    return {"name": name, "uri": str(place)}


def _open_project(rerun: Rerun) -> Project:
    """Opens the project as the run read it; workers on other machines would see no folder."""
    project = load_project(rerun.location)
    if workers_are_elsewhere(project.settings.beam):
        settings = project.settings.model_copy(update={"beam": BeamSettings()})
        project = replace(project, settings=settings)
    return project


@contextmanager
def _variables(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Sets environment variables for the block."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def read_outputs(project: Project, rerun: Rerun) -> list[MadeAgain]:
    """Gives what the task made, and how it differs from what it made in the run.

    Raises:
        StoreError: The root cannot be read.
    """
    places = sorted(path.parent for path in rerun.folder.glob(f"task/*/{Reference.FILE}"))
    before = _made_in_run(project, rerun)
    objects, results = open_objects(project.root), rerun.results
    all_made = []
    for place in places:
        name, reference = place.name, Reference.read(place)
        folder = rerun.folder / "outputs" / name
        results.stage(reference, folder)
        files = {file.path: file.digest for file in results.files_of(reference)}
        kept = _files_of(objects, before.get(name))
        differs = None
        if kept is not None:
            paths = sorted({*files, *kept})
            differs = [path for path in paths if files.get(path) != kept.get(path)]
        all_made.append(MadeAgain(name, folder, len(files), differs))
    return all_made


def _made_in_run(project: Project, rerun: Rerun) -> dict[str, Reference]:
    """Gives what the task made in the run; nothing where it failed."""
    records = RunRecords(Results(project.root, project.state), rerun.run)
    task = rerun.inputs.step, rerun.inputs.part
    outputs = (made.outputs for made in records.made() if (made.step, made.part) == task)
    return next(outputs, {})


def _files_of(objects: Objects, reference: Reference | None) -> dict[str, str] | None:
    """Gives the digests of an output's files by their paths; None: it is not in the root."""
    if reference is None:
        return None
    data = objects.read(result_name(reference.step, reference.key))
    if data is None:
        return None
    output = StepResult.model_validate_json(data).outputs[reference.output]
    return {file.path: file.digest for file in output.files}


def read_returned(rerun: Rerun) -> Any:
    """Gives what the task returned; None: nothing."""
    text = (rerun.folder / "task" / _OUTPUT_FILE).read_text(encoding="utf-8")
    return json.loads(text).get("parameterValues", {}).get("Output")
