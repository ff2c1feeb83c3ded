"""A log for what libraries print, so that it does not bury what a person should read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def libraries_log_to(path: Path) -> Iterator[None]:
    """Sends this process's standard error, that of C libraries too, to a log for a while.

    Where the log cannot be written, nobody keeps what they print.
    """
    mine = os.dup(2)
    log = _open_log(path)
    os.dup2(log, 2)
    try:
        yield
    finally:
        os.dup2(mine, 2)
        os.close(mine)
        os.close(log)


def _open_log(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
