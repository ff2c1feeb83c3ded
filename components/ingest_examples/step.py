"""Turns one landed span into tf.Examples, split by a hash of their keys; sets other rows aside."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.ingest_examples.part_reader import Plan, infer_columns
from components.ingest_examples.row_rules import RowRules, label_domain
from components.ingest_examples.sources import (
    Source,
    check_has_columns,
    check_unchanged,
    open_source,
)
from components.ingest_examples.tallies import Total
from perennial.data.row_keys import ROW_KEYS_FILE, write_row_keys
from perennial.data.worker_files import Workers
from perennial.errors import BrokenFileError
from perennial.project import Project
from perennial.readers.columns import columns_of
from perennial.spans.artifacts import SET_ASIDE_FILE
from perennial.storage.atomic import publish_text
from perennial.storage.digests import digest_value
from schemas.project import SPLITS
from schemas.records import Ingestion, Span

if TYPE_CHECKING:
    from components.ingest_examples.beam_pipeline import Reading

_WORK = "work"


def ingest_examples(project: Project, span: Span, output: Path, infer: bool = False) -> Ingestion:
    """Writes the examples of a span, the rows set aside, and a record of both.

    `output/Split-{train,eval,test}/data_tfrecord-*.gz` are the examples, `output/row_keys.npy` is
    their keys, and `output/set_aside.jsonl` the other rows, one `SetAside` a line. A span that
    cannot be read is not an error of the step: the record holds the problem, there are no examples,
    and validation refuses the span.

    Args:
        project: The project; its schema says what the values are.
        span: What the run selected.
        output: Folder that is made or made anew.
        infer: Whether the values themselves say what they are, for a project that has no schema
            yet.

    Raises:
        DataError: The files or the database cannot be read, or changed after the run selected the
            span.
        ProjectError: The format of the files is not known.
    """
    _clear(output)
    columns, total, problem = _ingest(project, span, output, infer)
    check_unchanged(project, span)
    shutil.rmtree(output / _WORK, ignore_errors=True)
    record = Ingestion(
        span=span,
        columns=columns,
        rows={split: 0 if problem else total.rows[split] for split in SPLITS},
        labels={} if problem else total.labels,
        set_aside=total.set_aside,
        causes=total.causes,
        problem=problem,
        content=digest_value(
            [span.fingerprint, "inferred" if infer else project.digest_of("ingest_examples")]
        ),
    )
    record.write(output)
    return record


def _ingest(
    project: Project, span: Span, output: Path, infer: bool
) -> tuple[list[str], Total, str | None]:
    """Gives the columns, the counts, and the problem that leaves the span without examples."""
    columns, total = list[str](), Total([])
    publish_text("", output / SET_ASIDE_FILE)
    try:
        features = [] if infer else [feature.name for feature in project.schema.feature]
        source = open_source(project, span, features)
        columns = source.columns or []
        plan = _plan(project, span, source, output, infer)
        reading = _read(plan, Workers.of(project), output)
        columns, total = columns or reading.total.columns, reading.total
        _publish_lines(reading.set_aside, output / SET_ASIDE_FILE)
        _check_whole(project, source, columns, total)
        write_row_keys(reading.sorted_keys(), total.rows.total(), output)
    except BrokenFileError as error:
        _remove_examples(output)
        return columns, total, str(error)
    return columns, total, None


def _plan(project: Project, span: Span, source: Source, output: Path, infer: bool) -> Plan:
    settings, schema = project.settings, None if infer else project.schema
    largest = settings.data.max_value_mb
    if schema:
        columns = columns_of(schema)
    else:
        columns, counts = infer_columns(source.parts, largest)
        counts.write(output)
    return Plan(
        span=span.name,
        parts=source.parts,
        rules=RowRules(settings.data.key, settings.label, label_domain(schema, settings.label)),
        splits=settings.data.splits,
        max_value_mb=largest,
        columns=columns,
    )


def _read(plan: Plan, workers: Workers, output: Path) -> Reading:
    """Reads a span, and again if the first reading finds duplicates or columns to consider.

    That is rare: columns that the schema does not have and whose values are of several kinds, and
    duplicate keys. Finding them first would cost every span a second reading.
    """
    from components.ingest_examples.beam_pipeline import read_parts

    reading = read_parts(plan, workers, output, output / _WORK)
    if mixed := reading.total.mixed():
        plan = replace(plan, columns={**plan.columns, **mixed})
        reading = _read_again(plan, workers, output)
    if reading.duplicates:
        reading = _read_again(replace(plan, duplicates=reading.duplicates), workers, output)
    return reading


def _read_again(plan: Plan, workers: Workers, output: Path) -> Reading:
    from components.ingest_examples.beam_pipeline import read_parts

    _clear(output)
    return read_parts(plan, workers, output, output / _WORK)


def _check_whole(project: Project, source: Source, columns: list[str], total: Total) -> None:
    """Checks what only the whole span shows.

    Raises:
        BrokenFileError: A part is broken, or there is no row, no key, no label or no example.
        DataError: A part could not be read.
    """
    if total.fault is not None:
        raise total.fault.error()
    rows = total.rows.total() + total.set_aside
    name = source.parts[0].name if len(source.parts) == 1 else source.name
    if rows == 0:
        raise BrokenFileError(name, "must hold rows", "0 rows")
    if columns:
        check_has_columns(project, columns, name)
    if columns and total.labelled == 0:
        label = project.settings.label
        raise BrokenFileError(name, f"must have labels (`{label}`)", f"{rows} rows without one")
    if total.rows.total() == 0:
        counted = "1 row" if rows == 1 else f"{rows} rows"
        received = f"{counted}, all set aside, the first {total.first}"
        raise BrokenFileError(name, "must hold rows that are examples", received)


def _publish_lines(files: list[Path], destination: Path) -> None:
    temporary = destination.with_name(f".{destination.name}")
    with temporary.open("wb") as whole:
        for file in files:
            with file.open("rb") as lines:
                shutil.copyfileobj(lines, whole)
    os.replace(temporary, destination)


def _clear(output: Path) -> None:
    """Removes what a killed attempt or an earlier reading left behind."""
    output.mkdir(parents=True, exist_ok=True)
    (output / Ingestion.FILE).unlink(missing_ok=True)
    (output / SET_ASIDE_FILE).unlink(missing_ok=True)
    shutil.rmtree(output / _WORK, ignore_errors=True)
    _remove_examples(output)


def _remove_examples(output: Path) -> None:
    (output / ROW_KEYS_FILE).unlink(missing_ok=True)
    for split in SPLITS:
        shutil.rmtree(output / f"Split-{split}", ignore_errors=True)
