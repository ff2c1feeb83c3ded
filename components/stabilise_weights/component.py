"""Kubeflow wrapper of `stabilise_weights`."""

from kfp.dsl import Artifact, Input, Output

from components.kubeflow import component


@component()
def stabilise_weights(
    project: str,
    digest: str,
    features: Input[Artifact],
    weights: Output[Artifact],
    pretraining: Input[Artifact] = None,
    tuned: str = "",
    seed: int = 0,
):
    """Finds weights to start from."""
    from pathlib import Path

    from components.stabilise_weights.step import stabilise_weights
    from perennial.project import open_project
    from schemas.records import Tuned

    loaded = open_project(project, "stabilise_weights", digest)
    earlier = Tuned.model_validate_json(tuned) if tuned else None
    drawn = loaded.with_seed(seed) if seed else loaded
    learnt = Path(pretraining.path) if pretraining else None
    stabilise_weights(drawn, Path(features.path), learnt, earlier, Path(weights.path))
