"""Kubeflow wrapper of `probe_model`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.kubeflow import component


@component()
def probe_model(
    project: str,
    digest: str,
    window: Input[Dataset],
    evaluation: Input[Artifact],
    model: Input[Model],
    probing: Output[Artifact],
):
    """Probes the candidate for hidden covariates, and explains its answers."""
    from components.probe_model.step import probe_model
    from components.stored_step import StoredStep

    with StoredStep(project, "probe_model", digest, probing=probing) as step:
        if not step.is_kept(window, evaluation, model):
            probe_model(
                step.project,
                step.input(window),
                step.input(evaluation),
                step.input(model),
                step.output("probing"),
            )
            step.publish()
