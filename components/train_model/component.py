"""Kubeflow wrapper of `train_model`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.kubeflow import component


@component()
def train_model(
    project: str,
    digest: str,
    instance: dict,  # type: ignore[type-arg]
    champion: dict,  # type: ignore[type-arg]
    window: Input[Dataset],
    features: Input[Artifact],
    model: Output[Model],
    weights: Input[Artifact] = None,
    hyperparameters: Input[Artifact] = None,
):
    """Trains one instance."""
    from pathlib import Path

    from components.train_model.step import Inputs, train_model
    from perennial.project import open_project
    from schemas.records import Champion, Instance

    loaded = open_project(project, "train_model", digest)
    inputs = Inputs(
        features=Path(features.path),
        window=Path(window.path),
        weights=Path(weights.path) if weights else None,
        hyperparameters=Path(hyperparameters.path) if hyperparameters else None,
    )
    serving = Champion.model_validate(champion) if champion else None
    record = train_model(
        loaded, Instance.model_validate(instance), inputs, serving, Path(model.path)
    )
    model.metadata.update(
        {"framework": "tensorflow", "digest": record.digest, "eval_loss": record.best.eval_loss}
    )
