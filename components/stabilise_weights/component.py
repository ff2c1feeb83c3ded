"""Kubeflow wrapper of `stabilise_weights`."""

from kfp.dsl import Artifact, Input, Output

from components.kubeflow import component


@component()
def stabilise_weights(
    project: str,
    digest: str,
    features: Input[Artifact],
    weights: Output[Artifact],
    pretraining: Input[Artifact] = None,
    tuned: str = "",
    seed: int = 0,
):
    """Finds weights to start from."""
    from components.stabilise_weights.step import stabilise_weights
    from components.stored_step import StoredStep
    from schemas.records import Tuned

    with StoredStep(project, "stabilise_weights", digest, weights=weights) as step:
        if not step.is_kept(features, pretraining, tuned, seed):
            earlier = Tuned.model_validate_json(tuned) if tuned else None
            drawn = step.project.with_seed(seed) if seed else step.project
            learnt, output = step.optional(pretraining), step.output("weights")
            stabilise_weights(drawn, step.input(features), learnt, earlier, output)
            step.publish()
