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

    from components.decide_promotion.step import decide_promotion, write_decision
    from components.evaluate_model.step import read_evaluation
    from components.probe_model.step import read_probing
    from perennial.project import open_project

    loaded = open_project(project, "decide_promotion", digest)
    judged = read_evaluation(Path(evaluation.path))
    probed = read_probing(Path(probing.path)) if probing else None
    decided = decide_promotion(judged, loaded.settings.gate, probed)
    write_decision(decided, Path(decision.path))
    return "promote" if decided.promote else "keep"
