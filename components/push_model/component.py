"""Kubeflow wrapper of `push_model`."""

from kfp.dsl import Artifact, Input

from components.kubeflow import component


@component()
def push_model(
    project: str,
    selection: Input[Artifact],
    version: dict,  # type: ignore[type-arg]
    serving_check: Input[Artifact],
) -> dict:  # type: ignore[type-arg]
    """Deploys the version; gives the new champion."""
    from components.push_model.step import push_model
    from components.stored_step import StagedTask
    from schemas.records import ModelVersion, ServingCheck

    candidate = ModelVersion.model_validate(version)
    with StagedTask(project, "push_model") as task:
        chosen = task.selection(selection)
        check = ServingCheck.read(task.input(serving_check))
        champion = push_model(
            task.project, chosen.run, candidate, chosen.champion, check, chosen.fence
        )
    return champion.model_dump(mode="json")
