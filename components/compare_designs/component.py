"""Kubeflow wrapper of `compare_designs`."""

from kfp.dsl import Artifact, Input, Output

from components.kubeflow import component


@component()
def compare_designs(
    project: str, digest: str, features: Input[Artifact], designs: Output[Artifact]
):
    """Compares the design spaces that the module names."""
    from components.compare_designs.step import compare_designs
    from components.stored_step import StoredStep

    with StoredStep(project, "compare_designs", digest, designs=designs) as step:
        if not step.is_kept(features):
            designs_folder = step.output("designs")
            compare_designs(step.project, step.input(features), designs_folder, step.publish)
