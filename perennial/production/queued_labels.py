"""The labels that people are asked for: chosen from the prediction log, recorded, measured on.

A queue lies in the root as a file, with the chance that each of its examples had, and in the ledger
as an event. No key is asked for twice.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.errors import DataError, NotComparedError, ServingError
from perennial.evaluation.bootstrap import Interval, mean_interval
from perennial.export.served_model import ServedModel
from perennial.ledger.events import Ledger, NewEvent, body_of
from perennial.ledger.people import person
from perennial.production.arms import find_arms
from perennial.production.label_queue import (
    QueueShares,
    draw,
    give_chances,
    measure_disagreement,
    measure_uncertainty,
)
from perennial.production.labels import read_labelled
from perennial.production.logged_examples import LoggedExamples, read_unlabelled
from perennial.registry.versions import Registry
from perennial.storage.objects import Objects, open_objects
from perennial.tasks import Task
from schemas.prediction_log import CHANCE, KEY
from schemas.records import LabelsQueued

if TYPE_CHECKING:
    import pyarrow as pa

    from perennial.project import Project

Array = np.ndarray[Any, np.dtype[Any]]
FOLDER = "label_queues"
PREDICTION, SCORE = "prediction", "score"
"""Columns of a queue: what the champion answered, and its probability of that class."""
CONFIDENCE = 0.95
_LEAST_LABELS = 10  # of which a metric is given


@dataclass(frozen=True)
class Queue:
    """Examples that people are asked about.

    Attributes:
        name: Of the queue.
        made: What the ledger knows of it.
        table: A row for each example: `key`, `time`, the features `feature:<name>`, `prediction`,
            `score`, and `chance`: that of having been logged times that of having been drawn.
    """

    name: str
    made: LabelsQueued
    table: pa.Table


@dataclass(frozen=True)
class QueueMetric:
    """A metric of all examples that a queue was drawn from, by the labels of the queue.

    Attributes:
        queue: Its name.
        labelled: How many of its examples have labels.
        examples: How many it has.
        population: How many it was drawn from.
        metric: What was measured: `accuracy`, or `mean_absolute_error` of a regression.
        value: Of the champion of that time, with its interval.
    """

    queue: str
    labelled: int
    examples: int
    population: int
    metric: str
    value: Interval


def choose_labels(
    project: Project, count: int, since: datetime, shares: QueueShares | None = None
) -> Queue:
    """Chooses examples of the log to be labelled, and records them.

    Args:
        project: The project.
        count: How many labels are asked for.
        since: From which moment on requests count.
        shares: How the labels are shared out; None: the default.

    Raises:
        ServingError: Nothing was ever deployed.
        DataError: The log has no example without a label, or not as the champion takes it.
        StoreError: The root cannot be read or written.
    """
    ledger = Ledger(project.ledger_url)
    try:
        arms = find_arms(ledger)
        if arms is None:
            remedy = f"`perennial run {project.folder}` trains the first one."
            raise ServingError(ledger.where, "must name a champion", "no deployment", remedy)
        known = {key for queue in read_queues(project, ledger) for key in _keys(queue.table)}
        examples = read_unlabelled(project, since, known | _labelled_keys(project, since))
        if not len(examples):
            raise DataError(
                "the prediction log",
                f"must hold an example since {since:%Y-%m-%d} that has a key and no label",
                "none",
                "Switch serving.log.enabled on, send the key with requests, or choose more days.",
            )
        models = _Models(project)
        task = project.tasks[0]
        champion, places = models.answer(arms.champion.version, examples, task)
        other = None
        versions = [arms.champion.version]
        if arms.challenger is not None:
            versions.append(arms.challenger.version)
            other, _ = models.answer(arms.challenger.version, examples, task)
        uncertainty = measure_uncertainty(champion) if task.is_classes else np.zeros(len(examples))
        disagreement = None if other is None else measure_disagreement(champion, other)
        chances = give_chances(count, uncertainty, disagreement, shares or QueueShares())
        rows = draw(chances, places, np.random.default_rng())
        table = _table(examples.take(rows), champion[rows], chances[rows], task)
        made = LabelsQueued(
            queue=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
            versions=versions,
            examples=len(rows),
            population=len(examples),
            by=person(),
        )
        _write(open_objects(project.root), made.queue, table)
        ledger.append(NewEvent("labels_queued", made))
        return Queue(made.queue, made, table)
    finally:
        ledger.close()


def read_queues(project: Project, ledger: Ledger) -> Iterator[Queue]:
    """Reads every queue, oldest first; one that was removed from the root is left out.

    Raises:
        LedgerError: The ledger cannot be read.
        StoreError: The root cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    objects = open_objects(project.root)
    for event in ledger.events("labels_queued"):
        made = body_of(event, LabelsQueued)
        files = [objects.read(file.name) for file in objects.list(f"{FOLDER}/{made.queue}")]
        tables = [pq.read_table(io.BytesIO(data)) for data in files if data is not None]
        if tables:
            yield Queue(made.queue, made, pa.concat_tables(tables))


def forget_in_queues(project: Project, keys: Collection[str]) -> int:
    """Removes the rows of keys from all queues; gives how many.

    Args:
        project: The project.
        keys: As the log has them.

    Raises:
        LedgerError: The ledger cannot be read.
        StoreError: The root cannot be read or written.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    ledger, objects, removed = Ledger(project.ledger_url), open_objects(project.root), 0
    for queue in list(read_queues(project, ledger)):
        stays = pc.invert(pc.is_in(queue.table[KEY], pa.array(list(keys), pa.string())))
        left = queue.table.filter(stays)
        if left.num_rows < queue.table.num_rows:
            # A kill in between leaves fewer rows to label, and never the person's.
            for file in list(objects.list(f"{FOLDER}/{queue.name}")):
                objects.delete(file.name)
            _write(objects, queue.name, left)
            removed += queue.table.num_rows - left.num_rows
    ledger.close()
    return removed


def measure_queue(project: Project, queue: Queue) -> QueueMetric:
    """Measures the champion of a queue's time by the labels that have come for it.

    Each label counts one over the chance of its example (Hájek's estimate), so that the value is
    that of all examples that the queue was drawn from.

    Raises:
        NotComparedError: Too few of its labels have come, or labels cannot be joined to the log.
    """
    task = project.tasks[0]
    since = min(queue.table["time"].to_pylist())
    joined = read_labelled(project, since)
    labels = dict(zip(joined.key, joined.label, strict=True))
    rows = [row for row, key in enumerate(_keys(queue.table)) if key in labels]
    if len(rows) < _LEAST_LABELS:
        raise NotComparedError(
            f"queue {queue.name} has labels of {len(rows)} of its {queue.table.num_rows} examples; "
            f"a metric needs {_LEAST_LABELS}"
        )
    chosen = queue.table.take(rows)
    given = np.array([labels[key] for key in _keys(chosen)], dtype=np.float64)
    answered = np.asarray(chosen[PREDICTION].to_numpy(), dtype=np.float64)
    gains = (given == answered).astype(float) if task.is_classes else np.abs(given - answered)
    weights = 1 / np.asarray(chosen[CHANCE].to_numpy(), dtype=np.float64)
    return QueueMetric(
        queue.name,
        len(rows),
        queue.table.num_rows,
        queue.made.population,
        "accuracy" if task.is_classes else "mean_absolute_error",
        mean_interval(gains, CONFIDENCE, weights=weights),
    )


class _Models:
    """Versions of the registry, asked about examples of the log."""

    def __init__(self, project: Project) -> None:
        self._registry = Registry(project)

    def answer(self, version: str, examples: LoggedExamples, task: Task) -> tuple[Array, Array]:
        """Gives a version's scores of a task, [n, ...], and where each example lies, [n, d]."""
        found = self._registry.version(version)
        model = ServedModel.load(self._registry.fetch(found), found.digest)
        scores: list[Array] = [np.empty(0)] * len(examples)
        places: list[Array] = [np.empty(0)] * len(examples)
        for rows, columns in examples.columns_for(model.contract):
            answers = model.predict_columns(columns)[task.name]
            latent = model.latent_columns(columns)
            near = answers.reshape(len(rows), -1) if latent is None else latent
            for row, score, place in zip(rows, answers, near, strict=True):
                scores[row], places[row] = score, place
        return np.array(scores), np.array(places)


def _table(examples: LoggedExamples, scores: Array, chances: Array, task: Task) -> pa.Table:
    import pyarrow as pa

    answers = scores.argmax(axis=1) if task.is_classes else scores
    sure = scores.max(axis=1) if task.is_classes else np.full(len(scores), np.nan)
    table = examples.table.drop_columns([CHANCE])
    for name, values in (
        (PREDICTION, answers),
        (SCORE, sure.astype(np.float64)),
        (CHANCE, examples.chances * chances),
    ):
        table = table.append_column(name, pa.array(values))
    return table


def _write(objects: Objects, queue: str, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    objects.write_file_once(
        f"{FOLDER}/{queue}/labels.parquet",
        lambda path: pq.write_table(table, path, compression="zstd"),
    )


def _keys(table: pa.Table) -> list[str]:
    keys: list[str] = table[KEY].to_pylist()
    return keys


def _labelled_keys(project: Project, since: datetime) -> set[str]:
    """Gives the keys of the log whose labels have come."""
    try:
        return {key for key in read_labelled(project, since).key if key is not None}
    except NotComparedError:  # labels cannot be joined: whoever asks for them knows
        return set()
