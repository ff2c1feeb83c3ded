"""Kubeflow wrapper of `validate_data`."""

from typing import List  # noqa: UP035  Kubeflow reads this spelling

from kfp.dsl import Artifact, Dataset, Input, Output

from components.kubeflow import component


@component()
def validate_data(
    project: str,
    digest: str,
    new_spans: list,  # type: ignore[type-arg]
    released: list,  # type: ignore[type-arg]
    examples: Input[List[Dataset]],  # noqa: UP006
    statistics: Input[List[Artifact]],  # noqa: UP006
    window: Output[Dataset],
    measured: Output[Artifact],
    validation: Output[Artifact],
) -> str:
    """Validates the new spans; gives `accepted` or `rejected`."""
    from pathlib import Path

    from components.validate_data.step import validate_data
    from perennial.project import open_project

    loaded = open_project(project, "validate_data", digest)
    checked = [Path(artifact.path) for artifact in examples]
    summaries = [Path(artifact.path) for artifact in statistics]
    outputs = Path(window.path), Path(measured.path), Path(validation.path)
    result = validate_data(loaded, new_spans, released, checked, summaries, *outputs)
    return "accepted" if result.accepted else "rejected"
