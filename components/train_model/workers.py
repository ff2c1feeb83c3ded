"""Local workers of strategy `multi_worker`: started together, and again when one dies.

They are forked from the step's own process, which has imported TensorFlow and not used it yet.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path

from components.train_model.job import Job
from components.train_model.worker import error_file, log_file, read_error, work
from perennial.errors import TrainingError
from perennial.processes import find_free_ports
from perennial.training.strategy import CLUSTER
from schemas.records import Training

_POLL_SECONDS = 0.1
_STOP_SECONDS = 10.0
_LINES = 12


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
    began = time.monotonic()
    restarts = 0
    while (dead := _attempt(job, folder)) is not None:
        for number in range(job.settings.train.workers):
            if (error := read_error(folder, number)) is not None:
                raise error
        if restarts == job.settings.train.restarts:
            raise _gave_up(job, dead)
        restarts += 1
    seconds = time.monotonic() - began
    return Training.read(job.output).model_copy(update={"restarts": restarts, "seconds": seconds})


def _attempt(job: Job, folder: Path) -> _Worker | None:
    """Runs all workers once; gives the one that died first, or None when all ended well."""
    count = job.settings.train.workers
    addresses = [f"127.0.0.1:{port}" for port in find_free_ports(count)]
    workers: list[_Worker] = []
    try:
        for number in range(count):
            workers.append(_start(job, number, addresses, folder))
        return _watch(workers)
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join(_STOP_SECONDS)


def _start(job: Job, number: int, addresses: list[str], folder: Path) -> _Worker:
    error_file(folder, number).unlink(missing_ok=True)
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
    environment = {CLUSTER: json.dumps(task)}
    process = multiprocessing.get_context("fork").Process(
        target=work, args=(job, number, folder, environment)
    )
    process.start()
    return _Worker(number, process, log_file(folder, number))


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
    lines = dead.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:]
    received = (
        f"worker {dead.number} {how}, after {job.settings.train.restarts} restarts:\n"
        + "\n".join(lines)
        + "\n"
    )
    remedy = f"Read {dead.log}, then run again: training goes on from the newest checkpoint."
    return TrainingError(
        f"training of {job.instance.name}", "must run on all its workers", received, remedy
    )
