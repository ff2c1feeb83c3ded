"""Kubeflow wrapper of `validate_serving`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.kubeflow import component


@component()
def validate_serving(
    project: str,
    digest: str,
    version: dict,  # type: ignore[type-arg]
    window: Input[Dataset],
    evaluation: Input[Artifact],
    model: Input[Model],
    serving_check: Output[Artifact],
):
    """Asks the real server."""
    from pathlib import Path

    from components.validate_serving.step import validate_serving
    from perennial.project import open_project
    from schemas.records import ModelVersion

    loaded = open_project(project, "validate_serving", digest)
    folders = [Path(artifact.path) for artifact in (window, evaluation, model, serving_check)]
    validate_serving(loaded, ModelVersion.model_validate(version), *folders)
