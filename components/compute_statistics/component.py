"""Kubeflow wrapper of `compute_statistics`."""

from kfp.dsl import Artifact, Dataset, Input, Output

from components.kubeflow import component


@component()
def compute_statistics(
    project: str, digest: str, examples: Input[Dataset], statistics: Output[Artifact]
):
    """Measures one span."""
    from pathlib import Path

    from components.compute_statistics.step import compute_statistics
    from perennial.project import open_project

    loaded = open_project(project, "compute_statistics", digest)
    options, label = loaded.settings.beam.options, loaded.settings.label
    compute_statistics(Path(examples.path), options, Path(statistics.path), loaded.schema, (label,))
