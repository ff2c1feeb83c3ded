"""Kubeflow wrapper of `register_model`."""

from kfp.dsl import Artifact, Input, Model

from components.kubeflow import component


@component()
def register_model(
    project: str,
    selection: dict,  # type: ignore[type-arg]
    evaluation: Input[Artifact],
    decision: Input[Artifact],
    model: Input[Model],
    probing: Input[Artifact] = None,
) -> dict:  # type: ignore[type-arg]
    """Registers the candidate; gives its version."""
    from pathlib import Path

    from components.register_model.step import register_model
    from perennial.project import load_project
    from schemas.records import Decision, Evaluation, Probing, Selection

    judged = Evaluation.read(Path(evaluation.path))
    decided = Decision.read(Path(decision.path))
    chosen = Selection.model_validate(selection)
    probed = Probing.read(Path(probing.path)) if probing else None
    version = register_model(
        load_project(project), chosen, judged, decided, Path(model.path), probed
    )
    return version.model_dump(mode="json")
