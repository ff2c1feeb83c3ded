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
    pretraining: Input[Artifact] = None,
    weights: Input[Artifact] = None,
    hyperparameters: Input[Artifact] = None,
    designs: Input[Artifact] = None,
    evaluation: Input[Artifact] = None,
    probing: Input[Artifact] = None,
    decision: Input[Artifact] = None,
    serving_check: Input[Artifact] = None,
):
    """Ends the run; the report is shown on the dashboard."""
    import shutil
    from pathlib import Path

    from components.conclude_run.step import REPORT_FILE, Findings, conclude_run, run_folder
    from perennial.project import load_project
    from schemas.records import ModelVersion, Selection

    def folder(artifact: Artifact | None) -> Path | None:
        return Path(artifact.path) if artifact else None

    loaded, chosen = load_project(project), Selection.model_validate(selection)
    findings = Findings(
        selection=chosen,
        validation=folder(validation),
        pretraining=folder(pretraining),
        stabilisation=folder(weights),
        tuning=folder(hyperparameters),
        designs=folder(designs),
        evaluation=folder(evaluation),
        probing=folder(probing),
        decision=folder(decision),
        version=ModelVersion.model_validate(version) if version else None,
        serving_check=folder(serving_check),
    )
    conclude_run(loaded, chosen.run, outcome, findings)  # type: ignore[arg-type]
    shutil.copyfile(run_folder(loaded, chosen.run) / REPORT_FILE, report.path)
