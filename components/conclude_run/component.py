"""Kubeflow wrapper of `conclude_run`."""

from kfp.dsl import HTML, Artifact, Input, Output

from components.kubeflow import component


@component()
def conclude_run(
    project: str,
    outcome: str,
    selection: Input[Artifact],
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

    from components.conclude_run.step import REPORT_FILE, Findings, conclude_run, run_folder
    from components.stored_step import StagedTask
    from schemas.records import ModelVersion, Selection

    with StagedTask(project) as task:
        chosen = Selection.read(task.input(selection))
        findings = Findings(
            selection=chosen,
            validation=task.optional(validation),
            pretraining=task.optional(pretraining),
            stabilisation=task.optional(weights),
            tuning=task.optional(hyperparameters),
            designs=task.optional(designs),
            evaluation=task.optional(evaluation),
            probing=task.optional(probing),
            decision=task.optional(decision),
            version=ModelVersion.model_validate(version) if version else None,
            serving_check=task.optional(serving_check),
            fence=chosen.fence,
        )
        conclude_run(task.project, chosen.run, outcome, findings)  # type: ignore[arg-type]
        shutil.copyfile(run_folder(task.project, chosen.run) / REPORT_FILE, report.path)
