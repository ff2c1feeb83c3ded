"""One training, as it is handed to this process or to the workers that it starts."""

from __future__ import annotations

from pathlib import Path

from perennial.package.store import OpenPackage
from perennial.project import Project
from perennial.results.unfinished import UnfinishedWork
from perennial.storage.digests import digest_file, digest_folder, digest_value
from perennial.training.artifacts import WEIGHTS_FILE
from perennial.training.checkpoints import Checkpoints
from schemas.project import ProjectSettings
from schemas.records import Champion, Hyperparameters, Instance, Record


class Job(Record):
    """One training: its model, its data and its output folder. Paths are absolute.

    `key` is a digest of everything that decides the training: its checkpoints are found again by
    it.
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

    @property
    def local_folder(self) -> Path:
        """Gives the folder of this machine for logs of workers, and for what a `run_fn` leaves."""
        return local_root(self.project) / self.key


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
    decides = [
        project.digest_of("train_model"),
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
        key=digest_value(decides)[:32],
    )


def local_root(project: Project) -> Path:
    """Gives the folder of what all trainings of a project leave on this machine."""
    return project.state / "training"
