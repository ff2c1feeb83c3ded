"""The model registry: MLflow, with a digest and lineage on every version.

A version becomes visible last: the model's files are stored and verified first. Version numbers come from the
registry; registering the same bytes again gives the version that exists.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.digests import verify_folder
from perennial.errors import IntegrityError, RegistryError
from perennial.project import Project
from perennial.publishing import publish_folder
from perennial.tfx_compat import prepare_process
from schemas.records import ModelVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

DIGEST_TAG = "perennial.digest"
CHAMPION_ALIAS = "champion"
_MODEL_PATH = "model"


@dataclass(frozen=True)
class Candidate:
    """A model to register: its SavedModel folder, and what is recorded beside it.

    `curves` maps a metric's name to its values by epoch.
    """

    saved_model: Path
    digest: str
    parameters: Mapping[str, str | int | float]
    metrics: Mapping[str, float]
    curves: Mapping[str, list[float]]
    lineage: Mapping[str, str]


class Registry:
    """The versions of one project's model.

    Args:
        project: Names the model and says where the registry is.

    Raises:
        RegistryError: The registry cannot be reached.
    """

    def __init__(self, project: Project) -> None:
        prepare_process()
        from mlflow import MlflowClient

        self.name = project.settings.name
        self.uri = project.settings.registry.uri or f"sqlite:///{project.state / 'registry.db'}"
        self._models = project.state / "models"
        self._artifacts = None if project.settings.registry.uri else (project.state / "registry").as_uri()
        project.state.mkdir(parents=True, exist_ok=True)
        with self._reported():
            self._client: MlflowClient = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def register(self, candidate: Candidate) -> ModelVersion:
        """Stores a candidate as a new version, or gives the version that already holds the same bytes.

        Raises:
            IntegrityError: The folder does not have the candidate's digest, or is not a SavedModel.
        """
        if not (candidate.saved_model / "saved_model.pb").is_file():
            where = f"model in {candidate.saved_model}"
            raise IntegrityError(where, "must be a SavedModel", "no saved_model.pb", "Run again to rebuild it.")
        verify_folder(candidate.saved_model, candidate.digest)
        existing = [version for version in self.versions() if version.digest == candidate.digest]
        with self._reported():
            return existing[0] if existing else self._create(candidate)

    def versions(self) -> list[ModelVersion]:
        """Every version of the model, oldest first."""
        with self._reported():
            found: list[Any] = []
            page = self._client.search_model_versions(f"name = '{self.name}'")
            found.extend(page)
            while page.token:
                page = self._client.search_model_versions(f"name = '{self.name}'", page_token=page.token)
                found.extend(page)
        return sorted((_as_version(item) for item in found), key=lambda version: int(version.version))

    def version(self, number: str) -> ModelVersion:
        """The version with this number.

        Raises:
            RegistryError: There is none.
        """
        known = {version.version: version for version in self.versions()}
        if number not in known:
            have = ", ".join(known) or "none"
            raise RegistryError(
                f"version {number} of {self.name}", "must be in the registry", f"it has {have}", "Choose one."
            )
        return known[number]

    def lineage(self, number: str) -> dict[str, str]:
        """The lineage tags of a version: spans, fingerprints, digests, commit and run."""
        with self._reported():
            tags: dict[str, str] = self._client.get_model_version(self.name, number).tags
        return {name.removeprefix("perennial."): value for name, value in tags.items() if name.startswith("perennial.")}

    def fetch(self, version: ModelVersion) -> Path:
        """The SavedModel of a version on this machine, verified; copied from the registry when it is not there yet.

        A local copy that was damaged is copied again.

        Raises:
            IntegrityError: The registry's files are not those that were registered.
            RegistryError: The registry's files cannot be read.
        """
        destination = self._models / version.digest
        if destination.exists():
            try:
                verify_folder(destination, version.digest)
                return destination
            except IntegrityError:
                shutil.rmtree(destination)
        self._download(version, destination)
        return destination

    def _download(self, version: ModelVersion, destination: Path) -> None:
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        with tempfile.TemporaryDirectory() as aside:
            try:
                fetched = Path(download_artifacts(version.source, dst_path=aside, tracking_uri=self.uri))
            except (MlflowException, OSError) as error:
                where, remedy = f"files of version {version.version}", "Restore them, or promote another version."
                raise RegistryError(where, "must be in the registry", error, remedy) from error
            verify_folder(fetched, version.digest)
            publish_folder(fetched, destination)

    def mark_champion(self, number: str) -> None:
        """Points the registry's `champion` alias at a version; the ledger stays what decides."""
        with self._reported():
            self._client.set_registered_model_alias(self.name, CHAMPION_ALIAS, number)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turns MLflow's errors, and those of its database, into a message; a password in the URI is not shown."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError) as error:
            where = f"registry at {re.sub('//[^/@]*@', '//***@', self.uri)}"
            cause = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise RegistryError(where, "must be reachable", cause, "Check registry.uri.") from error

    def _create(self, candidate: Candidate) -> ModelVersion:
        run = self._client.create_run(self._experiment(), tags=_tags(candidate), run_name=candidate.lineage.get("run"))
        run_id = run.info.run_id
        self._log(run_id, candidate)
        self._client.log_artifacts(run_id, str(candidate.saved_model), _MODEL_PATH)
        self._client.set_terminated(run_id)
        self._ensure_model()
        item = self._client.create_model_version(
            self.name, source=f"{run.info.artifact_uri}/{_MODEL_PATH}", run_id=run_id, tags=_tags(candidate)
        )
        return _as_version(item)

    def _log(self, run_id: str, candidate: Candidate) -> None:
        from mlflow.entities import Metric, Param

        points = [Metric(name, value, 0, 0) for name, value in candidate.metrics.items()]
        points += [
            Metric(name, value, 0, epoch)
            for name, curve in candidate.curves.items()
            for epoch, value in enumerate(curve)
        ]
        params = [Param(name, str(value)) for name, value in candidate.parameters.items()]
        self._client.log_batch(run_id, metrics=points, params=params)

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.name)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(self.name, artifact_location=self._artifacts))

    def _ensure_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _tags(candidate: Candidate) -> dict[str, Any]:
    return {DIGEST_TAG: candidate.digest} | {f"perennial.{name}": value for name, value in candidate.lineage.items()}


def _as_version(item: Any) -> ModelVersion:
    return ModelVersion(
        name=item.name,
        version=str(item.version),
        digest=item.tags.get(DIGEST_TAG, ""),
        source=item.source,
        mlflow_run=item.run_id or "",
    )
