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
    from components.decide_promotion.step import decide_promotion
    from components.stored_step import StoredStep
    from schemas.records import Evaluation, Probing

    with StoredStep(project, "decide_promotion", digest, decision=decision) as step:
        if not step.is_kept(evaluation, probing):
            judged = Evaluation.read(step.input(evaluation))
            probed = Probing.read(step.input(probing)) if probing else None
            decided = decide_promotion(judged, step.project.settings.gate, probed)
            decided.write(step.output("decision"))
            step.publish("promote" if decided.promote else "keep")
        answer: str = step.value
        return answer
