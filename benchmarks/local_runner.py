"""A whole run on one machine.

Steps forked from a warm process, against kfp.local's own subprocesses.

The same compiled pipeline, the same day of digits, a fresh project each; measured in one go, one
after the other.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from _figures import Figure, conclude, print_table

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples" / "digits"
FILES = ("project.yaml", "model.py", "schema.pbtxt", "expectations.json", "land.py")
TARGET = 2.0  # times as fast as the peer


def main() -> int:
    """Measures both and prints the table."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        peer = measure(Path(scratch) / "peer", run_by_kfp)
        ours = measure(Path(scratch) / "ours", run_by_perennial)
    rows = [("kfp.local, SubprocessRunner", f"{peer:.1f}"), ("perennial run", f"{ours:.1f}")]
    print_table(("runner", "seconds for day 1 of examples/digits"), rows)
    return conclude(
        "local_runner", [Figure("times as fast as kfp.local", peer / ours, at_least=TARGET)], began
    )


def measure(folder: Path, run: Callable[[Path], None]) -> float:
    """Seconds of one run on a fresh project; the outcome must be a champion."""
    folder.mkdir()
    for name in FILES:
        shutil.copy(DIGITS / name, folder / name)
    subprocess.run(
        [sys.executable, folder / "land.py", "--days", "1"], check=True, capture_output=True
    )
    began = time.monotonic()
    run(folder)
    seconds = time.monotonic() - began
    from perennial.ledger.events import Ledger
    from perennial.project import load_project

    if Ledger(load_project(folder).ledger_url).champion() is None:
        sys.exit(f"error: the run in {folder} left no champion")
    return seconds


def run_by_perennial(folder: Path) -> None:
    """Runs what a user types."""
    command = [Path(sys.executable).parent / "perennial", "run", folder]
    subprocess.run(command, check=True, capture_output=True)


def run_by_kfp(folder: Path) -> None:
    """The same pipeline with nothing but kfp.local."""
    from kfp import components, local

    from perennial.ledger.task_lease import RUN_VARIABLE
    from perennial.project import load_project
    from perennial.training.stages import choose_stages
    from pipelines.compile import compile_pipeline

    os.environ[RUN_VARIABLE] = "peer"
    project = load_project(folder)
    state = project.state
    compile_pipeline(state / "pipeline.yaml", choose_stages(project))
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(state / "artifacts"),
    )
    pipeline = components.load_component_from_file(str(state / "pipeline.yaml"))
    warnings.simplefilter("ignore")
    printing = builtins.print
    with contextlib.redirect_stdout(io.StringIO()):
        pipeline(project=str(folder))
    builtins.print = printing  # kfp.local leaves its own behind when tasks ran in threads


if __name__ == "__main__":
    sys.exit(main())
