"""Kubeflow wrapper of `transform_features`."""

from kfp.dsl import Artifact, Dataset, Input, Output

from components.kubeflow import component


@component()
def transform_features(
    project: str,
    digest: str,
    window: Input[Dataset],
    graph: Input[Artifact],
    features: Output[Artifact],
):
    """Transforms the window."""
    from pathlib import Path

    from components.transform_features.step import transform_features
    from perennial.project import open_project

    loaded = open_project(project, "transform_features", digest)
    transform_features(loaded, Path(window.path), Path(graph.path), Path(features.path))
