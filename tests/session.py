"""What a whole test session shares, whichever worker of pytest-xdist asks first.

Folders and servers made once.

The process that was started as `pytest` owns the session's folder; its workers find it in the
environment. Who asks for something that is being made waits until it is there; when the session
ends, its owner stops what still runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from perennial.runner import warm

FOLDER = "PERENNIAL_TEST_SESSION"
_STOP_SECONDS = 10


@dataclass(frozen=True)
class Server:
    """A server of the session.

    Where it answers, the leader of its process group, and a folder that goes with it.
    """

    address: str
    pid: int
    folder: str | None = None


def open_session() -> None:
    """Makes the session's folder."""
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="perennial-tests-")
    # Where the session's commands find their warm process, apart from that of whoever runs the
    # tests.
    os.environ["XDG_RUNTIME_DIR"] = os.environ[FOLDER]


def close_session() -> None:
    """Stops the session's servers, the newest first, and removes what they and the session wrote."""
    warm.stop()
    folder = Path(os.environ.pop(FOLDER))
    for record in sorted(
        folder.glob("*.server"), key=lambda path: path.stat().st_mtime, reverse=True
    ):
        stop(Server(**json.loads(record.read_text())))
    shutil.rmtree(folder, ignore_errors=True)


def make_once(name: str, make: Callable[[Path], None]) -> Path:
    """Gives a folder that `make` fills, once in a session.

    An attempt that failed leaves nothing behind.
    """
    folder = _session() / name
    with _locked(name) as lock:
        if not lock.read_text():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            lock.write_text("made")
    return folder


def serve_once(name: str, start: Callable[[Path], Server]) -> Server:
    """Gives a server that `start` starts in the folder it is given, once in a session.

    It must answer by then.
    """
    record = _session() / f"{name}.server"
    with _locked(name):
        if not record.exists():
            folder = _session() / name
            folder.mkdir(exist_ok=True)
            record.write_text(json.dumps(asdict(start(folder))))
    return Server(**json.loads(record.read_text()))


def _session() -> Path:
    return Path(os.environ[FOLDER])


@contextlib.contextmanager
def _locked(name: str) -> Iterator[Path]:
    path = _session() / f"{name}.lock"
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield path


def stop(server: Server) -> None:
    """Ends a server, which need not be a child of this process, with its process group and its folder."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGTERM)
    until = time.monotonic() + _STOP_SECONDS
    while _is_running(server.pid) and time.monotonic() < until:
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    if server.folder:
        shutil.rmtree(server.folder, ignore_errors=True)


def _is_running(pid: int) -> bool:
    """Tells a process from one that has ended and was not waited for."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
