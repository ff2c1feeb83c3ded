"""Kubeflow wrapper that ingests, checks and measures one span: three functions, one task."""

from kfp.dsl import Artifact, Dataset, Input, Output

from components.kubeflow import component


@component()
def prepare_span(
    project: str,
    span: dict,  # type: ignore[type-arg]
    selection: Input[Artifact],
    checked: Output[Dataset],
    statistics: Output[Artifact],
):
    """Ingests, checks and measures one span; what was done before is not done again."""
    from components.check_examples.step import check_examples
    from components.compute_statistics.step import measure_span
    from components.ingest_examples.step import ingest_examples
    from components.stored_step import StagedTask
    from perennial.spans.prepared import PreparedSpans

    with StagedTask(project, "prepare_span", span["name"]) as task:
        selected = task.selection(selection)
        landed = next(one for one in selected.window if one.name == span["name"])
        with task.part_of("ingest_examples", selected.data_digest) as ingested:
            if not ingested.is_kept(landed.model_dump(mode="json")):
                ingest_examples(ingested.project, landed, ingested.output("examples"))
                ingested.publish()
            examples = ingested.reference("examples")
        with task.part_of("check_examples", selected.rules_digest, checked=checked) as step:
            if not step.is_kept(examples):
                record = check_examples(step.project, step.input(examples), step.output("checked"))
                rows = sum(record.rows.values())
                shown = {"span": landed.name, "rows": rows, "set_aside": record.set_aside}
                step.publish(checked=shown)
            passed = step.reference("checked")
        digest = selected.statistics_digest
        with task.part_of("compute_statistics", digest, statistics=statistics) as step:
            if not step.is_kept(passed):
                measure_span(step.project, step.examples(passed), step.output("statistics"))
                step.publish()
            measured = step.reference("statistics")
        PreparedSpans.of_run(task.results, selected).record(landed, passed, measured)
