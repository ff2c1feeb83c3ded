"""Labels that come late: landed spans joined to the prediction log by the key of the example.

A label counts once its span was accepted, and only for predictions that were made before: later
ones may come from a model that has learned from it. Of several labels of one key the newest counts,
and of a span that landed again the newest version that was accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.data.examples import text_of
from perennial.errors import NotComparedError
from perennial.ledger.events import Ledger, SpanVerdict
from perennial.production.log_files import LogFiles
from perennial.production.prediction_log import Masks
from perennial.readers.columns import columns_of
from perennial.readers.convert import Conformer
from perennial.readers.read import format_of, read_rows
from perennial.readers.rows import Part
from perennial.spans.landed import find_landed
from perennial.storage.files import expand
from perennial.storage.objects import Objects, open_objects
from perennial.tasks import Part as OutputPart
from perennial.tasks import Task, output_name
from schemas.prediction_log import (
    ARM,
    ASSIGNED,
    CHANCE,
    KEY,
    LATENCY,
    OUTPUT,
    TEST,
    TIME,
    VERSION,
)
from schemas.records import Span

if TYPE_CHECKING:
    import pyarrow as pa

    from perennial.project import Project

Array = np.ndarray[Any, np.dtype[Any]]
LABELS = "labels"
"""Folder of the root with the labels of accepted spans, by their keys."""
_LABEL, _AT, _COUNTS, _SCORES = "label", "label_time", "counts", "scores"
_ACCEPTED = ("accepted", "released")


@dataclass(frozen=True)
class LoggedPredictions:
    """Predictions of the log, one row each; all columns have the length n.

    Attributes:
        key: What identifies the example, text, object [n]; None where the request did not say.
        time: When the request came, datetime64[us], UTC.
        arm: `champion`, `challenger` or `shadow`, object [n].
        assigned: The arm that the split gave the request, object [n].
        test: Number of the A/B test that was running, int64 [n]; 0: there was none.
        version: The registry version that answered, object [n].
        chance: With which probability the request was logged, float64 [n].
        latency_ms: How long the request took, float64 [n].
    """

    key: Array
    time: Array
    arm: Array
    assigned: Array
    test: Array
    version: Array
    chance: Array
    latency_ms: Array


@dataclass(frozen=True)
class ScoredPredictions(LoggedPredictions):
    """Predictions of the log with the scores of the task that the gate reads, one row each.

    Attributes:
        scores: Class probabilities, float64 [n, classes], or values, float64 [n].
    """

    scores: Array


@dataclass(frozen=True)
class LabelledPredictions(LoggedPredictions):
    """Predictions of the log whose labels have come, one row each.

    Attributes:
        task: What is predicted: the task that the gate reads.
        label: Classes, int64 [n], or values, float64 [n].
        scores: Class probabilities, float64 [n, classes], or values, float64 [n].
        label_time: When the first label of the key was accepted, datetime64[us], UTC.
        notes: What could not be read, in words.
    """

    task: Task
    label: Array
    scores: Array
    label_time: Array
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AcceptedVersion:
    """A version of a span that was accepted: since when, and whether no newer one was."""

    span: Span
    at: datetime
    newest: bool


def forget_labels(project: Project, key: str) -> None:
    """Removes the files of labels that hold a key; those of spans that are there are made again.

    Raises:
        StoreError: The root cannot be read, or lets nothing be removed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    objects = open_objects(project.root)
    for listed in list(objects.list(LABELS)):
        data = objects.read(listed.name)
        if data is not None and key in pq.read_table(pa.BufferReader(data))[KEY].to_pylist():
            objects.delete(listed.name)


def read_requests(project: Project, since: datetime) -> LoggedPredictions:
    """Reads all predictions of the log since a moment, labelled or not.

    Raises:
        DataError: A file of the log cannot be read.
        StoreError: The root cannot be read.
    """
    log = _read_log(project, since, ())
    return LoggedPredictions(**{name: _numpy(log, name) for name in _COMMON})


def read_scored(project: Project, since: datetime) -> ScoredPredictions:
    """Reads the predictions of the log since a moment that have scores, labelled or not.

    Raises:
        DataError: A file of the log cannot be read.
        StoreError: The root cannot be read.
    """
    task = project.tasks[0]
    log = _read_log(project, since, [f"{OUTPUT}{name}" for name in _score_names(project, task)])
    return ScoredPredictions(
        **{name: _numpy(log, name) for name in _COMMON}, scores=_scores_of(log, task)
    )


def read_labelled(project: Project, since: datetime) -> LabelledPredictions:
    """Reads the predictions of the log since a moment whose labels have come.

    Raises:
        NotComparedError: The task learns from labels that `preprocessing_fn` makes, which are not
            among the landed ones.
        DataError: A file of the log, or a landed span, cannot be read.
        StoreError: The root cannot be read.
        LedgerError: The ledger cannot be read.
        ProjectError: The secret of hashed keys is missing.
    """
    task = project.tasks[0]
    if not task.reads_landed(project.settings.label):
        raise NotComparedError(
            f"task {task.name} learns from `{task.label}`, which preprocessing_fn makes; only "
            "landed labels are joined to the prediction log"
        )
    versions = find_accepted(project, since)
    labels, notes = _read_labels(project, task, versions)
    scores = [f"{OUTPUT}{name}" for name in _score_names(project, task)]
    joined = _join(_read_log(project, since, scores), labels)
    return LabelledPredictions(
        **{name: _numpy(joined, name) for name in _COMMON},
        task=task,
        label=_numpy(joined, _LABEL).astype(np.int64 if task.is_classes else np.float64),
        scores=_scores_of(joined, task),
        label_time=_numpy(joined, _AT),
        notes=tuple(notes),
    )


def without_labels(task: Task, note: str) -> LabelledPredictions:
    """Gives what there is where no labels can be joined, with the reason."""
    texts, times = np.array([], dtype=object), np.array([], dtype="datetime64[us]")
    numbers, counts = np.array([]), np.array([], dtype=np.int64)
    return LabelledPredictions(
        key=texts,
        time=times,
        arm=texts,
        assigned=texts,
        test=counts,
        version=texts,
        chance=numbers,
        latency_ms=numbers,
        task=task,
        label=counts,
        scores=np.empty((0, 0)) if task.is_classes else numbers,
        label_time=times,
        notes=(note,),
    )


_COMMON = (KEY, TIME, ARM, ASSIGNED, TEST, VERSION, CHANCE, LATENCY)


def find_accepted(project: Project, since: datetime) -> list[AcceptedVersion]:
    """Finds the accepted versions of the spans that may hold labels of predictions since a moment.

    Of a span with such a version all are given, as they tell when a key was labelled first.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    ledger = Ledger(project.ledger_url)
    try:
        judged = ledger.judged_spans()
    finally:
        ledger.close()
    return [
        version
        for verdicts in judged.values()
        for versions in [accepted_versions(verdicts)]
        if any(version.at >= since for version in versions)
        for version in versions
    ]


def accepted_versions(verdicts: Sequence[SpanVerdict]) -> list[AcceptedVersion]:
    """Lists the versions of one span whose newest verdict accepts them, oldest first."""
    by_version: dict[tuple[int, str], list[SpanVerdict]] = {}
    for verdict in verdicts:
        span = verdict.judged.span
        by_version.setdefault((span.version, span.fingerprint), []).append(verdict)
    accepted = [
        (own[-1].judged.span, next(each.at for each in own if each.verdict in _ACCEPTED))
        for _, own in sorted(by_version.items())
        if own[-1].verdict in _ACCEPTED
    ]
    return [
        AcceptedVersion(span, datetime.fromisoformat(at), number == len(accepted))
        for number, (span, at) in enumerate(accepted, start=1)
    ]


def labels_name(span: Span) -> str:
    """Names the file with the labels of a span version among the objects of the root."""
    return f"{LABELS}/{span.name}/{span.version}-{span.fingerprint[:16]}.parquet"


def _read_labels(
    project: Project, task: Task, versions: Sequence[AcceptedVersion]
) -> tuple[pa.Table, list[str]]:
    """Reads the labels of span versions; notes which are not there any more."""
    import pyarrow as pa

    objects = open_objects(project.root)
    masks = Masks.of_project(project)
    value = pa.int64() if task.is_classes else pa.float64()
    tables, notes = [], []
    there: Mapping[tuple[str, str], str] | None = None
    for version in versions:
        span = version.span
        table = _stored_labels(objects, span)
        if table is None:
            if there is None:
                landed = find_landed(project)
                there = {(each.name, each.fingerprint): each.uri for each in landed}
            if (span.name, span.fingerprint) not in there:
                notes.append(
                    f"labels of version {span.version} of span {span.name} are not there any more"
                )
                continue
            table = _table_of(project, span, there[span.name, span.fingerprint], value)
            _store_labels(objects, span, table)
        keys = [masks.key_as_logged(key) for key in table[KEY].to_pylist()]
        count = table.num_rows
        columns = {
            KEY: pa.array(keys, pa.string()),
            _LABEL: table[_LABEL].cast(value),
            _AT: pa.array([version.at] * count, pa.timestamp("us", "UTC")),
            _COUNTS: pa.array([version.newest] * count, pa.bool_()),
        }
        tables.append(pa.table(columns))
    if tables:
        return pa.concat_tables(tables), notes
    kinds = {KEY: pa.string(), _LABEL: value, _AT: pa.timestamp("us", "UTC"), _COUNTS: pa.bool_()}
    return pa.schema(kinds.items()).empty_table(), notes


def _stored_labels(objects: Objects, span: Span) -> pa.Table | None:
    """Reads the labels of a span version that were read before; None: they were not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = objects.read(labels_name(span))
    return None if data is None else pq.read_table(pa.BufferReader(data))


def _store_labels(objects: Objects, span: Span, table: pa.Table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = pa.BufferOutputStream()
    pq.write_table(table, data, compression="zstd")
    objects.write_once(labels_name(span), data.getvalue().to_pybytes())


def _table_of(project: Project, span: Span, uri: str, value: pa.DataType) -> pa.Table:
    import pyarrow as pa

    keys, labels = [], []
    for key, label in _landed_labels(project, span, uri):
        keys.append(key)
        labels.append(label)
    return pa.table({KEY: pa.array(keys, pa.string()), _LABEL: pa.array(labels, value)})


def _landed_labels(project: Project, span: Span, uri: str) -> Iterator[tuple[str, float]]:
    """Reads key and label of each row of a landed span that has both."""
    data, key, label = project.settings.data, project.settings.data.key, project.settings.label
    known = columns_of(project.schema)
    columns = {name: known[name] for name in (key, label) if name in known}
    conformer = Conformer(columns, data.max_value_mb)
    for part in _parts_of(project, span, uri):
        for row in read_rows(part, data.max_value_mb):
            if row.reason is not None:
                continue
            wanted = {name: row.values.get(name) for name in (key, label)}
            values, reasons = conformer.conform(wanted)
            if reasons or key not in values or label not in values:
                continue
            of_label = values[label]
            number = of_label[0] if isinstance(of_label, list) and of_label else of_label
            if isinstance(number, int | float) and np.isfinite(number):
                yield text_of(values[key]), number


def _parts_of(project: Project, span: Span, uri: str) -> list[Part]:
    data = project.settings.data
    missing = tuple(data.missing)
    if data.table is not None:
        return [
            Part(
                "",
                span.name,
                "table",
                table=data.table,
                span=span.name,
                fingerprint=span.fingerprint,
                missing=missing,
            )
        ]
    return [
        Part(
            file,
            file.removeprefix(f"{project.folder}/"),
            format_of(file, data.format),
            missing=missing,
            delimiter=data.delimiter,
        )
        for file in expand(uri)
    ]


def _score_names(project: Project, task: Task) -> list[str]:
    """Lists what the task's scores may be called: versions may differ in their number of tasks."""
    part: OutputPart = "probabilities" if task.is_classes else "value"
    names = [each.name for each in project.tasks]
    several = output_name([task.name, task.name], task.name, part)
    return list(dict.fromkeys([output_name(names, task.name, part), part, several]))


def _read_log(project: Project, since: datetime, scores: Sequence[str]) -> pa.Table:
    """Reads the log since a moment; of the columns of scores, each file's first is `scores`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = {*_COMMON, *scores}
    moment = pa.scalar(since.astimezone(UTC), pa.timestamp("us", "UTC"))
    tables = []
    day = since.astimezone(UTC).date()
    for table in LogFiles.of_project(project).read(day, lambda name: name in wanted):
        chosen = next((name for name in scores if name in table.column_names), None)
        columns = {name: table[name] for name in _COMMON}
        if scores:
            if chosen is None:
                continue  # of models without this task
            columns[_SCORES] = table[chosen]
        recent = pa.table(columns)
        tables.append(recent.filter(pc.greater_equal(recent[TIME], moment)))
    if tables:
        return pa.concat_tables(tables, promote_options="permissive")
    text, number = pa.string(), pa.float64()
    kinds = [text, pa.timestamp("us", "UTC"), text, text, pa.int64(), text, number, number]
    fields = [*zip(_COMMON, kinds, strict=True)]
    if scores:
        fields.append((_SCORES, number))
    return pa.schema(fields).empty_table()


def _join(log: pa.Table, labels: pa.Table) -> pa.Table:
    """Joins each logged prediction with the label of its key that counts, if it was made before."""
    import duckdb

    query = f"""
        WITH first AS (SELECT {KEY}, min({_AT}) AS {_AT} FROM labels GROUP BY {KEY}),
        newest AS (
            SELECT {KEY}, arg_max({_LABEL}, {_AT}) AS {_LABEL}
            FROM labels WHERE {_COUNTS} GROUP BY {KEY}
        )
        SELECT log.*, newest.{_LABEL}, first.{_AT}
        FROM log JOIN newest USING ({KEY}) JOIN first USING ({KEY})
        WHERE log.{TIME} <= first.{_AT} AND log.{_SCORES} IS NOT NULL
        ORDER BY log.{TIME}, log.{KEY}, log.{ARM}
    """
    # It would fetch an extension over the network for what it does not bring along.
    with duckdb.connect(":memory:", config={"autoinstall_known_extensions": False}) as connection:
        connection.register("log", _without_zone(log))
        connection.register("labels", _without_zone(labels))
        return connection.sql(query).to_arrow_table()


def _without_zone(table: pa.Table) -> pa.Table:
    """Gives times as they are in UTC: DuckDB needs an extension to compare those with a zone."""
    import pyarrow as pa

    kinds = [
        pa.timestamp("us") if pa.types.is_timestamp(field.type) else field.type
        for field in table.schema
    ]
    return table.cast(pa.schema(list(zip(table.column_names, kinds, strict=True))))


def _numpy(table: pa.Table, name: str) -> Array:
    column = table[name].combine_chunks()
    if name in (TIME, _AT):
        import pyarrow as pa

        return np.asarray(column.cast(pa.int64()).to_numpy(), dtype="datetime64[us]")
    if name == TEST:
        column = column.fill_null(0)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _scores_of(joined: pa.Table, task: Task) -> Array:
    """Gives scores as an array; a class that a version does not know has the probability 0."""
    if not task.is_classes:
        return _numpy(joined, _SCORES).astype(np.float64)
    rows = joined[_SCORES].to_pylist()
    width = max((len(row) for row in rows if row is not None), default=0)
    scores = np.zeros((len(rows), width))
    for number, row in enumerate(rows):
        scores[number, : len(row or ())] = row or ()
    return scores
