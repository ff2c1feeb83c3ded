"""Calls a function under an account that may only read; root may write everywhere."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

NOBODY = 65534
_FORK = multiprocessing.get_context("fork")


def as_nobody(call: Callable[[], Any]) -> Any:
    """What the function gives; where it fails, its error as `KIND: MESSAGE`."""
    results = _FORK.SimpleQueue()
    process = _FORK.Process(target=_call, args=(call, results))
    process.start()
    result = results.get()
    process.join(20)
    return result


def let_in(folder: Path) -> None:
    """Lets every account look into a test's folder, and into those that it lies in."""
    temporary = Path(tempfile.gettempdir())
    for place in (folder, *folder.parents):
        if temporary in place.parents:
            place.chmod(0o755)


def _call(call: Callable[[], Any], results: Any) -> None:
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        results.put(call())
    except BaseException as error:
        results.put(f"{type(error).__name__}: {error}")
