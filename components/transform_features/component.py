"""Kubeflow wrapper of `transform_features`."""

from kfp.dsl import Artifact, Dataset, Input, Output

from components.kubeflow import component


@component()
def transform_features(
    project: str,
    digest: str,
    window: Input[Dataset],
    graph: Input[Artifact],
    features: Output[Artifact],
):
    """Transforms the window."""
    from components.stored_step import StoredStep
    from components.transform_features.step import transform_features

    with StoredStep(project, "transform_features", digest, features=features) as step:
        if not step.is_kept(window, graph):
            transform_features(
                step.project, step.examples(window), step.input(graph), step.output("features")
            )
            step.publish()
