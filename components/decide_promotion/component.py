"""Kubeflow wrapper of `decide_promotion`."""

from kfp.dsl import Artifact, Input, Output

from components.kubeflow import component


@component()
def decide_promotion(
    project: str,
    digest: str,
    evaluation: Input[Artifact],
    decision: Output[Artifact],
    probing: Input[Artifact] = None,
) -> str:
    """Asks the gate; gives `promote` or `keep`."""
    from pathlib import Path

    from components.decide_promotion.step import decide_promotion
    from perennial.project import open_project
    from schemas.records import Evaluation, Probing

    loaded = open_project(project, "decide_promotion", digest)
    judged = Evaluation.read(Path(evaluation.path))
    probed = Probing.read(Path(probing.path)) if probing else None
    decided = decide_promotion(judged, loaded.settings.gate, probed)
    decided.write(Path(decision.path))
    return "promote" if decided.promote else "keep"
