"""Runs steps as the product does: each in a process forked from one that has imported everything and run nothing.

The tests' own process never runs TensorFlow, so that the whole session shares one warm process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from tests.session import Server, owner_is_running, serve_once

ROOT = Path(__file__).parents[2]


def forked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of a module in a process of its own; gives what it returns, raises what it raises."""
    with Client(serve_once("warm", _start).address, "AF_UNIX") as answers:
        answers.send((function, arguments))
        try:
            worked, result, trace = answers.recv()
        except EOFError:
            raise RuntimeError(f"{function.__name__} ended without an answer") from None
    if worked:
        return result
    result.add_note(trace)
    raise result


def _start(folder: Path) -> Server:
    address, log = folder / "socket", folder / "log"
    program = f"from tests.components.forked import serve; serve({str(address)!r})"
    command = [sys.executable, "-c", program]
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=stream, start_new_session=True)
    process.wait()
    while not address.exists():
        os.killpg(process.pid, 0)  # raises when the process ended before it could listen: see the log
        time.sleep(0.05)
    return Server(str(address), process.pid)


def serve(address: str) -> None:
    """Imports everything, then forks a process for each connection, which calls what it receives."""
    if os.fork():
        os._exit(0)  # what is imported asks to end with its parent, and the worker that started this ends before others
    import perennial.runner.preload  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    signal.signal(signal.SIGALRM, _end_without_owner)
    signal.setitimer(signal.ITIMER_REAL, 5, 5)  # seconds; what is forked does not inherit it
    with Listener(address, "AF_UNIX", backlog=32) as listener:
        while True:
            with listener.accept() as answers:
                if os.fork() == 0:
                    _call(answers)


def _end_without_owner(*_: Any) -> None:
    """Ends this process when the session was killed, so that nobody will."""
    if not owner_is_running():
        os._exit(1)


def _call(answers: Connection) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Beam logs every error that it raises
    try:
        function, arguments = answers.recv()
        answers.send((True, function(*arguments), ""))
    except Exception as error:
        trace = traceback.format_exc()
        try:
            answers.send((False, error, trace))
        except Exception:  # an error that does not travel between processes
            answers.send((False, RuntimeError(f"{type(error).__name__}: {error}"), trace))
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(0)
