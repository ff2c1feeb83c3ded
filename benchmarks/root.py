"""Measures what a new span moves to and from a root on S3, and how much longer it takes.

One project with real handwritten digits, drawn again and again into spans of the same size, with
windows of 1, 10 and 50 spans; training is as short as it can be. Each new span is run twice: with
the root in the state folder, and on a real S3 server (SeaweedFS) on this machine, which counts
requests and bytes itself. A machine that has run before has copies of what it read (`copies/`); a
fresh one, as a pod of a cluster is, has none.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from _figures import ROOT, Figure, conclude, print_table
from incremental import Watch, configure, land, make_project

sys.path.insert(0, str(ROOT))  # the server is the one of the tests

from tests import s3

WINDOWS = (1, 10, 50)
MB = 1e6


@dataclass(frozen=True)
class Traffic:
    """Traffic as the server counted it: requests, and bytes that it received and sent."""

    requests: float
    received: float
    sent: float

    def since(self, before: Traffic) -> Traffic:
        """Gives what came after another count."""
        return Traffic(
            self.requests - before.requests,
            self.received - before.received,
            self.sent - before.sent,
        )


def main() -> int:
    """Measures every window on both roots and prints the table."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "server").mkdir()
        metrics = s3.find_free_ports(1)[0]
        server = s3.start(folder / "server", f"-metricsPort={metrics}", "-metricsIp=127.0.0.1")
        try:
            os.environ.update(s3.S3(server).environment)
            rows, figures = measure(folder, s3.S3(server).new_root(), metrics)
        finally:
            s3.kill(server)
    print_table(
        (
            *("window", "seconds, folder", "seconds, S3", "requests", "MB sent to S3"),
            *("MB read, machine with copies", "MB read, fresh machine"),
        ),
        rows,
    )
    return conclude("root", figures, began)


def measure(folder: Path, root: str, metrics: int) -> tuple[list[tuple[str, ...]], list[Figure]]:
    """Runs a new span at each window; gives the table's rows and the figures."""
    here, there = make_project(folder / "here"), make_project(folder / "there")
    number, rows, overheads, requests = 0, [], [], []
    for window in WINDOWS:
        while number < window:
            land_both(number, here, there)
            number += 1
        run(here, window, None)
        run(there, window, root)
        land_both(number, here, there)
        number += 1
        local = run(here, window, None)
        before = traffic(metrics)
        remote = run(there, window, root)
        moved = traffic(metrics).since(before)
        # A pod has nothing of what earlier ones read.
        shutil.rmtree(there / ".perennial" / "copies")
        land_both(number, here, there)
        number += 1
        run(here, window, None)
        before = traffic(metrics)
        run(there, window, root)
        fresh = traffic(metrics).since(before)
        overheads.append(remote - local)
        requests.append(moved.requests)
        rows.append(
            (
                *(str(window), f"{local:.1f}", f"{remote:.1f}", f"{moved.requests:.0f}"),
                *(f"{moved.received / MB:.1f}", f"{moved.sent / MB:.1f}", f"{fresh.sent / MB:.1f}"),
            )
        )
    last = max(WINDOWS)
    return rows, [
        Figure(f"S3 instead of a folder, window of {last}", overheads[-1], unit="s"),
        Figure(f"requests at a window of {last} beside 1", requests[-1] / requests[0]),
    ]


def land_both(number: int, *projects: Path) -> None:
    """Lands the same span in each project."""
    for project in projects:
        land(project, number)


def run(folder: Path, window: int, root: str | None) -> float:
    """Runs the loop once; gives its seconds without those for imports.

    The runner is called as `perennial run` does, but for the check that a root on a server has a
    ledger on one: the ledger is not what is measured.
    """
    from perennial.ledger.task_lease import RUN_VARIABLE
    from perennial.project import load_project
    from perennial.runner.local_run import LocalRun
    from perennial.runner.project_run import hold_project, new_run_name
    from perennial.training.stages import choose_stages
    from pipelines.compile import compile_pipeline

    configure(folder, window)
    os.environ.pop("PERENNIAL_ROOT", None)
    if root is not None:
        os.environ["PERENNIAL_ROOT"] = root
    project, name = load_project(folder), new_run_name()
    place = project.state / "runs" / name
    compile_pipeline(place / "pipeline.yaml", choose_stages(project))
    watch, began = Watch(folder), time.monotonic()
    local = LocalRun(
        place / "pipeline.yaml",
        project.state / "artifacts",
        place,
        place / "log",
        watch,
        environment={RUN_VARIABLE: name},
    )
    with hold_project(project, name):
        succeeded = local.execute({"project": str(folder)})
    if not succeeded:
        sys.exit(f"error: the run failed: {local.failures}")
    return time.monotonic() - began - watch.imports


def traffic(port: int) -> Traffic:
    """Reads the server's own counters."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()

    def total(name: str) -> float:
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{"))

    prefix = "SeaweedFS_s3"
    return Traffic(
        total(f"{prefix}_request_total"),
        total(f"{prefix}_bucket_traffic_received_bytes_total"),
        total(f"{prefix}_bucket_traffic_sent_bytes_total"),
    )


if __name__ == "__main__":
    sys.exit(main())
