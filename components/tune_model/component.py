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
    from components.stored_step import StoredStep
    from components.tune_model.step import tune_model
    from schemas.records import Tuned

    with StoredStep(project, "tune_model", digest, hyperparameters=hyperparameters) as step:
        if not step.is_kept(features, validation, weights, tuned, reason):
            tune_model(
                step.project,
                step.input(features),
                step.optional(weights),
                step.input(validation),
                Tuned.model_validate_json(tuned) if tuned else None,
                reason,
                step.output("hyperparameters"),
                step.publish,
            )
