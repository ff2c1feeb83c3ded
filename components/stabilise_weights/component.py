"""Kubeflow wrapper of `stabilise_weights`."""

from kfp.dsl import Artifact, Input, Output

from components.kubeflow import component


@component()
def stabilise_weights(project: str, digest: str, features: Input[Artifact], weights: Output[Artifact]):
    """Finds weights to start from."""
    from pathlib import Path

    from components.stabilise_weights.step import stabilise_weights
    from perennial.project import load_project, verify_digest

    loaded = load_project(project)
    verify_digest("settings and module", digest, loaded.project_digest())
    stabilise_weights(loaded, Path(features.path), Path(weights.path))
