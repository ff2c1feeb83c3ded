"""Kubeflow wrapper of `tune_model`."""

from kfp.dsl import Artifact, Input, Output

from components.kubeflow import component


@component()
def tune_model(
    project: str,
    digest: str,
    features: Input[Artifact],
    validation: Input[Artifact],
    hyperparameters: Output[Artifact],
    weights: Input[Artifact] = None,
    tuned: str = "",
    reason: str = "",
):
    """Chooses hyperparameters, after the weights are stable."""
    from pathlib import Path

    from components.tune_model.step import tune_model
    from perennial.project import open_project
    from schemas.records import Tuned

    loaded = open_project(project, "tune_model", digest)
    earlier = Tuned.model_validate_json(tuned) if tuned else None
    start, output = Path(weights.path) if weights else None, Path(hyperparameters.path)
    tune_model(loaded, Path(features.path), start, Path(validation.path), earlier, reason, output)
