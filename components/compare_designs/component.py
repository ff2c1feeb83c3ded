"""Kubeflow wrapper of `compare_designs`."""

from kfp.dsl import Artifact, Input, Output

from components.kubeflow import component


@component()
def compare_designs(
    project: str, digest: str, features: Input[Artifact], designs: Output[Artifact]
):
    """Compares the design spaces that the module names."""
    from pathlib import Path

    from components.compare_designs.step import compare_designs
    from perennial.project import open_project

    loaded = open_project(project, "compare_designs", digest)
    compare_designs(loaded, Path(features.path), Path(designs.path))
