"""Kubeflow wrapper of `conclude_run`."""

from kfp.dsl import HTML, Artifact, Input, Output

from components.kubeflow import component


@component()
def conclude_run(
    project: str,
    outcome: str,
    selection: dict,  # type: ignore[type-arg]
    report: Output[HTML],
    version: dict = {},  # type: ignore[type-arg]  # noqa: B006  Kubeflow reads the default
    validation: Input[Artifact] = None,
    weights: Input[Artifact] = None,
    evaluation: Input[Artifact] = None,
    decision: Input[Artifact] = None,
    serving_check: Input[Artifact] = None,
):
    """Ends the run; the report is shown on the dashboard."""
    import shutil
    from pathlib import Path

    from components.conclude_run.step import Findings, conclude_run
    from perennial.project import load_project
    from schemas.records import ModelVersion, Selection

    artifacts = (validation, weights, evaluation, decision, serving_check)
    folders = [Path(artifact.path) if artifact else None for artifact in artifacts]
    chosen = Selection.model_validate(selection)
    registered = ModelVersion.model_validate(version) if version else None
    loaded = load_project(project)
    findings = Findings(chosen, *folders[:4], registered, folders[4])
    ended = conclude_run(loaded, chosen.run, outcome, findings)
    shutil.copyfile(loaded.folder / ended.report, report.path)
