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

    from components.decide_promotion.step import read_decision
    from components.evaluate_model.step import read_evaluation
    from components.register_model.step import register_model
    from perennial.project import load_project
    from perennial.registry.repair import PROBING_DOCUMENT
    from schemas.records import Probing, Selection

    judged = read_evaluation(Path(evaluation.path))
    decided = read_decision(Path(decision.path))
    chosen = Selection.model_validate(selection)
    found = (Path(probing.path) / PROBING_DOCUMENT).read_text(encoding="utf-8") if probing else None
    probed = Probing.model_validate_json(found) if found else None
    version = register_model(load_project(project), chosen, judged, decided, Path(model.path), probed)
    return version.model_dump(mode="json")
