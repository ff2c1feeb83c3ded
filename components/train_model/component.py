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
    weights: Input[Artifact],
    hyperparameters: Input[Artifact],
    model: Output[Model],
):
    """Trains one instance."""
    from pathlib import Path

    from components.train_model.step import Inputs, train_model
    from perennial.project import load_project, verify_digest
    from schemas.records import Champion, Instance

    loaded = load_project(project)
    verify_digest("settings and module", digest, loaded.project_digest())
    inputs = Inputs(Path(features.path), Path(weights.path), Path(hyperparameters.path), Path(window.path))
    serving = Champion.model_validate(champion) if champion else None
    record = train_model(loaded, Instance.model_validate(instance), inputs, serving, Path(model.path))
    model.metadata.update({"framework": "tensorflow", "digest": record.digest, "eval_loss": record.best.eval_loss})
