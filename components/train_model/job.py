"""One training, as it is handed to this process or to the workers that it starts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from perennial import errors
from perennial.errors import LostError, PerennialError
from perennial.package.store import OpenPackage
from perennial.project import Project
from perennial.results.store import Results
from perennial.results.unfinished import UnfinishedWork
from perennial.storage.digests import digest_file, digest_folder, digest_value
from perennial.training.artifacts import WEIGHTS_FILE
from perennial.training.checkpoints import Checkpoints
from schemas.project import ProjectSettings
from schemas.records import Champion, Hyperparameters, Instance, Record, Reference

_WORK = "train_workers"


class Job(Record):
    """One training: its model, its data and its output folder. Paths are absolute.

    `digest` is that of what `train_model` reads of the project; `key` one of everything that
    decides the training: its checkpoints are found again by it.
    """

    folder: Path
    settings: ProjectSettings
    package: OpenPackage | None
    instance: Instance
    hyperparameters: Hyperparameters
    features: Path
    weights: Path | None
    champion: Champion | None
    output: Path
    digest: str
    key: str

    @property
    def project(self) -> Project:
        """Gives the project with the settings that the step was given."""
        return Project(self.folder, self.settings, package=self.package)

    @property
    def start_weights(self) -> Path:
        """Gives the file of the stabilised weights, which a module with `build_model` has."""
        assert self.weights is not None
        return self.weights / WEIGHTS_FILE

    def open_checkpoints(self) -> Checkpoints:
        """Opens its checkpoints, in this process: a connection to the root outlives no fork."""
        return Checkpoints(UnfinishedWork(self.project.root, "train_model", self.key))

    def describe(
        self, features: Reference | Path, weights: Reference | Path | None, output: Path | None
    ) -> JobDescription:
        """Makes what workers read of the training, with where they find and leave its files."""
        return JobDescription(
            project=self.project.location,
            digest=self.digest,
            instance=self.instance,
            hyperparameters=self.hyperparameters,
            features=features,
            weights=weights,
            champion=self.champion,
            output=output,
            key=self.key,
        )

    def open_work(self) -> Work:
        """Opens the work of its workers, in this process."""
        return Work(UnfinishedWork(self.project.root, _WORK, self.key))

    @property
    def local_folder(self) -> Path:
        """Gives the folder of this machine for logs of workers, and for what a `run_fn` leaves."""
        return local_root(self.project) / self.key


class JobDescription(Record):
    """One training, as its workers read it from the root.

    A worker of another machine stages what `features` and `weights` refer to, and has no `output`:
    what it makes goes into the root. Paths are those of the step, for workers of its machine.

    `project` is where the project is loaded from, `digest` what `train_model` reads of it.
    """

    project: str
    digest: str
    instance: Instance
    hyperparameters: Hyperparameters
    features: Reference | Path
    weights: Reference | Path | None
    champion: Champion | None
    output: Path | None
    key: str

    def open(self, project: Project, output: Path) -> Job:
        """Makes the job of a worker on the step's machine."""
        assert isinstance(self.features, Path)
        assert not isinstance(self.weights, Reference)
        return self._job(project, self.features, self.weights, output)

    def stage(self, project: Project, folder: Path) -> Job:
        """Makes the job of a worker anywhere, with its inputs staged below a folder.

        Raises:
            LostError: An input is not in the root any more.
            StoreError: The root cannot be read.
        """
        results = Results(project.root, project.state)

        def staged(source: Reference | Path, name: str) -> Path:
            if isinstance(source, Path):
                return source
            results.stage(source, folder / name)
            return folder / name

        output = folder / "output"
        output.mkdir()
        weights = staged(self.weights, "weights") if self.weights is not None else None
        return self._job(project, staged(self.features, "features"), weights, output)

    def _job(self, project: Project, features: Path, weights: Path | None, output: Path) -> Job:
        return Job(
            folder=project.folder,
            settings=project.settings,
            package=project.package,
            instance=self.instance,
            hyperparameters=self.hyperparameters,
            features=features,
            weights=weights,
            champion=self.champion,
            output=output,
            digest=self.digest,
            key=self.key,
        )


@dataclass(frozen=True)
class Work:
    """Keeps in the root what one training on workers needs: its description, errors and output.

    Attributes:
        parts: They, as unfinished work: it is removed when the training is published.
    """

    parts: UnfinishedWork

    def describe(self, description: JobDescription) -> str:
        """Writes the description; gives its URI."""
        text = description.model_dump_json()
        part = f"job-{digest_value(text)[:16]}.json"
        self.parts.write(part, text.encode())
        return self.parts.uri(part)

    def write_error(self, number: int, error: PerennialError) -> None:
        """Says what is wrong with the project or the training to the step."""
        name, arguments = error.__reduce__()
        self.parts.write(_error_part(number), json.dumps([name.__name__, *arguments]).encode())

    def read_error(self, workers: int) -> PerennialError | None:
        """Reads the first error that a worker wrote, if any."""
        for number in range(workers):
            if (data := self.parts.read(_error_part(number))) is not None:
                name, *arguments = json.loads(data)
                kind: type[PerennialError] = getattr(errors, name, PerennialError)
                return kind(*arguments)
        return None

    def clear_errors(self, workers: int) -> None:
        """Removes what workers of an earlier attempt wrote."""
        for number in range(workers):
            self.parts.remove(_error_part(number))


def open_work(uri: str) -> Work:
    """Opens the work that the description at a URI is of."""
    return Work(UnfinishedWork.of_part(uri)[0])


def read_description(uri: str) -> JobDescription:
    """Reads a description.

    Raises:
        LostError: It is not there.
        StoreError: The root cannot be read.
    """
    work, part = UnfinishedWork.of_part(uri)
    data = work.read(part)
    if data is None:
        raise LostError(
            f"{work.place}/{part}",
            "must describe the training",
            "no such object",
            "Start the workers by the step train_model, or run it again.",
        )
    return JobDescription.model_validate_json(data)


def _error_part(number: int) -> str:
    return f"error-{number}.json"


def make_job(
    project: Project,
    instance: Instance,
    hyperparameters: Hyperparameters,
    champion: Champion | None,
    features: Path,
    weights: Path | None,
    output: Path,
) -> Job:
    """Makes the job of one instance. A champion counts only where the instance starts from it."""
    patched = champion if instance.start == "patched" else None
    digest = project.digest_of("train_model")
    decides = [
        digest,
        instance.model_dump(),
        hyperparameters.model_dump(),
        patched.digest if patched else None,
        digest_folder(features),
        digest_file(weights / WEIGHTS_FILE) if weights is not None else None,
    ]
    return Job(
        folder=project.folder,
        settings=project.settings,
        package=project.package,
        instance=instance,
        hyperparameters=hyperparameters,
        features=features.absolute(),
        weights=weights.absolute() if weights is not None else None,
        champion=patched,
        output=output.absolute(),
        digest=digest,
        key=digest_value(decides)[:32],
    )


def local_root(project: Project) -> Path:
    """Gives the folder of what all trainings of a project leave on this machine."""
    return project.state / "training"
