"""Kubeflow wrapper of `transform_features`."""

from kfp.dsl import Artifact, Dataset, Input, Output

from components.kubeflow import component


@component()
def transform_features(
    project: str, digest: str, window: Input[Dataset], graph: Input[Artifact], features: Output[Artifact]
):
    """Transforms the window."""
    from pathlib import Path

    from components.transform_features.step import transform_features
    from perennial.project import load_project, verify_digest

    loaded = load_project(project)
    verify_digest("settings and module", digest, loaded.project_digest())
    transform_features(loaded, Path(window.path), Path(graph.path), Path(features.path))
