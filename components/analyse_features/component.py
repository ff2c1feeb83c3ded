"""Kubeflow wrapper of `analyse_features`."""

from kfp.dsl import Artifact, Dataset, Input, Output

from components.kubeflow import component


@component()
def analyse_features(project: str, digest: str, window: Input[Dataset], graph: Output[Artifact]):
    """Analyses the window for its features."""
    from pathlib import Path

    from components.analyse_features.step import analyse_features
    from perennial.project import open_project

    loaded = open_project(project, "analyse_features", digest)
    analyse_features(loaded, Path(window.path), Path(graph.path))
