"""Writes the prediction log, off the way of the requests.

Answers wait in memory, up to a bound, until a thread makes a file of them. What is above the bound
is dropped, and counted. A counter in the state folder, which outlives the process, tells the next
start how many rows a killed server had in hand.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from perennial.errors import describe_error
from perennial.production.log_files import LogFiles, part_name
from perennial.production.masked_features import check_masked_features
from perennial.production.prediction_log import (
    LoggedAnswer,
    Masks,
    is_sampled,
    make_tables,
)
from perennial.project import Project
from perennial.readers.rows import MEGABYTE
from serving.outputs import prediction_outputs

if TYPE_CHECKING:
    import pyarrow as pa

    from serving.observer import Answered

COUNTS = "prediction_log"
"""Folder of the state folder with the counters of the servers that run."""
_TOLD_EVERY = 60.0  # seconds between two messages about the same
_KEEPING = 3600.0  # seconds between two looks at what is to be merged and removed
_AFTER_FAILURE = 1.0  # seconds until a file is tried again at the soonest
_CLOSING = 10.0  # seconds for the last file when the server stops
_NUMBERS = struct.Struct("<QQ")

logger = logging.getLogger("perennial.serving")


@dataclass(frozen=True)
class WaitingFile:
    """Rows that are to become a file, and the memory that they count for."""

    day: date
    name: str
    table: pa.Table
    size: int


class RowCounter:
    """Counts rows that were taken and rows that were settled, where a kill does not reach.

    The numbers are mapped into a file: the system keeps what was written, whatever becomes of the
    process. While a process holds its counter, the file is locked.

    Args:
        folder: Where counters lie.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{uuid.uuid4().hex}.rows"
        self._file = self._path.open("w+b")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.write(_NUMBERS.pack(0, 0))
        self._file.flush()
        os.fsync(self._file.fileno())  # a disk that is full later has room for these bytes
        self._numbers = mmap.mmap(self._file.fileno(), _NUMBERS.size)
        self._lock = threading.Lock()

    def add(self, taken: int = 0, settled: int = 0) -> None:
        """Counts rows."""
        with self._lock:
            before = _NUMBERS.unpack(self._numbers[:])
            self._numbers[:] = _NUMBERS.pack(before[0] + taken, before[1] + settled)

    def close(self) -> None:
        """Ends the counter: nothing was lost, or it was told."""
        self._path.unlink(missing_ok=True)
        self._numbers.close()
        self._file.close()


def take_lost_rows(folder: Path) -> int:
    """Counts the rows that servers had in hand when they were killed; each is told once."""
    lost = 0
    for path in sorted(folder.glob("*.rows")):
        try:
            with path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                data = file.read()
                path.unlink(missing_ok=True)
        except OSError:  # its server runs, or another one counts it
            continue
        if len(data) == _NUMBERS.size:
            taken, settled = _NUMBERS.unpack(data)
            lost += max(0, taken - settled)
    return lost


class PredictionLogger(Collector):
    """Learns of answers, and writes them as files of the prediction log.

    Args:
        project: Whose server answers.

    Attributes:
        written: Rows that are in the log.
        dropped: Rows that found the memory full.
        lost: Rows that killed servers had in hand, or this one could not write at its end.

    Raises:
        ProjectError: The settings mask features that there are not, or their secret is missing.
        StoreError: The root's file system has no driver here.
    """

    def __init__(self, project: Project) -> None:
        self._name = project.settings.name
        self._settings = project.settings.serving.log
        if self._settings.dropped or self._settings.hashed:
            check_masked_features(project, [feature.name for feature in project.schema.feature])
        self._masks = Masks.of_project(project)
        self._files = LogFiles.of_project(project)
        self._most = int(self._settings.memory_mb * MEGABYTE)
        self._writer = uuid.uuid4().hex[:12]
        self._number = 0
        self.written = self.dropped = self.lost = 0
        self._lock = threading.Lock()
        self._answers: list[LoggedAnswer] = []
        self._waiting: list[WaitingFile] = []
        self._rows = self._size = 0
        self._told: dict[str, float] = {}
        self._failing = False
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._counter = self._open_counter(project.state / COUNTS)
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (
                ("prediction-log", self._write),
                ("prediction-log-keeper", self._keep),
            )
        ]
        REGISTRY.register(self)
        for thread in self._threads:
            thread.start()

    def observe(self, answered: Answered) -> None:
        """Takes one answer, unless the sample leaves it out; it is written later."""
        if not is_sampled(answered.request_id, answered.time, self._settings.sample):
            return
        answer = self._logged(answered)
        size = answer.size
        with self._lock:
            full = self._size + size > self._most
            if full:
                self.dropped += answer.rows
            else:
                self._answers.append(answer)
                self._rows += answer.rows
                self._size += size
                if self._counter is not None:
                    self._counter.add(taken=answer.rows)
            many = self._rows >= self._settings.rows
        if full:
            self._tell(
                "full",
                f"the prediction log drops rows, as {self._settings.memory_mb:g} MB wait to be "
                f"written (serving.log.memory_mb); {self.dropped} were dropped so far",
            )
        elif many:
            self._wake.set()

    def close(self) -> None:
        """Writes what waits, and ends; what cannot be written in time is told to be lost."""
        self._stopping.set()
        self._wake.set()
        self._threads[0].join(_CLOSING)
        with self._lock:
            rest = self._rows
            self.lost += rest
        if rest:
            logger.error("%d rows of the prediction log are lost: they could not be written", rest)
        if self._counter is not None:
            self._counter.close()
            self._counter = None
        REGISTRY.unregister(self)

    def collect(self) -> Iterable[Metric]:
        """Gives the current values."""
        rows = CounterMetricFamily(
            "perennial_prediction_log_rows",
            "Rows of the prediction log: written, dropped as the memory was full, or lost.",
            labels=["name", "outcome"],
        )
        rows.add_metric([self._name, "written"], self.written)
        rows.add_metric([self._name, "dropped"], self.dropped)
        rows.add_metric([self._name, "lost"], self.lost)
        yield rows
        waiting = GaugeMetricFamily(
            "perennial_prediction_log_waiting_rows",
            "Rows that are not written yet.",
            labels=["name"],
        )
        waiting.add_metric([self._name], self._rows)
        yield waiting

    def describe(self) -> Iterable[Metric]:
        """Describes nothing ahead: the projects of a server have metrics of the same names."""
        return []

    def _open_counter(self, folder: Path) -> RowCounter | None:
        try:
            self.lost = take_lost_rows(folder)
            counter = RowCounter(folder)
        except OSError as error:
            logger.error(
                "rows of the prediction log that a kill loses will not be counted: %s",
                describe_error(error),
            )
            return None
        if self.lost:
            logger.error(
                "a server that was killed lost %d rows of the prediction log: those of its last "
                "%g seconds at most, or more if they could not be written",
                self.lost,
                self._settings.seconds,
            )
        return counter

    def _logged(self, answered: Answered) -> LoggedAnswer:
        model = answered.model
        names = [output.name for output in prediction_outputs(model.contract)]
        return LoggedAnswer(
            request=answered.request_id,
            arm=answered.arm,
            assigned=answered.assigned,
            test=answered.test,
            version=model.version,
            contract=model.contract_digest,
            time=answered.time,
            latency_ms=answered.latency_ms,
            chance=self._settings.sample,
            keys=answered.keys,
            features=answered.features,
            outputs={n: answered.predictions[n] for n in names if n in answered.predictions},
        )

    def _write(self) -> None:
        """Writes a file whenever it is time, or many rows wait, until the server stops."""
        while not self._stopping.is_set():
            self._wake.wait(self._settings.seconds)
            self._wake.clear()
            try:
                self._write_waiting()
            except Exception as error:
                self._note_failure(error)
                self._stopping.wait(_AFTER_FAILURE)
        try:
            self._write_waiting()
        except Exception as error:
            self._note_failure(error)

    def _write_waiting(self) -> None:
        with self._lock:
            answers, self._answers = self._answers, []
        if answers:
            self._waiting += self._make_files(answers)
        while self._waiting:
            file = self._waiting[0]
            self._files.write(file.table, file.day, file.name)
            self._waiting.pop(0)
            self._settle(file.table.num_rows, file.size)
            self.written += file.table.num_rows
        if self._failing:
            self._failing = False
            logger.info("the prediction log is written again")

    def _make_files(self, answers: list[LoggedAnswer]) -> list[WaitingFile]:
        """Makes tables of answers; those that give none are told, and lost."""
        size = sum(answer.size for answer in answers)
        try:
            tables = make_tables(answers, self._masks)
        except Exception:
            rows = sum(answer.rows for answer in answers)
            logger.exception("%d rows of the prediction log are lost: they make no table", rows)
            self._settle(rows, size)
            self.lost += rows
            return []
        files = []
        for number, (day, table) in enumerate(tables):
            self._number += 1
            name = part_name(datetime.now(UTC), self._writer, self._number)
            files.append(WaitingFile(day, name, table, 0 if number else size))
        return files

    def _settle(self, rows: int, size: int) -> None:
        with self._lock:
            self._rows -= rows
            self._size -= size
            if self._counter is not None:
                self._counter.add(settled=rows)

    def _note_failure(self, error: Exception) -> None:
        self._failing = True
        self._tell(
            "failing",
            f"the prediction log cannot be written, {self._rows} rows wait: "
            f"{' '.join(describe_error(error).split())}",
        )

    def _tell(self, about: str, message: str) -> None:
        """Logs a message, at most once a minute of each kind."""
        now = time.monotonic()
        if now - self._told.get(about, -_TOLD_EVERY) >= _TOLD_EVERY:
            self._told[about] = now
            logger.error(message)

    def _keep(self) -> None:
        """Merges the files of days that have ended, and removes what is old, every hour."""
        while not self._stopping.is_set():
            try:
                keep_log(self._files, self._settings.days, datetime.now(UTC))
            except Exception as error:
                self._tell(
                    "keeping",
                    f"old files of the prediction log cannot be merged or removed: "
                    f"{' '.join(describe_error(error).split())}",
                )
            self._stopping.wait(_KEEPING)


def keep_log(files: LogFiles, days: int, now: datetime) -> None:
    """Removes rows that are too old and files that others replace; merges days that have ended.

    Raises:
        OSError: The root is a folder that does not take the merged file.
        StoreError: The root cannot be read or written.
    """
    files.remove(files.older_than(now.date() - timedelta(days=days)))
    files.remove_replaced(now)
    files.merge(now.date(), now)
