"""Kubeflow wrapper of `probe_model`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.kubeflow import component


@component()
def probe_model(
    project: str,
    digest: str,
    window: Input[Dataset],
    evaluation: Input[Artifact],
    model: Input[Model],
    probing: Output[Artifact],
):
    """Probes the candidate for hidden covariates, and explains its answers."""
    from pathlib import Path

    from components.probe_model.step import probe_model
    from perennial.project import open_project

    loaded = open_project(project, "probe_model", digest)
    probe_model(loaded, *(Path(artifact.path) for artifact in (window, evaluation, model, probing)))
