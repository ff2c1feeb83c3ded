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
    from components.stored_step import StoredStep
    from components.train_model.step import Inputs, References, train_model
    from schemas.records import Champion, Instance, Training

    with StoredStep(project, "train_model", digest, instance["name"], model=model) as step:
        if not step.is_kept(instance, champion, window, features, weights, hyperparameters):
            references = References(
                step.reference_of(features),
                step.reference_of(weights) if weights is not None else None,
            )
            inputs = Inputs(
                features=step.input(features),
                window=step.input(window),
                weights=step.optional(weights),
                hyperparameters=step.optional(hyperparameters),
                references=references if step.surrounds else None,
            )
            serving = Champion.model_validate(champion) if champion else None

            def publish(record: Training) -> None:
                loss = record.best.eval_loss
                shown = {"framework": "tensorflow", "digest": record.digest, "eval_loss": loss}
                step.publish(model=shown)

            train_model(
                step.project,
                Instance.model_validate(instance),
                inputs,
                serving,
                step.output("model"),
                publish,
            )
