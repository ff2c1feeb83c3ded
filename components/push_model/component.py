"""Kubeflow wrapper of `push_model`."""

from kfp.dsl import Artifact, Input

from components.kubeflow import component


@component()
def push_model(
    project: str,
    selection: dict,  # type: ignore[type-arg]
    version: dict,  # type: ignore[type-arg]
    serving_check: Input[Artifact],
) -> dict:  # type: ignore[type-arg]
    """Deploys the version; gives the new champion."""
    from pathlib import Path

    from components.push_model.step import push_model
    from perennial.project import load_project
    from schemas.records import ModelVersion, Selection, ServingCheck

    chosen = Selection.model_validate(selection)
    check = ServingCheck.read(Path(serving_check.path))
    candidate = ModelVersion.model_validate(version)
    champion = push_model(load_project(project), chosen.run, candidate, chosen.champion, check)
    return champion.model_dump(mode="json")
