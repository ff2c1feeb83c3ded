"""Kubeflow wrapper of `validate_data`."""

from typing import List  # noqa: UP035  Kubeflow reads this spelling

from kfp.dsl import Artifact, Dataset, Input, Output

from components.kubeflow import component


@component()
def validate_data(
    project: str,
    digest: str,
    new_spans: list,  # type: ignore[type-arg]
    examples: Input[List[Dataset]],  # noqa: UP006
    statistics: Input[List[Artifact]],  # noqa: UP006
    window: Output[Dataset],
    validation: Output[Artifact],
) -> str:
    """Validates the new spans; gives `accepted` or `rejected`."""
    from pathlib import Path

    from components.validate_data.step import validate_data
    from perennial.project import load_project, verify_digest

    loaded = load_project(project)
    verify_digest("schema and expectations", digest, loaded.checks_digest())
    ingested = [Path(artifact.path) for artifact in examples]
    measured = [Path(artifact.path) for artifact in statistics]
    result = validate_data(loaded, new_spans, ingested, measured, Path(window.path), Path(validation.path))
    return "accepted" if result.accepted else "rejected"
