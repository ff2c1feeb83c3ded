"""Runs steps as the product does.

Each in a process forked from the warm process, which the whole session shares.

The tests' own process never runs TensorFlow.
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perennial.runner.warm import WarmProcess
from perennial.runner.warm_imports import ALL
from perennial.runner.warm_wire import Call


def forked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of a module in a process of its own.

    Gives what it returns, raises what it raises.
    """
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder) / "request", Path(folder) / "answer"
        request.write_bytes(pickle.dumps((function, arguments)))
        code = _call_and_wait(request, answer)
        if not answer.exists():
            raise RuntimeError(f"{function.__name__} ended with code {code}")
        worked, result, trace = pickle.loads(answer.read_bytes())
    if worked:
        return result
    result.add_note(trace)
    raise result


def _call_and_wait(request: Path, answer: Path) -> int:
    call = Call.here(f"{__name__}:answer_request", [str(request), str(answer)], ALL)
    nowhere = os.open(os.devnull, os.O_RDWR)  # Beam logs every error that it raises
    try:
        with WarmProcess() as process:
            return process.start(call, [nowhere, 1, nowhere]).wait()
    finally:
        os.close(nowhere)


def answer_request(request: str, answer: str) -> None:
    """Calls what `forked` has written, in the process that was forked for it, and writes what comes of it."""
    try:
        function, arguments = pickle.loads(Path(request).read_bytes())
        outcome: tuple[bool, Any, str] = (True, function(*arguments), "")
    except Exception as error:
        outcome = (False, error, traceback.format_exc())
    Path(answer).write_bytes(_pickled(outcome))


def _pickled(outcome: tuple[bool, Any, str]) -> bytes:
    try:
        data = pickle.dumps(outcome)
        pickle.loads(data)
    except Exception as problem:  # an error, or a result, that does not travel between processes
        error = outcome[1] if not outcome[0] else problem
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}"), outcome[2]))
    return data


def import_wrapper(step: str) -> Any:
    """The Kubeflow wrapper of a step, in a process made by `forked`.

    There kfp lacks what defines components, as in a task: it is loaded first.
    """
    importlib.reload(sys.modules["kfp.dsl"])
    return getattr(importlib.import_module(f"components.{step}.component"), step)
