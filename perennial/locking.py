"""A lock in the ledger's database, which all who share the ledger share, and which ends with whoever holds it.

One process at a time changes the registry. On PostgreSQL it is an advisory lock of the connection, on SQLite the
kernel's lock of a file beside the database: both are given back however a process ends, so what a process that holds
the lock finds unfinished was left by one that is gone.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text

_RETRY_SECONDS = 0.05
# Tells this lock from others of the same database. Source: PostgreSQL's advisory locks; any number does.
_NUMBER = 20171


@contextmanager
def hold_lock(engine: Engine, patience: float) -> Iterator[bool]:
    """Holds the lock of a database while the block runs; gives whether it was to be had.

    Args:
        engine: The ledger's.
        patience: How long to wait for another holder, in seconds; 0: one attempt.
    """
    backend = engine.dialect.name
    if backend == "postgresql":
        yield from _advisory(engine, patience)
    elif backend == "sqlite" and engine.url.database not in (None, "", ":memory:"):
        yield from _file_lock(Path(f"{engine.url.database}.lock"), patience)
    else:
        yield True  # a database in memory, which no other process can open


def _advisory(engine: Engine, patience: float) -> Iterator[bool]:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # from the pool: it is closed at the end, which gives the lock back even after an error
        take, number = text("SELECT pg_try_advisory_lock(:number)"), {"number": _NUMBER}
        yield _try(lambda: bool(connection.execute(take, number).scalar()), patience)


def _file_lock(path: Path, patience: float) -> Iterator[bool]:
    with path.open("a") as stream:
        held = _try(lambda: _flock(stream.fileno()), patience)
        try:
            yield held
        finally:
            if held:
                fcntl.flock(stream, fcntl.LOCK_UN)


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try(take: Callable[[], bool], patience: float) -> bool:
    until = time.monotonic() + patience
    while not take():
        if time.monotonic() >= until:
            return False
        time.sleep(_RETRY_SECONDS)
    return True
