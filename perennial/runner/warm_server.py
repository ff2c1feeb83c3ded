"""The warm process: imports everything, runs nothing, and forks a process for each call.

Started by `perennial.runner.warm`. It listens on a socket that was made for it, or takes
connections from the one command that it belongs to.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perennial.runner.warm_child import FILES, supervise
from perennial.runner.warm_imports import Imports
from perennial.runner.warm_wire import Call, Status, is_own_user, receive, send

CHILDREN = 32  # at once; further calls wait for their turn
_GROWTH = 256 * 2**20  # bytes that its memory may grow after the imports before it ends
_LOOK = 20.0  # seconds between two looks at whether its socket still exists
_PATIENCE = 5.0  # seconds for a message that has begun


@dataclass
class _Waiting:
    """A call that waits for its imports or for its turn."""

    connection: socket.socket
    call: Call
    files: list[int]

    def close(self) -> None:
        self.connection.close()
        for file in self.files:
            os.close(file)


@dataclass
class Server:
    """One warm process.

    Args:
        source: A listening socket, or one end of a pair that brings connections as open files.
        path: Where it listens; None: it belongs to one command and ends with it.
        minutes: How long it stays when nobody uses it; a command can change that.
    """

    source: socket.socket
    path: Path | None
    minutes: float
    _imports: Imports = field(default_factory=Imports)
    _waiting: list[_Waiting] = field(default_factory=list)
    _holding: list[socket.socket] = field(default_factory=list)
    _children: set[int] = field(default_factory=set)
    _since: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    _used: float = field(default_factory=time.monotonic)
    _needed: bool = False
    _retired: bool = False
    _memory: int = 0
    _file: tuple[int, int] | None = None
    _wakeups: tuple[int, int] = field(default_factory=os.pipe)

    def serve(self) -> None:
        """Works until it is no longer needed."""
        os.set_blocking(self._wakeups[1], False)
        signal.set_wakeup_fd(self._wakeups[1])
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._file = _identity(self.path)
        # Imports leave nothing to collect, and the collector would take a tenth of their time.
        gc.disable()
        while not self._is_over():
            self._listen()
            self._fork_ready()
            if self._is_importing():
                self._import()

    def _is_importing(self) -> bool:
        """Tells whether to import more: once a call needs some of it, and not while it ends."""
        return self._needed and not self._memory and (self._in_use() or not self._retired)

    def _import(self) -> None:
        """Imports one more module, if any is left; what a call waits for comes first."""
        if not self._imports.finished:
            self._imports.step([need for waiting in self._waiting for need in waiting.call.needs])
            return
        gc.freeze()  # the collector leaves it alone, and so its memory stays shared with children
        gc.enable()
        self._memory = memory_used()

    # --- connections ------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Handles what has come: connections, ends of children, ends of commands that hold it."""
        watched: list[Any] = [
            self._wakeups[0],
            self.source,
            *self._holding,
            *(waiting.connection for waiting in self._waiting),
        ]
        if self._is_importing() or (self._retired and not self._in_use()):
            pause = 0.0
        else:
            pause = min(_LOOK, max(self._idle_left(), 0.0))
        ready, _, _ = select.select(watched, [], [], pause)
        if self._wakeups[0] in ready:
            os.read(self._wakeups[0], 4096)
        self._reap()
        for connection in self._holding[:]:
            if connection in ready:
                self._holding.remove(connection)
                connection.close()
                self._used = time.monotonic()
        for waiting in self._waiting[:]:
            if waiting.connection in ready:  # it is gone: a caller waits without a message
                self._waiting.remove(waiting)
                waiting.close()
        if self.source in ready:
            self._accept()

    def _accept(self) -> None:
        connection = self._connection()
        if connection is None:
            return
        connection.settimeout(_PATIENCE)
        try:
            message, files = receive(connection, FILES) if is_own_user(connection) else (None, [])
            if message is None:
                connection.close()
            else:
                self._answer(connection, message, files)
        except (OSError, ValueError, KeyError, TypeError):  # it is gone, or sent something else
            connection.close()

    def _connection(self) -> socket.socket | None:
        if self.path is not None:
            return self.source.accept()[0]
        _, files, _, _ = socket.recv_fds(self.source, 1, 1)
        if files:
            return socket.socket(fileno=files[0])
        self._retired = True  # the command that it belongs to is gone
        return None

    def _answer(self, connection: socket.socket, message: dict[str, Any], files: list[int]) -> None:
        connection.settimeout(None)
        match message["do"]:
            case "call":
                self._waiting.append(_Waiting(connection, Call.from_message(message), files))
                self._needed |= bool(self._waiting[-1].call.needs)
                return
            case "hold":
                self.minutes = float(message["minutes"])
                self._needed |= bool(message["needs"])
                send(connection, {"held": os.getpid()})
                self._holding.append(connection)
                return
            case "status":
                send(connection, asdict(self.status()))
            case "retire" | "stop":
                self._retire()
                send(connection, {"ends": os.getpid()})
                if message["do"] == "stop":  # what it forked goes on, and ends with its caller
                    self._holding.clear()
                    self._children.clear()
        connection.close()

    # --- children ---------------------------------------------------------------------------------

    def _fork_ready(self) -> None:
        """Forks a process for each call whose imports are done."""
        for waiting in self._waiting[:]:
            if len(self._children) < CHILDREN and self._imports.has(waiting.call.needs):
                self._waiting.remove(waiting)
                child = os.fork()
                if not child:
                    self._close_inherited()
                    environment = self._imports.environment
                    supervise(waiting.connection, waiting.call, waiting.files, environment)
                self._children.add(child)
                waiting.close()

    def _close_inherited(self) -> None:
        """Closes, in a child, what belongs to the warm process."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in self._wakeups:
            os.close(end)
        self.source.close()
        for connection in self._holding:
            connection.close()
        for waiting in self._waiting:
            waiting.close()

    def _reap(self) -> None:
        while self._children:
            child, _ = os.waitpid(-1, os.WNOHANG)
            if not child:
                return
            self._children.discard(child)
            self._used = time.monotonic()

    # --- its end ----------------------------------------------------------------------------------

    def status(self) -> Status:
        """Describes how it is now."""
        return Status(
            process=os.getpid(),
            since=self._since,
            key=self.path.stem if self.path else "",
            memory=memory_used(),
            children=len(self._children),
            importing=self._is_importing(),
            idle_left=None if self._in_use() else max(self._idle_left(), 0.0),
        )

    def _idle_left(self) -> float:
        return _LOOK if self._in_use() else self.minutes * 60 - (time.monotonic() - self._used)

    def _in_use(self) -> bool:
        return bool(self._children or self._waiting or (self._holding and self.path))

    def _is_over(self) -> bool:
        if self._in_use():
            return False
        if self.path is None:
            return self._retired
        if not self._retired and self._is_outdated():
            self._retire()
            return False  # once more: a command may have connected just before
        return self._retired

    def _is_outdated(self) -> bool:
        """Tells whether it was idle for long, its socket is gone, or its memory has grown."""
        idle = self._idle_left() <= 0
        grown = self._memory > 0 and memory_used() > self._memory + _GROWTH
        return idle or grown or _identity(self.path) != self._file

    def _retire(self) -> None:
        """Removes its socket, so that no command finds it; those that have connected are served."""
        self._retired = True
        if self.path is not None and _identity(self.path) == self._file:
            for path in (self.path, self.path.with_suffix(".log")):
                path.unlink(missing_ok=True)


def memory_used() -> int:
    """Gives the bytes of memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Gives what tells a file from another of the same name."""
    with contextlib.suppress(OSError):
        if path is not None:
            status = path.stat()
            return status.st_dev, status.st_ino
    return None


def main(arguments: Sequence[str]) -> None:
    """Serves; the arguments are NUMBER MINUTES [PATH], with the number of an open socket."""
    number, minutes, *path = arguments
    source = socket.socket(fileno=int(number))
    Server(source, Path(path[0]) if path else None, float(minutes)).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
