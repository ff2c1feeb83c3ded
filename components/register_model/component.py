"""Kubeflow wrapper of `register_model`."""

from kfp.dsl import Artifact, Input, Model

from components.kubeflow import component


@component()
def register_model(
    project: str,
    selection: Input[Artifact],
    evaluation: Input[Artifact],
    decision: Input[Artifact],
    model: Input[Model],
    probing: Input[Artifact] = None,
) -> dict:  # type: ignore[type-arg]
    """Registers the candidate; gives its version."""
    from components.register_model.step import register_model
    from components.stored_step import StagedTask
    from schemas.records import Decision, Evaluation, Probing

    with StagedTask(project, "register_model") as task:
        version = register_model(
            task.project,
            task.selection(selection),
            Evaluation.read(task.input(evaluation)),
            Decision.read(task.input(decision)),
            task.input(model),
            Probing.read(task.input(probing)) if probing else None,
        )
        task.returns(version.model_dump(mode="json"))
    return version.model_dump(mode="json")
