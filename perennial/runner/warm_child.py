"""A process forked from the warm process: it becomes as if its caller had started it."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import pkgutil
import random
import resource
import select
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from perennial.processes import adopt_orphans, die_with_parent, kill_descendants
from perennial.runner.warm_wire import Call, receive, send

FILES = 4  # that come with a call: standard input, output and error, and the current folder
# Signals that a terminal or another process sends to end a command; a command sends them on.
RELAYED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def supervise(
    connection: socket.socket,
    call: Call,
    files: Sequence[int],
    added: Mapping[str, str],
) -> NoReturn:
    """Runs a call in a child of this process and reports its end; kills it when the caller is gone.

    Between the warm process and the child stands this process, so that the child ends with its
    caller and not with the warm process, which may be importing, or be killed.

    Args:
        connection: To the caller.
        call: What to run.
        files: Standard input, output and error for the child, and its current folder.
        added: Variables that libraries set while they were imported.
    """
    os.setsid()
    adopt_orphans()
    ends, noticed = os.pipe()
    os.set_blocking(noticed, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(noticed)  # of the end of a child, where `select` sees it
    child = os.fork()
    if not child:
        signal.set_wakeup_fd(-1)
        for end in (ends, noticed, connection.detach()):
            os.close(end)
        _become(call, files, added)
    for file in files:
        os.close(file)
    try:
        _watch(connection, child, ends)
    except OSError:  # the caller is gone
        kill_descendants()
    os._exit(0)


def _watch(connection: socket.socket, child: int, ends: int) -> None:
    """Reports the start and the end of a child, and sends it signals.

    Raises:
        OSError: The caller is gone.
    """
    send(connection, {"started": child})
    while True:
        watched: list[Any] = [ends, connection]
        ready, _, _ = select.select(watched, [], [])
        if ends in ready:
            os.read(ends, 4096)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                send(connection, {"ended": os.waitstatus_to_exitcode(status)})
                return
            continue  # it was an orphan, or a child was only stopped
        message, _ = receive(connection)
        if message is None:
            raise ConnectionResetError("the caller is gone")
        os.kill(child, int(message["signal"]))


def _become(call: Call, files: Sequence[int], added: Mapping[str, str]) -> NoReturn:
    """Takes over the caller's surroundings, calls the function, and ends as Python does."""
    die_with_parent()
    try:
        _take_over(call, files, added)
        code = _call(call)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
    # Python's own end would visit, and so copy, all memory shared with the warm process.
    os._exit(code)


def _call(call: Call) -> int:
    """Calls the function; gives the exit code: a number that it returns or exits with, else 0."""
    try:
        result = pkgutil.resolve_name(call.function)(*call.arguments)
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
            return 1
        return int(error.code or 0)
    return result if isinstance(result, int) else 0


def _take_over(call: Call, files: Sequence[int], added: Mapping[str, str]) -> None:
    """Sets streams, folder, signals, variables, limits and path as the caller has them."""
    for stream, file in enumerate(files[:3]):
        os.dup2(file, stream)
    os.fchdir(files[3])
    for file in files:
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update({**added, **call.environment})
    time.tzset()
    os.umask(call.umask)
    os.sched_setaffinity(0, call.processors)
    for name, soft in call.limits.items():
        limit = getattr(resource, name)
        resource.setrlimit(limit, (soft, resource.getrlimit(limit)[1]))
    sys.path[:] = call.path
    sys.argv[:] = call.argv
    importlib.invalidate_caches()
    # As Python opens them when it starts.
    direct = bool(call.environment.get("PYTHONUNBUFFERED"))
    streams: tuple[Any, ...] = (sys.stdin, sys.stdout, sys.stderr)
    for text in streams:
        lines = not direct and (text is sys.stderr or text.isatty())
        text.reconfigure(line_buffering=lines, write_through=direct and text is not sys.stdin)
    # A random state or a temporary folder of the warm process would be the same in all children.
    tempfile.tempdir = None
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    gc.enable()
