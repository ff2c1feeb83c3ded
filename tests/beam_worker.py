"""A worker of Beam, as a process of its own, for runners that start workers by a command.

    python -m tests.beam_worker <folder>

It works in a child of the warm process, which has the libraries loaded, and leaves a file of its
number in the folder. Nothing but its environment tells it of the process that submits a pipeline.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from perennial.runner.warm import WarmProcess
from perennial.runner.warm_imports import ALL
from perennial.runner.warm_wire import Call


def work(folder: str) -> None:
    """Works for the runner that the environment names, until it says that all is done."""
    from apache_beam.runners.worker import sdk_worker_main

    Path(folder, f"{os.getpid()}").touch()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        os.chdir(scratch)
        tempfile.tempdir = scratch
        sdk_worker_main.main([])
        os.chdir("/")


if __name__ == "__main__":
    with WarmProcess() as process:
        call = Call.here("tests.beam_worker:work", [sys.argv[1]], ALL)
        sys.exit(process.start(call, [0, 1, 2]).wait())
