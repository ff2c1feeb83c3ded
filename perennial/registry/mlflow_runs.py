"""MLflow runs: each trained instance is one, recognised by its bytes however often it is recorded.

Only one process at a time writes here (`Ledger.exclusive`): a run that MLflow shows as running was
left by a process that is gone. Recording the same instance again completes it; `delete_unfinished`
removes what nobody completed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.registry.model_sources import local_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TAG = "perennial."
DIGEST_TAG, INSTANCE_TAG, JUDGED_TAG = f"{TAG}digest", f"{TAG}instance", f"{TAG}judged"
DOCUMENTS = "judgement"
# Most that MLflow takes at once. Source: mlflow.utils.validation, MAX_METRICS_PER_BATCH,
# MAX_PARAMS_TAGS_PER_BATCH.
_METRICS_AT_ONCE, _PARAMETERS_AT_ONCE = 1000, 100


@dataclass(frozen=True)
class TrainedInstance:
    """The record of a trained instance: its name, its SavedModel's SHA-256, its numbers.

    `curves` maps a metric's name to its values by epoch; `judged` says whether it faced the
    champion and the gate.
    """

    name: str
    digest: str
    parameters: Mapping[str, str | int | float]
    metrics: Mapping[str, float]
    curves: Mapping[str, list[float]]
    judged: bool = False


@dataclass(frozen=True)
class RunStory:
    """A run's parameters and metrics in MLflow. `metrics` has the last value of each curve."""

    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CandidateRun:
    """The MLflow run of a candidate: its model's digest, the run that trained it, and its end."""

    run_id: str
    digest: str
    of_run: str
    ended: datetime


class MlflowRuns:
    """The MLflow runs of one project's experiment.

    Args:
        client: MLflow's.
        name: The experiment's name.
        artifacts: URI of the folder for artifacts; None: MLflow's server decides.
    """

    def __init__(self, client: MlflowClient, name: str, artifacts: str | None) -> None:
        self._client, self._name, self._artifacts = client, name, artifacts

    def record(self, instance: TrainedInstance, lineage: Mapping[str, str]) -> None:
        """Records an instance, unless it is recorded already."""
        run = self._open(instance, lineage)
        if run.info.status != "FINISHED":
            self._log(run.info.run_id, instance)
            self._client.set_terminated(run.info.run_id)

    def record_candidate(
        self,
        instance: TrainedInstance,
        lineage: Mapping[str, str],
        documents: Mapping[str, str],
        folders: Mapping[str, Path],
    ) -> Run:
        """Records the candidate, with its documents and folders; what exists is written again.

        Args:
            instance: The candidate.
            lineage: Where it comes from, as tags.
            documents: Texts by file name, kept under `judgement`.
            folders: Folders by the path that they get among the artifacts.
        """
        run = self._open(instance, lineage)
        run_id = run.info.run_id
        self._log(run_id, instance)
        for name, folder in folders.items():
            self._client.log_artifacts(run_id, str(folder), name)
        with tempfile.TemporaryDirectory() as temporary:
            for name, text in documents.items():
                file = Path(temporary) / name
                file.write_text(text, encoding="utf-8")
                self._client.log_artifact(run_id, str(file), DOCUMENTS)
        self._client.set_terminated(run_id)
        return run

    def delete_unfinished(self) -> int:
        """Deletes the runs that an interrupted process left unfinished; gives their number.

        Of others who use the same experiment nothing is touched: their runs lack the digest's tag.
        """
        unfinished = self._search(f"attributes.status = 'RUNNING' AND tags.`{DIGEST_TAG}` != ''")
        for run in unfinished:
            self.delete(run.info.run_id)
        return len(unfinished)

    def candidates(self) -> list[CandidateRun]:
        """Lists the runs of candidates that are finished, with the bytes of their artifacts."""
        finished = self._search(
            f"attributes.status = 'FINISHED' AND tags.`{JUDGED_TAG}` = 'true' "
            f"AND tags.`{DIGEST_TAG}` != ''"
        )
        return [
            CandidateRun(
                run_id=run.info.run_id,
                digest=run.data.tags[DIGEST_TAG],
                of_run=run.data.tags.get(f"{TAG}run", ""),
                ended=datetime.fromtimestamp((run.info.end_time or 0) / 1000, UTC),
            )
            for run in finished
        ]

    def size(self, run_id: str, folder: str | None = None) -> int:
        """Sums the bytes of a run's artifacts."""
        return sum(
            self.size(run_id, item.path) if item.is_dir else item.file_size or 0
            for item in self._client.list_artifacts(run_id, folder)
        )

    def delete(self, run_id: str) -> None:
        """Deletes a run with its artifacts, which MLflow alone would keep.

        The run goes last: where this is cut short, it is found again.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        place = self.artifacts_of(run_id)
        files: Any = get_artifact_repository(place, tracking_uri=self._client.tracking_uri)
        files.delete_artifacts()
        self._client.delete_run(run_id)

    def story(self, run_id: str) -> RunStory:
        """Reads the parameters and metrics of a run."""
        data = self._client.get_run(run_id).data
        return RunStory(dict(data.params), dict(data.metrics))

    def document(self, run_id: str, name: str) -> str | None:
        """Reads the text of a run's document; None where it has none of this name."""
        if (folder := local_path(self.artifacts_of(run_id))) is not None:
            file = folder / DOCUMENTS / name  # where nothing can be written, MLflow copies nothing
            return file.read_text(encoding="utf-8") if file.is_file() else None
        if f"{DOCUMENTS}/{name}" not in {
            item.path for item in self._client.list_artifacts(run_id, DOCUMENTS)
        }:
            return None
        with tempfile.TemporaryDirectory() as temporary:
            fetched = self._client.download_artifacts(run_id, f"{DOCUMENTS}/{name}", temporary)
            return Path(fetched).read_text(encoding="utf-8")

    def artifacts_of(self, run_id: str) -> str:
        """Gives the URI of a run's artifacts."""
        return str(self._client.get_run(run_id).info.artifact_uri)

    def _open(self, instance: TrainedInstance, lineage: Mapping[str, str]) -> Run:
        """Gives the run of these bytes: the one that exists, or a new one."""
        known: list[Run] = self._search(
            f"tags.`{DIGEST_TAG}` = '{instance.digest}' AND tags.`{INSTANCE_TAG}` = "
            f"'{instance.name}'"
        )
        if known:
            return known[-1]
        judged = {INSTANCE_TAG: instance.name, JUDGED_TAG: json.dumps(instance.judged)}
        name = f"{lineage.get('run', self._name)} {instance.name}"
        tags = lineage_tags(lineage, instance.digest) | judged
        return self._client.create_run(self._experiment(), tags=tags, run_name=name)

    def _search(self, filter_string: str) -> list[Run]:
        """Lists the runs that fit a filter and were not deleted, newest first."""
        experiment = self._client.get_experiment_by_name(self._name)
        runs: list[Run] = []
        token: str | None = None
        while experiment is not None:
            page = self._client.search_runs(
                [experiment.experiment_id], filter_string, page_token=token
            )
            runs.extend(page)
            token = page.token
            if not token:
                break
        return runs

    def _log(self, run_id: str, instance: TrainedInstance) -> None:
        """Logs everything; the same again changes nothing, as all points carry the same time."""
        from mlflow.entities import Metric, Param

        points = [Metric(name, value, 0, 0) for name, value in instance.metrics.items()]
        points += [
            Metric(name, value, 0, epoch)
            for name, curve in instance.curves.items()
            for epoch, value in enumerate(curve)
        ]
        params = [Param(name, str(value)) for name, value in instance.parameters.items()]
        for first in range(0, len(points), _METRICS_AT_ONCE):
            self._client.log_batch(run_id, metrics=points[first : first + _METRICS_AT_ONCE])
        for first in range(0, len(params), _PARAMETERS_AT_ONCE):
            self._client.log_batch(run_id, params=params[first : first + _PARAMETERS_AT_ONCE])

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(self._name)
        if experiment is None:
            try:
                return str(
                    self._client.create_experiment(self._name, artifact_location=self._artifacts)
                )
            except MlflowException as error:
                experiment = self._client.get_experiment_by_name(self._name)
                if (
                    experiment is None
                ):  # else it was made meanwhile, by a project with another ledger
                    raise error from None
        return str(experiment.experiment_id)


def lineage_tags(lineage: Mapping[str, str], digest: str) -> dict[str, Any]:
    """Makes the tags of a run or version."""
    return {DIGEST_TAG: digest} | {f"{TAG}{name}": value for name, value in lineage.items()}
