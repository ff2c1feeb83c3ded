"""Kubeflow wrapper of `tune_model`."""

from kfp.dsl import Artifact, Input, Output

from components.kubeflow import component


@component()
def tune_model(project: str, digest: str, weights: Input[Artifact], hyperparameters: Output[Artifact]):
    """Chooses hyperparameters, after the weights are stable."""
    from pathlib import Path

    from components.tune_model.step import tune_model
    from perennial.project import load_project, verify_digest

    loaded = load_project(project)
    verify_digest("settings and module", digest, loaded.project_digest())
    tune_model(loaded, Path(hyperparameters.path))
