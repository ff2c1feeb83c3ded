"""The model registry: MLflow, with a digest and lineage on every version.

A version becomes visible last: the model's files are stored and verified first. Version numbers
come from the registry, and are higher than any that the ledger knows: a registry that was lost does
not give a number twice. Registering the same bytes again gives the version that exists. Whoever
changes the registry holds `Ledger.exclusive` meanwhile.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.errors import IntegrityError, RegistryError, describe_system_error
from perennial.project import Project
from perennial.registry.mlflow_runs import (
    DIGEST_TAG,
    TAG,
    CandidateRun,
    MlflowRuns,
    RunStory,
    TrainedInstance,
    lineage_tags,
)
from perennial.registry.model_files import verify_model
from perennial.registry.model_sources import lies_within, local_path
from perennial.storage.atomic import publish_folder
from perennial.tfx_compat import prepare_process
from schemas.records import ModelVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION_ALIAS, CHALLENGER_ALIAS = "champion", "challenger"
DATABASE = "registry.db"  # in the state folder, where no server is named
_MODEL_PATH = "model"
# A version that only takes a number that was given before.
_SKIPPED_TAG = f"{TAG}skipped"


@dataclass(frozen=True)
class Candidate:
    """A model to register: its SavedModel folder, and what is recorded beside it.

    `curves` maps a metric's name to its values by epoch; `documents` the name of a file to its
    text. `others` are the instances that the same run trained.
    """

    saved_model: Path
    digest: str
    parameters: Mapping[str, str | int | float]
    metrics: Mapping[str, float]
    curves: Mapping[str, list[float]]
    lineage: Mapping[str, str]
    instance: str = "candidate"
    documents: Mapping[str, str] = field(default_factory=dict)
    others: Sequence[TrainedInstance] = ()


class Registry:
    """The versions of one project's model.

    Args:
        project: Names the model and says where the registry is.

    Raises:
        RegistryError: The registry cannot be reached.
    """

    def __init__(self, project: Project) -> None:
        prepare_process()
        # What a program prints is for its reader; MLflow would add addresses of its pages.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        # A server that does not answer is reported after seconds; MLflow's own seven attempts take
        # minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        from mlflow import MlflowClient

        if "MLFLOW_LOGGING_LEVEL" not in os.environ:
            # It would tell of each table that it makes; what goes wrong is raised.
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.WARNING)
        self.name = project.settings.name
        self.uri = project.settings.registry.uri or f"sqlite:///{project.state / DATABASE}"
        self._models = project.state / "models"
        artifacts = None if project.settings.registry.uri else (project.state / "registry").as_uri()
        with suppress(OSError):  # without a folder, the registry says that it cannot be reached
            project.state.mkdir(parents=True, exist_ok=True)
        with self._reported():
            self._client: MlflowClient = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        self._runs = MlflowRuns(self._client, self.name, artifacts)

    def register(self, candidate: Candidate, above: int = 0) -> ModelVersion:
        """Stores a candidate as a new version, or gives the one that already holds its bytes.

        Args:
            candidate: What is registered.
            above: A new version gets a higher number than this one.

        Raises:
            IntegrityError: The folder does not have the candidate's digest, or holds more than a
                SavedModel; or the version that holds the same bytes takes them from elsewhere than
                its own run.
        """
        verify_model(candidate.saved_model, candidate.digest)
        existing = [version for version in self.versions() if version.digest == candidate.digest]
        if existing:
            self._check_source(existing[0])
            return existing[0]
        with self._reported():
            return self._create(candidate, above)

    def versions(self) -> list[ModelVersion]:
        """Lists every version of the model, oldest first."""
        with self._reported():
            items: list[Any] = []
            page = self._client.search_model_versions(f"name = '{self.name}'")
            items.extend(page)
            while page.token:
                page = self._client.search_model_versions(
                    f"name = '{self.name}'", page_token=page.token
                )
                items.extend(page)
        return sorted(
            (_as_version(item) for item in items if _SKIPPED_TAG not in item.tags),
            key=lambda version: int(version.version),
        )

    def version(self, number: str) -> ModelVersion:
        """Gives the version with this number.

        Raises:
            RegistryError: There is none.
        """
        known = {version.version: version for version in self.versions()}
        if number not in known:
            have = ", ".join(known) or "none"
            raise RegistryError(
                f"version {number} of {self.name}",
                "must be in the registry",
                f"it has {have}",
                "Choose one." if known else "`perennial run` makes the first.",
            )
        return known[number]

    def lineage(self, number: str) -> dict[str, str]:
        """Reads the lineage tags of a version: spans, fingerprints, digests, commit and run."""
        with self._reported():
            tags: dict[str, str] = self._client.get_model_version(self.name, number).tags
        return {
            name.removeprefix(TAG): value for name, value in tags.items() if name.startswith(TAG)
        }

    def story(self, version: ModelVersion) -> RunStory:
        """Reads the parameters and metrics of the MLflow run that holds a version."""
        with self._reported():
            return self._runs.story(version.mlflow_run)

    def document(self, version: ModelVersion, name: str) -> str | None:
        """Reads a document that was registered with a version; None where there is none."""
        with self._reported():
            return self._runs.document(version.mlflow_run, name)

    def delete_unfinished(self) -> int:
        """Deletes the MLflow runs of processes that are gone; gives their number."""
        with self._reported():
            return self._runs.delete_unfinished()

    def candidates(self) -> list[CandidateRun]:
        """Lists the MLflow runs that hold candidates, whether a version names them or not."""
        with self._reported():
            return self._runs.candidates()

    def size(self, candidate: CandidateRun) -> int:
        """Sums the bytes that the registry holds of a candidate."""
        with self._reported():
            return self._runs.size(candidate.run_id)

    def remove(self, candidate: CandidateRun, version: ModelVersion | None) -> None:
        """Removes a candidate: its version first, so that none is ever half there."""
        with self._reported():
            if version is not None:
                self._client.delete_model_version(self.name, version.version)
            self._runs.delete(candidate.run_id)
        shutil.rmtree(self._models / candidate.digest, ignore_errors=True)

    def fetch(self, version: ModelVersion) -> Path:
        """Gives a version's verified SavedModel; copies it from the registry where it is missing.

        A local copy that was damaged is copied again. Where nothing can be written, files of a
        local registry are given as they lie there.

        Raises:
            IntegrityError: The registry's files are not those that were registered, or lie
                elsewhere than its run's.
            RegistryError: The registry's files cannot be read.
        """
        self._check_source(version)
        destination = self._models / version.digest
        try:
            if destination.exists():
                try:
                    verify_model(destination, version.digest)
                    return destination
                except IntegrityError:
                    shutil.rmtree(destination)
            self._download(version, destination)
        except OSError:
            source = local_path(version.source)
            if source is None or not source.is_dir():
                raise
            verify_model(source, version.digest)
            return source
        return destination

    def _download(self, version: ModelVersion, destination: Path) -> None:
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        source = local_path(version.source)
        if source is not None and source.is_dir():
            verify_model(source, version.digest)
            publish_folder(source, destination)
            return
        with tempfile.TemporaryDirectory() as temporary:
            try:
                fetched = Path(
                    download_artifacts(version.source, dst_path=temporary, tracking_uri=self.uri)
                )
            except (MlflowException, OSError) as error:
                where, remedy = (
                    f"files of version {version.version}",
                    "Restore them, or promote another version.",
                )
                raise RegistryError(where, "must be in the registry", error, remedy) from error
            verify_model(fetched, version.digest)
            publish_folder(fetched, destination)

    def aliases(self) -> dict[str, str]:
        """Alias -> version number."""
        from mlflow.exceptions import MlflowException

        with self._reported():
            try:
                aliases = self._client.get_registered_model(self.name).aliases
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return {}
        return {str(alias): str(number) for alias, number in aliases.items()}

    def set_aliases(self, champion: str | None) -> bool:
        """Points `champion` at what serves, `challenger` at the newest version unless that serves.

        The ledger stays what decides; nothing reads the aliases but people and other programs.
        Tells whether an alias was changed.
        """
        known = [version.version for version in self.versions()]
        newest = known[-1] if known else None
        required = {
            CHAMPION_ALIAS: champion,
            CHALLENGER_ALIAS: newest if newest != champion else None,
        }
        current = self.aliases()
        changes = {
            alias: number for alias, number in required.items() if current.get(alias) != number
        }
        with self._reported():
            for alias, number in changes.items():
                if number is None:
                    self._client.delete_registered_model_alias(self.name, alias)
                elif number in known:
                    self._client.set_registered_model_alias(self.name, alias, number)
        return bool(changes)

    def _check_source(self, version: ModelVersion) -> None:
        """Checks that a version's files are artifacts of its own run.

        Raises:
            IntegrityError: They lie elsewhere, or it has no run.
        """
        with self._reported():
            root = self._runs.artifacts_of(version.mlflow_run) if version.mlflow_run else ""
        if not root or not lies_within(version.source, root):
            where, expected = (
                f"version {version.version} of {self.name}",
                "must hold files of its own MLflow run",
            )
            remedy = "Find out who registered it; promote another version."
            raise IntegrityError(where, expected, version.source, remedy)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turns errors of MLflow and its database into a message without the URI's password."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError) as error:
            where = f"registry at {re.sub('//[^/@]*@', '//***@', self.uri)}"
            own_words = str(getattr(error, "orig", None) or error).splitlines()[0]
            cause = describe_system_error(error) or own_words
            raise RegistryError(where, "must be reachable", cause, "Check registry.uri.") from error

    def _create(self, candidate: Candidate, above: int) -> ModelVersion:
        for other in candidate.others:
            self._runs.record(other, candidate.lineage)
        known = (candidate.parameters, candidate.metrics, candidate.curves)
        judged = TrainedInstance(candidate.instance, candidate.digest, *known, judged=True)
        folders = {_MODEL_PATH: candidate.saved_model}
        run = self._runs.record_candidate(judged, candidate.lineage, candidate.documents, folders)
        self._ensure_model()
        source = f"{run.info.artifact_uri}/{_MODEL_PATH}"
        self._skip_numbers(above, source, run.info.run_id)
        item = self._client.create_model_version(
            self.name,
            source=source,
            run_id=run.info.run_id,
            tags=lineage_tags(candidate.lineage, candidate.digest),
        )
        return _as_version(item)

    def _skip_numbers(self, above: int, source: str, run_id: str) -> None:
        """Uses up the numbers up to `above`, so that the next version gets a higher one.

        MLflow counts versions itself, deleted ones too, and lets nobody choose a number.
        """
        highest = max((int(version.version) for version in self.versions()), default=0)
        while highest < above:
            item = self._client.create_model_version(
                self.name, source=source, run_id=run_id, tags={_SKIPPED_TAG: "true"}
            )
            self._client.delete_model_version(self.name, item.version)
            if int(item.version) <= highest:  # it forgets what was deleted
                raise RegistryError(
                    f"registry at {self.name}",
                    f"must number its versions above {above}, as lower numbers were given before",
                    f"number {item.version}",
                    "Restore the registry, or use one that counts deleted versions.",
                )
            highest = int(item.version)

    def _ensure_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _as_version(item: Any) -> ModelVersion:
    return ModelVersion(
        name=item.name,
        version=str(item.version),
        digest=item.tags.get(DIGEST_TAG, ""),
        source=item.source,
        mlflow_run=item.run_id or "",
    )
