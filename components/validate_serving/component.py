"""Kubeflow wrapper of `validate_serving`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.kubeflow import component


@component()
def validate_serving(
    project: str,
    digest: str,
    version: dict,  # type: ignore[type-arg]
    window: Input[Dataset],
    evaluation: Input[Artifact],
    model: Input[Model],
    serving_check: Output[Artifact],
):
    """Asks the real server."""
    from components.stored_step import StoredStep
    from components.validate_serving.step import validate_serving
    from schemas.records import ModelVersion

    with StoredStep(project, "validate_serving", digest, serving_check=serving_check) as step:
        if not step.is_kept(version, window, evaluation, model):
            validate_serving(
                step.project,
                ModelVersion.model_validate(version),
                step.input(window),
                step.input(evaluation),
                step.input(model),
                step.output("serving_check"),
            )
            step.publish()
