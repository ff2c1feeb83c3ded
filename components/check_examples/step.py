"""Checks an ingested span against the project's expectations; sets the few that break them aside.

Labels that the tasks do not take break an expectation that every project has.

What is published are the examples that are left. Each row that is not among them stands, with its
reasons, in the quarantine file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from components.check_examples.broken_rules import check_bounds
from components.check_examples.example_table import make_table
from components.check_examples.expectations import open_suite
from components.check_examples.labels import explain_rules, task_rules
from components.check_examples.rows import (
    RowsDecision,
    check_rows,
    decide_rows,
    write_examples,
)
from components.check_examples.set_aside import Settled, settle
from perennial.data.examples import split_files
from perennial.data.row_keys import (
    ROW_KEYS_FILE,
    digest_keys,
    keys_without,
    read_row_keys,
    write_row_keys,
)
from perennial.data.shown_examples import count_without, value_name, values_of
from perennial.project import Project
from perennial.readers.columns import columns_of
from perennial.spans.artifacts import DATA_DOCS, SET_ASIDE_FILE
from perennial.storage.atomic import link_file, publish_text
from perennial.storage.digests import digest_value
from schemas.records import Check, CheckedSpan, Ingestion, SetAside, Span

if TYPE_CHECKING:
    import tensorflow as tf


def check_examples(project: Project, examples: Path, output: Path) -> CheckedSpan:
    """Checks one span and publishes it without the few rows that break a row-level expectation.

    Args:
        project: Holds the expectations and the settings `checks`.
        examples: Folder of `ingest_examples`.
        output: Becomes a folder with the examples that are left, `Split-*/`, and their keys;
            `checked.json`;
            `set_aside.jsonl`, one line for every row that ingestion or an expectation set aside;
            and the Data Docs, `data_docs/`.

    Raises:
        ProjectError: The expectations cannot be used; the data is not judged then.
    """
    if output.exists():  # of a killed attempt; its files may share their bytes with `examples`
        shutil.rmtree(output)
    output.mkdir(parents=True)
    ingestion = Ingestion.read(examples)
    lines = _ingested_lines(examples)
    if ingestion.problem:
        record = _unreadable(project, ingestion)
    else:
        record, more = _check_readable(project, ingestion, examples, output)
        lines += more
    publish_text("".join(f"{line}\n" for line in lines), output / SET_ASIDE_FILE)
    record.write(output)
    return record


def _unreadable(project: Project, ingestion: Ingestion) -> CheckedSpan:
    severity = project.settings.checks.readable
    subject, problem = Path(ingestion.span.uri).name, ingestion.problem or ""
    check = Check(
        kind="readable", subject=subject, verdict="failed", message=problem, severity=severity
    )
    return _record(project, ingestion, [check], ingestion.rows, ingestion.labels)


def _check_readable(
    project: Project, ingestion: Ingestion, examples: Path, output: Path
) -> tuple[CheckedSpan, list[str]]:
    """Judges and publishes a span's examples; gives also the lines of the rows set aside."""
    settings, span, key = project.settings.checks, ingestion.span, project.settings.data.key
    settled = _settle(project, ingestion, split_files(examples), output)
    counts = (sum(ingestion.rows.values()), ingestion.set_aside, settled.failing)
    causes = Counter(ingestion.causes) + Counter(settled.causes)
    checks = [
        Check(kind="readable", subject=Path(span.uri).name, verdict="passed", message="read whole"),
        check_rows(settled.decision, counts, settings.set_aside, settings.rows, causes),
        *settled.checks,
    ]
    left_out = write_examples(examples, output, settled.excluded)
    _publish_keys(examples, output, [value_name(example, key) for _, example in left_out])
    gone = Counter(split for split, _ in left_out)
    rows = {split: count - gone[split] for split, count in ingestion.rows.items()}
    lost = Counter(value_name(example, project.settings.label) for _, example in left_out)
    labels = count_without(ingestion.labels, lost)
    reasons = [settled.excluded[place] for place in sorted(settled.excluded)]
    lines = [
        _line(project, span, example, why)
        for why, (_, example) in zip(reasons, left_out, strict=True)
    ]
    return _record(project, ingestion, checks, rows, labels, len(lines)), lines


def _publish_keys(examples: Path, output: Path, left_out: list[str]) -> None:
    """Publishes the keys of the examples that are left."""
    if not left_out and (examples / ROW_KEYS_FILE).exists():
        link_file(examples / ROW_KEYS_FILE, output / ROW_KEYS_FILE)
    elif left_out:
        keys = read_row_keys(examples)
        gone = digest_keys([name.encode() for name in left_out])
        write_row_keys(keys_without(keys, gone), max(len(keys) - len(left_out), 0), output)


def _settle(project: Project, ingestion: Ingestion, files: list[str], output: Path) -> Settled:
    """Runs the suite on a span and writes the Data Docs of the run that counts."""
    settings, span = project.settings.checks, ingestion.span.name
    ingested = sum(ingestion.rows.values())

    def decide(failing: int, settled: bool) -> RowsDecision:
        return decide_rows(ingested, ingestion.set_aside, failing, settings.set_aside, settled)

    columns = columns_of(project.schema)
    check_bounds(project.expectations, columns)
    # A schema without features does not tell which columns there are.
    known = {*columns, *ingestion.columns} if columns else set()
    rules = task_rules(project, ingestion)
    expectations = [*project.expectations, *(rule.expectation for rule in rules)]
    with open_suite(expectations, settings.expectations, known) as suite:
        if not ingested:
            return Settled(suite.not_compared("there are no rows"), decide(0, True))
        with tempfile.TemporaryDirectory(dir=output) as scratch:
            outcome = settle(suite, span, make_table(files, Path(scratch)), decide)
        outcome = explain_rules(rules, outcome)
        suite.publish_docs(span, outcome.checks, output / DATA_DOCS)
    return outcome


def _line(project: Project, span: Span, example: tf.train.Example, reasons: list[str]) -> str:
    key = project.settings.data.key
    place = f"{key} {value_name(example, key)}"
    return SetAside(
        span=span.name, place=place, reasons=reasons, values=values_of(example)
    ).model_dump_json()


def _record(
    project: Project,
    ingestion: Ingestion,
    checks: list[Check],
    rows: dict[str, int],
    labels: dict[str, int],
    more: int = 0,
) -> CheckedSpan:
    """Makes the record of a span of which `more` rows were set aside than by ingestion."""
    return CheckedSpan(
        span=ingestion.span,
        columns=ingestion.columns,
        rows=rows,
        labels=labels,
        set_aside=ingestion.set_aside + more,
        checks=checks,
        content=digest_value([ingestion.content, project.digest_of("check_examples")]),
    )


def _ingested_lines(examples: Path) -> list[str]:
    """Reads ingestion's quarantine file, which is absent where no row was set aside."""
    file = examples / SET_ASIDE_FILE
    # Not splitlines(): a value may hold U+2028, which it takes for the end of a line.
    return (
        [line for line in file.read_text(encoding="utf-8").split("\n") if line]
        if file.exists()
        else []
    )
