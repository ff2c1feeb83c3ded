"""Kubeflow wrapper of `ingest_examples`."""

from kfp.dsl import Dataset, Output

from components.kubeflow import component


@component()
def ingest_examples(project: str, digest: str, span: dict, examples: Output[Dataset]):  # type: ignore[type-arg]
    """Ingests one span."""
    from pathlib import Path

    from components.ingest_examples.step import ingest_examples
    from perennial.project import open_project
    from schemas.records import Span

    loaded = open_project(project, "ingest_examples", digest)
    record = ingest_examples(loaded, Span.model_validate(span), Path(examples.path))
    examples.metadata.update({"span": record.span.name, "rows": sum(record.rows.values())})
