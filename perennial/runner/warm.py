"""Calls functions in processes forked from the warm process, and starts one where there is none.

One warm process serves all commands of a user that share its surroundings
(`perennial.runner.warm_place`). Where it cannot be used, a command has one of its own, which ends
with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from perennial.processes import is_alive
from perennial.runner.warm_child import RELAYED
from perennial.runner.warm_imports import ALL
from perennial.runner.warm_place import Place, WarmUnavailableError, find_place, runtime_folder
from perennial.runner.warm_wire import Call, Status, is_own_user, receive, send
from perennial.storage.locks import hold_file_lock

MINUTES = 15.0  # that it stays unused where the settings name no other time
_AT_ONCE = 4  # warm processes of a user; each holds a gigabyte
_PATIENCE = 10.0  # seconds for another command to start one, or for one to answer


class CallLostError(Exception):
    """A call ended and nothing is known of it: the process that watched it was killed."""


@dataclass(frozen=True)
class Running:
    """A call that runs; `waited` is how long it waited for imports or its turn, in seconds."""

    connection: socket.socket
    waited: float

    def wait(self) -> int:
        """Waits for its end; gives the exit code, or the negative number of a signal.

        Raises:
            CallLostError: The process that watched it was killed.
        """
        try:
            message, _ = receive(self.connection)
        except OSError:
            message = None
        finally:
            self.connection.close()
        if message is None:
            raise CallLostError("the process that watched it was killed")
        return int(message["ended"])

    def send_signal(self, number: int) -> None:
        """Sends a signal to it."""
        with contextlib.suppress(OSError):
            send(self.connection, {"signal": number})

    def kill(self) -> None:
        """Ends it with all that it has started; `wait`, in another thread, finds it lost."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class WarmProcess:
    """The warm process of these surroundings, shared with other commands.

    It stays at least until this is closed.

    Args:
        minutes: How long it stays when nobody uses it.
        needs: Groups of imports that calls will need; with any, it begins to import.

    Raises:
        WarmUnavailableError: It cannot be used.
    """

    def __init__(self, minutes: float = MINUTES, needs: Sequence[str] = ALL) -> None:
        self._place = find_place()
        self._minutes = minutes
        self._needs = needs
        self._hold = self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hold.close()

    def start(self, call: Call, files: Sequence[int]) -> Running:
        """Begins a call with these files as standard input, output and error.

        Raises:
            WarmUnavailableError: It is gone; the call has not begun.
        """
        with _as_unavailable():
            return _begin(_connect(self._place), call, files)

    def _connect(self) -> socket.socket:
        """Makes a connection that keeps the warm process alive; starts one where there is none."""
        with _as_unavailable():
            for _ in range(2):  # the first may be about to end
                try:
                    connection = _connect(self._place)
                except OSError:
                    connection = _start(self._place, self._minutes)
                send(connection, {"do": "hold", "minutes": self._minutes, "needs": self._needs})
                return connection
        raise AssertionError


class OwnWarmProcess:
    """A warm process for this command only: it ends with it, and has no socket in a folder.

    Args:
        log: The file for what libraries print while they are imported.
    """

    def __init__(self, log: Path) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with log.open("ab") as output:
            self._process = _spawn(theirs, MINUTES, None, output.fileno(), new_session=False)
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._control.close()
        self._process.kill()  # what it has forked has ended, or ends with this process
        self._process.wait()

    def start(self, call: Call, files: Sequence[int]) -> Running:
        """Begins a call with these files as standard input, output and error.

        Raises:
            WarmUnavailableError: It has ended; the call has not begun.
        """
        with _as_unavailable():
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            with theirs:
                socket.send_fds(self._control, [b"c"], [theirs.fileno()])
            return _begin(mine, call, files)


def is_off(setting: bool = True) -> bool:
    """Tells whether `runner.warm` or PERENNIAL_WARM switches the shared warm process off."""
    variable = os.environ.get("PERENNIAL_WARM", "")
    return not setting or variable.lower() in ("off", "0", "no", "false")


def call(
    function: str,
    *arguments: Any,
    needs: Sequence[str] = ALL,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Calls MODULE:NAME with JSON values in a process forked from the warm process.

    The process is as if this one had started it: its output is this process's, and so are its
    folder, variables and limits. Signals that would end this process go there, where this is the
    main thread.

    Returns:
        The exit code, or the negative number of the signal that ended it.

    Raises:
        WarmUnavailableError: There is no warm process, and the call has not begun.
        CallLostError: The call was killed together with the process that watched it.
    """
    with WarmProcess(needs=needs) as process:
        return _finish(process, Call.here(function, arguments, needs, environment))


def call_with(
    process: WarmProcess,
    function: str,
    arguments: Sequence[Any],
    needs: Sequence[str],
) -> int:
    """Does the same as `call`, by a warm process that is held already."""
    return _finish(process, Call.here(function, arguments, needs))


def _finish(process: WarmProcess, request: Call) -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    running = process.start(request, (0, 1, 2))
    with _relayed(running):
        return running.wait()


def statuses() -> list[Status]:
    """Asks the warm processes of this user how they are.

    Raises:
        WarmUnavailableError: The folder of their sockets cannot be used.
    """
    sockets = sorted(runtime_folder().glob("*.socket"))
    answers = [_ask(path, {"do": "status"}) for path in sockets]
    return [Status(**answer) for answer in answers if answer]


def stop() -> list[int]:
    """Ends the warm processes of this user; gives their process numbers. What they forked goes on.

    Raises:
        WarmUnavailableError: The folder of their sockets cannot be used.
    """
    sockets = sorted(runtime_folder().glob("*.socket"))
    answers = [_ask(path, {"do": "stop"}) for path in sockets]
    processes = [int(answer["ends"]) for answer in answers if answer]
    deadline = time.monotonic() + _PATIENCE
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return processes


def _begin(connection: socket.socket, request: Call, files: Sequence[int]) -> Running:
    """Sends a call, and waits until its process has been forked."""
    began = time.monotonic()
    folder = os.open(".", os.O_PATH | os.O_DIRECTORY)
    empty = os.open(os.devnull, os.O_RDWR)
    streams = [file if _is_open(file) else empty for file in files]
    try:
        send(connection, request.to_message(), [*streams, folder])
    finally:
        os.close(folder)
        os.close(empty)
    message, _ = receive(connection)
    if message is None:
        raise ConnectionResetError("it ended")
    return Running(connection, time.monotonic() - began)


def _is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _relayed(running: Running) -> Iterator[None]:
    """Sends signals to the call instead of this process, except those that this one ignores."""

    def relay(number: int, _: Any) -> None:
        running.send_signal(number)

    before: dict[int, Any] = {}
    try:
        for number in RELAYED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                with contextlib.suppress(ValueError):  # not the main thread
                    before[number] = signal.signal(number, relay)
        yield
    finally:
        for replaced, handler in before.items():
            signal.signal(replaced, handler)


@contextlib.contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WarmUnavailableError(error.strerror or str(error)) from error


# --- its socket -----------------------------------------------------------------------------------


def _connect(place: Place) -> socket.socket:
    connection = _connect_path(place.socket)
    if not is_own_user(connection):
        connection.close()
        raise PermissionError(f"{place.socket} belongs to another user")
    return connection


def _connect_path(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as name:
            connection.connect(name)
    except OSError:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Gives a name of a file in at most 107 bytes, which is all that a socket's address holds."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _ask(path: Path, message: Mapping[str, Any]) -> dict[str, Any] | None:
    """Asks one warm process; gives its answer, or None where none listens: removes its socket."""
    try:
        with _connect_path(path) as connection:
            connection.settimeout(_PATIENCE)
            send(connection, message)
            return receive(connection)[0]
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
        path.with_suffix(".log").unlink(missing_ok=True)
    except OSError:
        pass
    return None


# --- its start ------------------------------------------------------------------------------------


def _start(place: Place, minutes: float) -> socket.socket:
    """Starts a warm process, unless another command has just done so, and connects to it."""
    with hold_file_lock(place.lock, _PATIENCE) as held:
        if not held:
            raise WarmUnavailableError("another command has been starting one for too long")
        with contextlib.suppress(OSError):
            return _connect(place)
        _make_room(place)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            # It listens before there is a process, so that whoever connects now waits for it.
            new = place.socket.with_suffix(".new")
            new.unlink(missing_ok=True)
            with _short(new) as name:
                listener.bind(name)
            new.chmod(0o600)
            listener.listen(64)
            new.replace(place.socket)
            log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            try:
                _spawn(listener, minutes, place.socket, log, new_session=True)
            finally:
                os.close(log)
            return _connect(place)


def _make_room(place: Place) -> None:
    """Asks those with older code to end, and removes the sockets of those that have ended.

    Raises:
        WarmUnavailableError: There are too many others.
    """
    others = 0
    for path in place.folder.glob("*.socket"):
        older = path.name.startswith(f"{place.surroundings}-")
        answer = _ask(path, {"do": "retire" if older else "status"})
        others += answer is not None and not older
    if others >= _AT_ONCE:
        remedy = "`perennial warm stop` ends them"
        raise WarmUnavailableError(f"there are {others} for other surroundings; {remedy}")


def _spawn(
    source: socket.socket, minutes: float, path: Path | None, log: int, new_session: bool
) -> subprocess.Popen[bytes]:
    # -P keeps the current folder out of its path.
    program = "import sys; from perennial.runner.warm_server import main; main(sys.argv[1:])"
    arguments = [str(source.fileno()), str(minutes), *([str(path)] if path else [])]
    return subprocess.Popen(
        [sys.executable, "-P", "-c", program, *arguments],
        cwd="/",
        pass_fds=[source.fileno()],
        start_new_session=new_session,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
