"""Functions that the tests of the warm process call in processes of their own."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def report(path: str) -> None:
    """Writes the surroundings of this process."""
    surroundings = {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "argv": sys.argv,
        "umask": os.umask(0o22),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "processors": sorted(os.sched_getaffinity(0)),
        "zone": time.tzname,
        "temporary": tempfile.gettempdir(),
        "signals": [
            str(signal.getsignal(number))
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
        ],
        "open": sorted(os.readlink(f"/proc/self/fd/{file}").split(":")[0] for file in (0, 1, 2)),
        "encoding": (sys.stdout.encoding, sys.stdout.line_buffering),
    }
    Path(path).write_text(json.dumps(surroundings))


def end(code: int) -> None:
    sys.exit(code)


def end_by_signal(number: int) -> None:
    os.kill(os.getpid(), number)


def draw(path: str) -> None:
    with open(path, "a") as drawn:
        drawn.write(f"{random.random()}\n")


def work(folder: str, seconds: float) -> None:
    """Works with a child of its own for a while.

    Tells when it began, and whether it came to its end.
    """
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    Path(folder, "began").write_text(f"{os.getpid()} {child.pid} {os.getppid()}")
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        Path(folder, "interrupted").touch()
        raise SystemExit(130) from None
    finally:
        child.kill()
        child.wait()
    Path(folder, "ended").touch()


def loaded(path: str, names: list[str]) -> None:
    """Writes which of these modules were executed in the process that this one was forked from."""
    # Where a module is a placeholder that loads when it is used, its type is not that of a module.
    kinds = {name: type(sys.modules[name]).__name__ for name in names if name in sys.modules}
    Path(path).write_text(json.dumps([name for name, kind in kinds.items() if kind == "module"]))
