"""Kubeflow wrapper of `analyse_features`."""

from kfp.dsl import Artifact, Dataset, Input, Output

from components.kubeflow import component


@component()
def analyse_features(project: str, digest: str, window: Input[Dataset], graph: Output[Artifact]):
    """Analyses the window for its features."""
    from components.analyse_features.step import analyse_features
    from components.stored_step import StoredStep

    with StoredStep(project, "analyse_features", digest, graph=graph) as step:
        if not step.is_kept(window):
            analyse_features(step.project, step.examples(window), step.output("graph"))
            step.publish()
