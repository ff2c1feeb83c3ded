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
) -> dict:  # type: ignore[type-arg]
    """Registers the candidate; gives its version."""
    from pathlib import Path

    from components.decide_promotion.step import read_decision
    from components.evaluate_model.step import read_evaluation
    from components.register_model.step import register_model
    from perennial.project import load_project
    from schemas.records import Selection

    judged = read_evaluation(Path(evaluation.path))
    decided = read_decision(Path(decision.path))
    chosen = Selection.model_validate(selection)
    version = register_model(load_project(project), chosen, judged, decided, Path(model.path))
    return version.model_dump(mode="json")
