"""Decides whether the new spans may be trained on, and gathers the window's examples.

A span is refused when it cannot be read, breaks the schema or breaks an expectation; every reason is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.compute_statistics.step import read_statistics
from components.ingest_examples.step import read_ingestion
from components.validate_data.expectations import check_expectations
from components.validate_data.schema_checks import check_schema
from perennial.examples import split_files, to_frame
from perennial.project import Project
from perennial.publishing import link_tree, publish_text
from schemas.records import Check, Ingestion, SpanValidation, Validation

VALIDATION_FILE = "validation.json"
_TELLING = ("readable", "expectation", "schema", "drift")


def validate_data(
    project: Project,
    new_spans: Sequence[str],
    examples: Sequence[Path],
    statistics: Sequence[Path],
    window: Path,
    validation: Path,
) -> Validation:
    """Validates the new spans of a window.

    Args:
        project: Holds the schema and the expectations.
        new_spans: Names of the spans that no run has judged yet.
        examples: Folders of `ingest_examples`, oldest span first.
        statistics: Folders of `compute_statistics`, in the same order.
        window: Becomes a folder with the examples of every span, `<span>/Split-*/`, if all are accepted.
        validation: Becomes a folder with `validation.json` and the Data Docs of the new spans, `data_docs/`.

    Raises:
        ProjectError: The schema or the expectations cannot be used.
    """
    ingested = [read_ingestion(folder) for folder in examples]
    readable = {r.span.name: f for r, f in zip(ingested, examples, strict=True) if not r.problem}
    # Only what is new is read: the rest of the window was judged when it landed.
    fresh = {name: to_frame(split_files(folder)) for name, folder in readable.items() if name in new_spans}
    rules = check_expectations(fresh, project.expectations, validation / "data_docs") if fresh else {}
    spans = []
    for index, record in enumerate(ingested):
        new = record.span.name in new_spans
        checks = _check_span(project, index, record, statistics) + rules.get(record.span.name, []) if new else []
        spans.append(SpanValidation(span=record.span, new=new, rows=record.rows, labels=record.labels, checks=checks))
    result = conclude(spans)
    publish_text(result.model_dump_json(indent=2), validation / VALIDATION_FILE)
    window.mkdir(parents=True, exist_ok=True)
    if result.accepted:
        for record, folder in zip(ingested, examples, strict=True):
            link_tree(folder, window / record.span.name)
    return result


def conclude(spans: Sequence[SpanValidation]) -> Validation:
    """The verdict on a window: accepted when no new span failed a check; each failed span gives one reason."""
    reasons = []
    for span in spans:
        if span.failures:
            # A broken business rule says more to a person than the schema's anomaly that comes with it.
            first = min(span.failures, key=lambda check: _TELLING.index(check.kind))
            subject = "" if first.kind == "readable" else f"{first.subject}: "
            more = f" (and {len(span.failures) - 1} more)" if len(span.failures) > 1 else ""
            reasons.append(f"span {span.span.name} was refused: {subject}{first.message}{more}")
    return Validation(spans=list(spans), accepted=not reasons, reasons=reasons)


def read_validation(folder: Path) -> Validation:
    """The record that `validate_data` left in a folder."""
    return Validation.model_validate_json((folder / VALIDATION_FILE).read_text(encoding="utf-8"))


def _check_span(project: Project, index: int, record: Ingestion, statistics: Sequence[Path]) -> list[Check]:
    if record.problem:
        return [Check(kind="readable", subject=Path(record.span.uri).name, verdict="failed", message=record.problem)]
    readable = Check(kind="readable", subject=Path(record.span.uri).name, verdict="passed", message="read whole")
    previous = read_statistics(statistics[index - 1]) if index else None
    return [readable, *check_schema(read_statistics(statistics[index]), project.schema, previous)]
