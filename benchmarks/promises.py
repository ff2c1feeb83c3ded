"""Measures the times that the product promises.

The help text, and how soon a server follows the ledger.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from _figures import Figure, conclude, print_table
from _server import PERENNIAL, serve
from local_runner import measure, run_by_perennial

from perennial.ledger.events import Ledger
from perennial.project import load_project

HELP_SECONDS = 0.5
FOLLOW_SECONDS = 5.0
REPEATS = 7


def main() -> int:
    """Measures both promises and prints the table."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        follow, requests, failed = time_to_follow(Path(scratch) / "digits")
    shown = time_help()
    rows = [
        (f"`perennial --help`, median of {REPEATS}", f"{HELP_SECONDS:g} s", f"{shown:.2f} s"),
        (
            "a deployment changes what serves, slowest of 2",
            f"{FOLLOW_SECONDS:g} s",
            f"{follow:.2f} s",
        ),
        (f"failed requests meanwhile, of {requests}", 0, failed),
    ]
    print_table(("promise", "target", "measured"), rows)
    figures = [
        Figure("help", shown, at_most=HELP_SECONDS, unit=" s"),
        Figure("follow", follow, at_most=FOLLOW_SECONDS, unit=" s"),
        Figure("failed requests", failed, at_most=0),
    ]
    return conclude("promises", figures, began)


def time_help() -> float:
    """Gives the median seconds of `perennial --help`, after one that fills the file cache."""
    subprocess.run([PERENNIAL, "--help"], check=True, capture_output=True)
    seconds = []
    for _ in range(REPEATS):
        began = time.monotonic()
        subprocess.run([PERENNIAL, "--help"], check=True, capture_output=True)
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds)


def time_to_follow(folder: Path) -> tuple[float, int, int]:
    """Measures seconds from a deployment's command to an answer by it, and counts requests."""
    measure(folder, run_by_perennial)
    measure_second_version(folder)
    with serve(folder, "digits", {"image": [0.0] * 64}) as server:
        before = server.version()
        slowest, requests, failed = 0.0, 0, 0
        other = "1" if before == "2" else "2"
        for command, expected in (
            (["promote", folder, other], other),
            (["promote", folder, before], before),
        ):
            with subprocess.Popen([PERENNIAL, *command], stdout=subprocess.DEVNULL):
                deadline = time.monotonic() + 60
                while (version := server.version()) != expected and time.monotonic() < deadline:
                    requests, failed = requests + 1, failed + (version is None)
                seen = datetime.now(UTC)
            slowest = max(slowest, (seen - newest_deployment(folder)).total_seconds())
        return slowest, requests, failed


def measure_second_version(folder: Path) -> None:
    """Trains a second version, so that there is something to change to."""
    subprocess.run(
        [sys.executable, folder / "land.py", "--days", "2"], check=True, capture_output=True
    )
    run_by_perennial(folder)


def newest_deployment(folder: Path) -> datetime:
    """Tells when the ledger took the newest deployment."""
    event, _ = Ledger(load_project(folder).ledger_url).deployments()[-1]
    return datetime.fromisoformat(event.at)


if __name__ == "__main__":
    sys.exit(main())
