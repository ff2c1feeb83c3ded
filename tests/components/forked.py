"""Runs steps as the product does: each in a process forked from one that has imported everything and run nothing.

The tests' own process never runs TensorFlow, so that the whole session shares one warm process.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

WARM = "perennial.runner.warm_imports"


def forked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of a module in a process of its own; gives what it returns, raises what it raises."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([WARM])
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        worked, result, trace = mine.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{function.__name__} ended with code {process.exitcode}") from None
    process.join()
    if worked:
        return result
    result.add_note(trace)
    raise result


def _call(answers: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Beam logs every error that it raises
    try:
        answers.send((True, function(*arguments), ""))
    except Exception as error:
        trace = traceback.format_exc()
        try:
            answers.send((False, error, trace))
        except Exception:  # an error that does not travel between processes
            answers.send((False, RuntimeError(f"{type(error).__name__}: {error}"), trace))
