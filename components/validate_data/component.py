"""Kubeflow wrapper of `validate_data`."""

from kfp.dsl import Artifact, Dataset, Input, Output

from components.kubeflow import component


@component()
def validate_data(
    project: str,
    digest: str,
    selection: Input[Artifact],
    window: Output[Dataset],
    measured: Output[Artifact],
    validation: Output[Artifact],
) -> str:
    """Validates the new spans; gives `accepted` or `rejected`."""
    from components.stored_step import StoredStep
    from components.validate_data.step import validate_data
    from perennial.spans.prepared import PreparedSpans

    outputs = {"window": window, "measured": measured, "validation": validation}
    with StoredStep(project, "validate_data", digest, **outputs) as step:
        selected = step.selection(selection)
        spans = PreparedSpans.of_run(step.results, selected).read(selected.window)
        checked = [span.checked for span in spans]
        statistics = [span.statistics for span in spans]
        known_rows = selected.known_rows
        if not step.is_kept(selected.new_spans, selected.released, checked, statistics, known_rows):
            result = validate_data(
                step.project,
                selected.new_spans,
                selected.released,
                [step.input(reference) for reference in checked],
                [step.input(reference) for reference in statistics],
                step.output("window"),
                step.output("measured"),
                step.output("validation"),
                known_rows,
            )
            step.publish("accepted" if result.accepted else "rejected")
        answer: str = step.value
        return answer
