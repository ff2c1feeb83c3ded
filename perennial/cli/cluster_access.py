"""Connects the commands that use Kubeflow Pipelines, and names the project there."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.errors import ProjectError

if TYPE_CHECKING:
    from perennial.cluster.connection import Connection
    from perennial.cluster.versions import PipelineVersion
    from perennial.project import Project


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
            ProjectError: The settings do not say where the project lies on the cluster.
            ClusterError: Kubeflow Pipelines does not answer, or refuses.
        """
        from perennial import __version__
        from perennial.cluster.versions import upload_once
        from perennial.training.stages import choose_stages
        from pipelines.compile import compile_pipeline

        settings = self.project.settings
        if settings.kubeflow.project is None:
            raise ProjectError(
                "kubeflow.project",
                "must be the path of the project folder inside the image or a mounted volume",
                "none",
                "Set it in project.yaml; every step reads the project from there.",
            )
        commit = self.project.git_commit()
        description = f"perennial {__version__}" + (f", commit {commit}" if commit else "")
        with tempfile.TemporaryDirectory() as scratch:
            compiled = Path(scratch) / "pipeline.yaml"
            stages = choose_stages(self.project)
            compile_pipeline(compiled, stages, settings.name, settings.kubeflow)
            return upload_once(self.connection, compiled, self.pipeline_name, description)

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
