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

    `serving_log` changes whenever that log does; it is part of the key, and nothing reads it.
    """
    from pathlib import Path

    from components.evaluate_model.kubeflow_metrics import show_confusion, show_slices
    from components.evaluate_model.step import Outputs, describe_overall, evaluate_model
    from components.stored_step import StoredStep
    from schemas.records import Champion

    with StoredStep(project, "evaluate_model", digest, evaluation=evaluation, model=model) as step:
        if not step.is_kept(champion, former, window, models, validation, serving_log):
            serving = Champion.model_validate(champion) if champion else None
            outputs = Outputs(step.output("evaluation"), step.output("model"))
            record = evaluate_model(
                step.project,
                serving,
                step.input(window),
                [step.input(each) for each in models],
                outputs,
                step.optional(validation),
                [Champion.model_validate(each) for each in former],
            )
            for name, value in describe_overall(record).items():
                metrics.log_metric(name, value)
            show_confusion(outputs.evaluation, record, confusion)
            sliced.metadata.update(show_slices(step.project, outputs.evaluation, record))
            step.publish(
                [metrics.metadata, confusion.metadata, sliced.metadata],
                model={"framework": "tensorflow", "digest": record.digest},
            )
        # What is shown lies in metadata; Kubeflow wants a file of every artifact all the same.
        for shown, kept in zip((metrics, confusion, sliced), step.value, strict=True):
            shown.metadata.update(kept)
            Path(shown.path).parent.mkdir(parents=True, exist_ok=True)
            Path(shown.path).touch()
