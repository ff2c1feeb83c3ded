"""Workers of strategy `multi_worker` on this machine: started together, and again when one dies.

They run the worker's command, in processes forked from the step's own one, which has imported
TensorFlow and not used it yet.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.train_model.job import Job
from components.train_model.worker import run_worker
from perennial.errors import TrainingError
from perennial.processes import die_with_parent, find_free_ports
from perennial.project import Project
from perennial.training.strategy import CLUSTER
from schemas.records import Training

_POLL_SECONDS = 0.1
_STOP_SECONDS = 10.0
LINES = 12  # the last ones of a worker that died, which are told


@dataclass
class _Worker:
    number: int
    process: multiprocessing.process.BaseProcess
    log: Path


def train_on_workers(job: Job) -> Training:
    """Trains on `train.workers` processes of this machine.

    They go on from the newest checkpoint when one dies.

    Raises:
        PerennialError: What a worker says is wrong with the project or its training.
        TrainingError: Workers died more often than `train.restarts`; the message has the end of the
            log.
    """
    folder = job.local_folder / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    work, count = job.open_work(), job.settings.train.workers
    uri = work.describe(job.describe(job.features, job.weights, job.output))
    began = time.monotonic()
    restarts = 0
    work.clear_errors(count)
    while (dead := _attempt(job, uri, folder)) is not None:
        if (error := work.read_error(count)) is not None:
            raise error
        if restarts == job.settings.train.restarts:
            raise _gave_up(job, dead)
        restarts += 1
    seconds = time.monotonic() - began
    return Training.read(job.output).model_copy(update={"restarts": restarts, "seconds": seconds})


def _attempt(job: Job, uri: str, folder: Path) -> _Worker | None:
    """Runs all workers once; gives the one that died first, or None when all ended well."""
    count = job.settings.train.workers
    addresses = [f"127.0.0.1:{port}" for port in find_free_ports(count)]
    workers: list[_Worker] = []
    try:
        for number in range(count):
            workers.append(_start(job.project, uri, number, addresses, folder))
        return _watch(workers)
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join(_STOP_SECONDS)


def _start(project: Project, uri: str, number: int, addresses: list[str], folder: Path) -> _Worker:
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
    log = folder / f"worker-{number}.log"
    process = multiprocessing.get_context("fork").Process(
        target=_work, args=(uri, project, log, {CLUSTER: json.dumps(task)})
    )
    process.start()
    return _Worker(number, process, log)


def _work(uri: str, project: Project, log_file: Path, environment: Mapping[str, str]) -> None:
    """Runs the worker's command in a process forked for it, which prints to its log."""
    die_with_parent()  # a killed step must not leave workers behind
    with open(os.devnull, "rb") as nothing, log_file.open("ab") as log:
        for stream, file in enumerate((nothing, log, log)):
            os.dup2(file.fileno(), stream)
    os.environ.update(environment)
    sys.exit(run_worker(uri, project))


def _watch(workers: list[_Worker]) -> _Worker | None:
    """Waits until the first worker, which publishes, ended well, or any did not."""
    while True:
        codes = [worker.process.exitcode for worker in workers]
        if codes[0] == 0:  # everything is published; how the others then part is of no matter
            return None
        dead = [worker for worker in workers if worker.process.exitcode]
        if dead:
            # One that was killed takes the others with it: they only say that they lost it.
            return min(dead, key=lambda worker: worker.process.exitcode or 0)
        time.sleep(_POLL_SECONDS)


def _gave_up(job: Job, dead: _Worker) -> TrainingError:
    code = dead.process.exitcode or 0
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    lines = dead.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:]
    received = (
        f"worker {dead.number} {how}, after {job.settings.train.restarts} restarts:\n"
        + "\n".join(lines)
        + "\n"
    )
    remedy = f"Read {dead.log}, then run again: training goes on from the newest checkpoint."
    return TrainingError(
        f"training of {job.instance.name}", "must run on all its workers", received, remedy
    )
