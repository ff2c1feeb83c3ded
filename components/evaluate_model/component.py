"""Kubeflow wrapper of `evaluate_model`."""

from typing import List  # noqa: UP035  Kubeflow reads this spelling

from kfp.dsl import (
    Artifact,
    ClassificationMetrics,
    Dataset,
    Input,
    Metrics,
    Model,
    Output,
    SlicedClassificationMetrics,
)

from components.kubeflow import component


@component()
def evaluate_model(
    project: str,
    digest: str,
    champion: dict,  # type: ignore[type-arg]
    former: list,  # type: ignore[type-arg]
    window: Input[Dataset],
    models: Input[List[Model]],  # noqa: UP006
    evaluation: Output[Artifact],
    model: Output[Model],
    metrics: Output[Metrics],
    confusion: Output[ClassificationMetrics],
    sliced: Output[SlicedClassificationMetrics],
    validation: Input[Artifact] = None,
    serving_log: str = "",
):
    """Evaluates the instances and the champion; shows the candidate's metrics on the dashboard.

    `serving_log` changes whenever that log does; nothing reads it, but Kubeflow's cache sees the
    change.
    """
    from pathlib import Path

    from components.evaluate_model.kubeflow_metrics import show_confusion, show_slices
    from components.evaluate_model.step import Outputs, describe_overall, evaluate_model
    from perennial.project import open_project
    from schemas.records import Champion

    loaded = open_project(project, "evaluate_model", digest)
    serving = Champion.model_validate(champion) if champion else None
    outputs = Outputs(Path(evaluation.path), Path(model.path))
    checks = Path(validation.path) if validation else None
    record = evaluate_model(
        loaded,
        serving,
        Path(window.path),
        [Path(m.path) for m in models],
        outputs,
        checks,
        [Champion.model_validate(each) for each in former],
    )
    for name, value in describe_overall(record).items():
        metrics.log_metric(name, value)
    show_confusion(outputs.evaluation, record, confusion)
    sliced.metadata.update(show_slices(loaded, outputs.evaluation, record))
    model.metadata.update({"framework": "tensorflow", "digest": record.digest})
    # What is shown lies in metadata. kfp.local takes an artifact without a file for lost, and would
    # evaluate anew in every run.
    for shown in (metrics, confusion, sliced):
        Path(shown.path).parent.mkdir(parents=True, exist_ok=True)
        Path(shown.path).touch()
