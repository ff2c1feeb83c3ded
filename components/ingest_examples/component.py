"""Kubeflow wrapper of `ingest_examples`."""

from kfp.dsl import Dataset, Output

from components.kubeflow import component


@component()
def ingest_examples(project: str, digest: str, span: dict, examples: Output[Dataset]):  # type: ignore[type-arg]
    """Ingests one span."""
    from pathlib import Path

    from components.ingest_examples.step import ingest_examples
    from perennial.project import load_project, verify_digest
    from schemas.records import Span

    loaded = load_project(project)
    verify_digest("data settings", digest, loaded.data_digest())
    record = ingest_examples(loaded, Span.model_validate(span), Path(examples.path))
    examples.metadata.update({"span": record.span.name, "rows": sum(record.rows.values())})
