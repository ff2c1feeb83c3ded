"""Keeps what a task prints in the root, beside where it prints to.

    runs/<run>/logs/<step>[/<part>]/<when the attempt began>/<number>.log

A process of its own reads what the task and its children print, passes it on, and writes the new
lines into the root from time to time. So what a task printed is there however it ended, and no task
waits for the root. Each piece is written once, without the secrets that the task knows.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from perennial.errors import PerennialError, describe_error
from perennial.project import Project
from perennial.results.run_records import RUNS
from perennial.results.secret_values import find_secrets, mask_secrets
from perennial.storage.objects import Objects, open_objects

_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0  # seconds between two pieces, which grow
_LONGEST_LINE = 1 << 16
_MOST = 1 << 26  # bytes of one attempt
_LONGEST_END = 1 << 15  # of a traceback, as a pipe takes it at once
_NOTICE_MS = 500  # until the end of a task that was killed is noticed
_TIME = "%Y%m%dT%H%M%S.%fZ"
_END = b"\0"


class TaskLog:
    """Keeps what this process and its children print, to be used in a `with` statement.

    Where no process can be started for it, the task goes on without.

    Args:
        project: The project.
        run: Name of the run.
        step: Name of the step.
        part: Of a task in a loop: the name of its span or instance.
    """

    def __init__(self, project: Project, run: str, step: str, part: str) -> None:
        self._root, self._step = project.root, step
        self._secrets = find_secrets(os.environ, project.settings)
        task = f"{step}/{part}" if part else step
        self._folder = f"{_folder(run)}/{task}/{datetime.now(UTC):{_TIME}}"
        self._keeper = 0
        self._before: tuple[int, int] = (-1, -1)
        self._words = -1

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        printed, out = os.pipe()
        words, self._words = os.pipe()
        task = os.getpid()  # not asked by the keeper, which may begin when this process is gone
        _flush()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # no thread is needed there
                self._keeper = os.fork()
        except OSError:
            for end in (printed, out, words, self._words):
                os.close(end)
            return self
        if not self._keeper:
            with suppress(BaseException):
                os.close(out)
                os.close(self._words)
                keeper = _Keeper(task, self._root, self._folder, self._secrets, self._step)
                keeper.keep(printed, words)
            os._exit(0)
        os.close(printed)
        os.close(words)
        self._before = os.dup(1), os.dup(2)
        for stream in (1, 2):
            os.dup2(out, stream)
        os.close(out)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the log by how the task ended, and waits until it lies in the root."""
        if not self._keeper:
            return
        _flush()
        for stream, before in zip((1, 2), self._before, strict=True):
            os.dup2(before, stream)
            os.close(before)
        seconds = time.monotonic() - self._began
        end = f"{self._step} ended after {seconds:.1f} s\n"
        if error is not None:
            told = "".join(traceback.format_exception(error))
            end = f"{told}{self._step} failed after {seconds:.1f} s\n"
        with suppress(OSError):  # it was killed
            os.write(self._words, end.encode("utf-8", "replace")[-_LONGEST_END:] + _END)
        os.close(self._words)
        with suppress(ChildProcessError):
            os.waitpid(self._keeper, 0)


class _Keeper:
    """Reads what a task prints, in a process of its own."""

    def __init__(self, task: int, root: str, folder: str, secrets: list[str], step: str) -> None:
        self._task = task
        self._root, self._folder, self._secrets, self._step = root, folder, secrets, step
        self._lock, self._ending = threading.Lock(), threading.Event()
        self._unsent, self._read, self._pieces = bytearray(), 0, 0

    def keep(self, printed: int, words: int) -> None:
        """Passes on and keeps what is printed, until the task has said how it ended, or is gone."""
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)  # it ends with the task
        os.set_blocking(printed, False)
        sender = threading.Thread(target=self._send_pieces, daemon=True)
        sender.start()
        end = b""
        reading = select.poll()
        for source in (printed, words):
            reading.register(source, select.POLLIN)
        while not end.endswith(_END):
            ready = [source for source, _ in reading.poll(_NOTICE_MS)]
            if printed in ready and not self._pass_on(printed):
                reading.unregister(printed)  # nobody can print there any more
            said = os.read(words, _LONGEST_END) if words in ready else None
            end += said or b""
            is_gone = os.getppid() != self._task or said == b""  # nobody can say a word any more
            if is_gone and not end.endswith(_END):
                end = f"{self._step} was killed, or ended without a word\n".encode() + _END
        while self._pass_on(printed):
            pass  # what was printed before
        self._add(end.removesuffix(_END))
        self._ending.set()
        sender.join()

    def _pass_on(self, printed: int) -> bool:
        """Reads what there is, and passes it on; tells whether there may be more."""
        try:
            data = os.read(printed, 1 << 16)
        except BlockingIOError:
            return False
        with suppress(OSError):  # nobody reads along any more
            os.write(2, data)
        self._add(data)
        return bool(data)

    def _add(self, data: bytes) -> None:
        with self._lock:
            if self._read <= _MOST < self._read + len(data):
                data = f"\nthe log is longer than {_MOST >> 20} MiB: not kept\n".encode()
            elif self._read > _MOST:
                data = b""
            self._read += len(data)
            self._unsent += data

    def _send_pieces(self) -> None:
        """Writes the new lines into the root, from time to time and at the end."""
        pause = _FIRST_PAUSE
        while not self._ending.wait(pause):
            self._send(ended=False)
            pause = min(1.5 * pause, _LONGEST_PAUSE)
        self._send(ended=True)

    def _send(self, ended: bool) -> None:
        with self._lock:
            size = len(self._unsent)
            if not ended:  # whole lines, so that no secret is cut in two
                lines = self._unsent.rfind(b"\n") + 1
                size = lines if lines or size < _LONGEST_LINE else size
            piece = bytes(self._unsent[:size])
        if not piece:
            return
        text = mask_secrets(piece.decode("utf-8", "replace"), self._secrets)
        try:
            name = f"{self._folder}/{self._pieces + 1:05d}.log"
            open_objects(self._root).write_once(name, text.encode())
        except (PerennialError, OSError) as error:
            if ended:
                print(f"note: the log is not kept: {describe_error(error)}", file=sys.stderr)
                sys.stderr.flush()
            return
        self._pieces += 1
        with self._lock:
            del self._unsent[:size]


@dataclass(frozen=True)
class AttemptLog:
    """The log of one attempt of a task: what its pieces are named, in their order."""

    step: str
    part: str
    began: datetime
    pieces: list[str] = field(default_factory=list)


def list_logs(objects: Objects, run: str) -> list[AttemptLog]:
    """Lists the logs of a run, in the order in which the tasks began.

    Raises:
        StoreError: The root cannot be read.
    """
    folder = _folder(run)
    attempts: dict[str, list[str]] = {}
    for listed in objects.list(folder):
        attempts.setdefault(listed.name.rpartition("/")[0], []).append(listed.name)
    logs = []
    for name, pieces in attempts.items():
        step, *part, began = name.removeprefix(f"{folder}/").split("/")
        time_ = datetime.strptime(began, _TIME).replace(tzinfo=UTC)
        logs.append(AttemptLog(step, "/".join(part), time_, sorted(pieces)))
    return sorted(logs, key=lambda log: (log.began, log.step, log.part))


def read_log(objects: Objects, log: AttemptLog) -> str:
    """Reads the log of an attempt.

    Raises:
        StoreError: The root cannot be read.
    """
    data = b"".join(objects.read(name) or b"" for name in log.pieces)
    return data.decode("utf-8", "replace")


def _folder(run: str) -> str:
    return f"{RUNS}/{run}/logs"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
