"""Removes a person's rows from the prediction log, and finds what else knows of the person."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perennial.data.row_keys import ROW_KEYS_FILE, RowKeys, digest_keys
from perennial.ledger.events import Ledger, body_of
from perennial.production.labels import forget_labels
from perennial.production.log_files import LogFiles
from perennial.production.prediction_log import Masks
from perennial.production.queued_labels import forget_in_queues
from perennial.results.store import Results
from perennial.spans.prepared import key_of_ingestion
from schemas.records import DecisionMade, Span

if TYPE_CHECKING:
    from perennial.project import Project


@dataclass(frozen=True)
class Remaining:
    """The spans and versions that still know of a key.

    Attributes:
        spans: Versions of spans whose examples hold it.
        unknown: Versions of spans whose keys are not there to look at.
        versions: Registry versions that were trained on a window with one of `spans`.
    """

    spans: list[Span]
    unknown: list[Span]
    versions: list[str]


def forget_key(project: Project, key: str) -> int:
    """Removes the rows of a key from the log and label queues, and the labels joined to it.

    Args:
        project: Whose log it is.
        key: The value of `data.key`, as requests have it.

    Returns:
        How many rows were removed.

    Raises:
        DataError: A file of the log cannot be read.
        ProjectError: The secret of hashed keys is missing.
        StoreError: The root cannot be read or written.
    """
    as_logged = Masks.of_project(project).key_as_logged(key)
    removed = LogFiles.of_project(project).remove_key(as_logged)
    forget_labels(project, key)
    forget_in_queues(project, [as_logged])
    return removed


def find_remaining(project: Project, key: str) -> Remaining:
    """Finds the spans whose examples hold a key, and the models that were trained on them.

    Raises:
        LedgerError: The ledger cannot be read.
        StoreError: The root cannot be read.
    """
    ledger = Ledger(project.ledger_url)
    try:
        judged = ledger.judged_spans()
        runs = [(start.run, started) for start, started, _ in ledger.runs()]
        decisions = ledger.events("decision")
    finally:
        ledger.close()
    verdicts = [verdict.judged.span for each in judged.values() for verdict in each]
    results = Results(project.root, project.state)
    # What is there was ingested with the settings and the schema of its day.
    digests = {project.digest_of("ingest_examples")}
    digests |= {started.selection.data_digest for _, started in runs}
    spans, unknown = [], []
    for span in dict.fromkeys(verdicts):
        found = (_row_keys(results, digest, span) for digest in digests)
        keys = next((each for each in found if each is not None), None)
        if keys is None:
            unknown.append(span)
        elif holds_key(keys, key):
            spans.append(span)
    fingerprints = {span.fingerprint for span in spans}
    trained = {
        run
        for run, started in runs
        if any(span.fingerprint in fingerprints for span in started.selection.window)
    }
    versions = [body_of(event, DecisionMade).version for event in decisions if event.run in trained]
    return Remaining(spans, unknown, _in_order(versions))


def holds_key(keys: RowKeys, key: str) -> bool:
    """Tells whether a key is among those of a span."""
    ((high, low),) = digest_keys([key.encode()])
    return bool(((keys["high"] == high) & (keys["low"] == low)).any())


def _row_keys(results: Results, digest: str, span: Span) -> RowKeys | None:
    """Reads the keys of a span's examples; None: they are not in the root (any more)."""
    result = results.find(*key_of_ingestion(digest, span))
    if result is None:
        return None
    for output in result.outputs.values():
        for file in output.files:
            if file.path == ROW_KEYS_FILE:
                keys: RowKeys = np.load(io.BytesIO(results.read_file(file)))
                return keys
    return None


def _in_order(versions: Iterable[str]) -> list[str]:
    return sorted(set(versions), key=int)
