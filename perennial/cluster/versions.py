"""Pipelines and their versions: one pipeline for a project, one version for each content."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial.cluster.connection import Connection
from perennial.errors import AbsentError, ExistsError
from perennial.storage.digests import digest_file

_DIGITS = 16  # of the digest, in a version's name


@dataclass(frozen=True)
class PipelineVersion:
    """A version of a pipeline on the cluster.

    Attributes:
        pipeline: Id of the pipeline.
        id: Id of the version.
        name: Its name: the beginning of the SHA-256 of the compiled pipeline.
        uploaded: Whether this call uploaded it.
    """

    pipeline: str
    id: str
    name: str
    uploaded: bool


def find_pipeline(connection: Connection, name: str) -> str | None:
    """Gives the id of the pipeline of this name, or None where there is none.

    Raises:
        ClusterError: Kubeflow Pipelines does not answer, or refuses.
    """
    operation = connection.client.pipelines.pipeline_service_get_pipeline_by_name
    try:
        pipeline = connection.call(operation, name=name, namespace=connection.namespace)
    except AbsentError:
        return None
    return str(pipeline.pipeline_id)


def upload_once(
    connection: Connection, compiled: Path, name: str, description: str
) -> PipelineVersion:
    """Uploads a compiled pipeline, unless the cluster has this content already.

    Args:
        connection: Kubeflow Pipelines.
        compiled: The file, `*.yaml`.
        name: The pipeline's name.
        description: Of a version that is uploaded.

    Raises:
        ClusterError: Kubeflow Pipelines does not answer, or refuses.
    """
    pipeline = find_pipeline(connection, name) or _create_pipeline(connection, name)
    version = digest_file(compiled)[:_DIGITS]
    if existing := _find_version(connection, pipeline, version):
        return PipelineVersion(pipeline, existing, version, uploaded=False)
    operation = connection.client.pipeline_uploads.upload_pipeline_version

    def find() -> Any:
        return _find_version(connection, pipeline, version)

    with suppress(ExistsError):  # another process was faster
        connection.call(
            operation,
            done=find,
            uploadfile=str(compiled),
            name=version,
            pipelineid=pipeline,
            description=description,
        )
    return PipelineVersion(pipeline, str(find()), version, uploaded=True)


def _create_pipeline(connection: Connection, name: str) -> str:
    from kfp_server_api import V2beta1Pipeline

    pipeline = V2beta1Pipeline(
        name=name,
        display_name=name,
        description="From landed labels to a deployed model.",
        namespace=connection.namespace or None,
    )
    operation = connection.client.pipelines.pipeline_service_create_pipeline
    with suppress(ExistsError):  # another process was faster
        connection.call(operation, done=lambda: find_pipeline(connection, name), pipeline=pipeline)
    return str(find_pipeline(connection, name))


def _find_version(connection: Connection, pipeline: str, name: str) -> str | None:
    operation = connection.client.pipelines.pipeline_service_list_pipeline_versions
    versions = connection.list(operation, "pipeline_versions", pipeline_id=pipeline)
    return next(
        (str(version.pipeline_version_id) for version in versions if version.name == name), None
    )
