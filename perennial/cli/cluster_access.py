"""Connects the commands that use Kubeflow Pipelines, and names the project there."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.errors import ProjectError, StoreError
from perennial.storage.files import is_url, shown_uri

if TYPE_CHECKING:
    from perennial.cluster.connection import Connection
    from perennial.cluster.versions import PipelineVersion
    from perennial.project import Project
    from schemas.records import RunEnded
    from schemas.triggers import Trigger


@dataclass(frozen=True)
class ClusterProject:
    """A project and the Kubeflow Pipelines that its runs go to."""

    project: Project
    connection: Connection

    @property
    def pipeline_name(self) -> str:
        """Name of the project's pipeline, as it is compiled."""
        from pipelines.continuous_training import NAME

        return f"{NAME}-{self.project.settings.name}"

    @property
    def experiment_name(self) -> str:
        """Name of the experiment of its runs."""
        return self.project.settings.kubeflow.experiment or self.project.settings.name

    @property
    def service_account(self) -> str | None:
        """Service account of its runs; None: the installation's own."""
        return self.project.settings.kubeflow.service_account

    def run_link(self, run: str) -> str:
        """Gives where the dashboard shows a run."""
        return f"{self.connection.address}/#/runs/details/{run}"

    def upload(self) -> PipelineVersion:
        """Compiles the pipeline and uploads it, unless the cluster has it already.

        Raises:
            ClusterError: Kubeflow Pipelines does not answer, or refuses.
        """
        from perennial import __version__
        from perennial.cluster.versions import upload_once
        from perennial.training.stages import choose_stages, trains_on_workers
        from pipelines.compile import compile_pipeline

        settings = self.project.settings
        commit = self.project.git_commit()
        description = f"perennial {__version__}" + (f", commit {commit}" if commit else "")
        with tempfile.TemporaryDirectory() as scratch:
            compiled = Path(scratch) / "pipeline.yaml"
            stages = choose_stages(self.project)
            on_workers = trains_on_workers(self.project)
            compile_pipeline(compiled, stages, settings.name, settings.kubeflow, on_workers)
            return upload_once(self.connection, compiled, self.pipeline_name, description)

    def parameters(self, trigger: Trigger, retrain: bool, tune: bool) -> dict[str, Any]:
        """Gives the arguments of a run; the project is named by its package, which is stored first.

        Where `kubeflow.project` names a folder of the image or of a volume, that is the project.

        Raises:
            ProjectError: Pods do not reach the root, or the project cannot be packaged.
            StoreError: The root cannot be written.
        """
        from perennial.package.publish import publish_package

        chosen: dict[str, Any] = {"trigger": trigger}
        if self.project.settings.kubeflow.project is None:
            self._check_root()
            chosen["project"] = str(publish_package(self.project).reference.anywhere)
        return chosen | {
            name: True for name, asked in (("retrain", retrain), ("tune", tune)) if asked
        }

    def _check_root(self) -> None:
        """Checks that pods may reach the root: a server, or a folder of a volume."""
        root, kubeflow = self.project.root, self.project.settings.kubeflow
        if is_url(root) and not root.startswith(("file:", "local:", "memory:")):
            return
        folder = Path(root.removeprefix("file://"))
        if not any(folder.is_relative_to(volume.folder) for volume in kubeflow.volumes):
            raise ProjectError(
                "root",
                "must be a store that pods reach, or a folder of one of kubeflow.volumes that is "
                "the same here",
                shown_uri(root),
                "Set root or PERENNIAL_ROOT to such as s3://bucket/path; each run reads its "
                "project from the package that is stored there.",
            )

    def find_end(self, run: str) -> RunEnded | None:
        """Finds how a run ended: in the root, or in the ledger where the root does not have it."""
        from perennial.ledger.events import Ledger
        from perennial.results.run_records import RunRecords
        from perennial.results.store import Results

        try:
            ended = RunRecords(Results(self.project.root, self.project.state), run).ended()
        except StoreError:
            ended = None
        return ended if ended is not None else Ledger(self.project.ledger_url).run_end(run)

    def find_pipeline(self) -> str | None:
        """Gives the id of the project's pipeline; None where nothing was submitted.

        Raises:
            ClusterError: Kubeflow Pipelines does not answer, or refuses.
        """
        from perennial.cluster.versions import find_pipeline

        return find_pipeline(self.connection, self.pipeline_name)


def open_cluster(folder: Path) -> ClusterProject:
    """Loads a project and connects to its Kubeflow Pipelines.

    Raises:
        ProjectError: The folder holds no project, or one with a mistake in its settings.
        ClusterError: There is no endpoint.
    """
    from perennial.cluster.connection import connect
    from perennial.project import load_project

    project = load_project(folder)
    return ClusterProject(project, connect(project))
