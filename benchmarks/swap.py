"""Measures answers while a promotion is followed, beside those without one.

The digits example serves, and gets requests at a fixed rate, from a process of its own. Then its
two versions are deployed in turn: the server loads the next one aside and warms it up, while it
answers by the one before. A request counts as sent during a swap when it was due between a
deployment and the moment `SETTLED` after the first answer by its version.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _figures import Figure, conclude, print_table
from _server import Server, serve
from local_runner import measure, run_by_perennial
from promises import measure_second_version

from perennial.ledger.events import Ledger
from perennial.project import load_project
from perennial.registry.versions import Registry
from schemas.records import Deployment

EXAMPLE = {"image": [0.0] * 64}
RATE, CONNECTIONS = 100.0, 4  # requests per second
SWAPS, FULL = 20, 200
FIRST = 3  # promotions before memory counts: what is made once is made by then
PAUSE = 1.0  # seconds between two swaps
SETTLED = 0.5
QUIET = 20.0  # seconds without a swap, before and after
RATIO = 2.0  # of the 99th percentiles
_PERCENTILES = (50, 99, 99.9)


@dataclass(frozen=True)
class Request:
    """When a request was due, how long until its answer, and the version that gave it."""

    due: float
    seconds: float
    version: str


@dataclass(frozen=True)
class Swap:
    """A deployment, until the first answer by its version: monotonic seconds."""

    deployed: float
    followed: float


def main() -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description="Measure answers while versions are swapped.")
    parser.add_argument("--promotions", type=int, default=SWAPS)
    parser.add_argument("--full", action="store_true", help=f"{FULL} promotions")
    parser.add_argument("--rate", type=float, default=RATE, help="requests per second")
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results"
    )
    options = parser.parse_args()
    promotions = FULL if options.full else options.promotions
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "digits"
        measure(folder, run_by_perennial)
        measure_second_version(folder)
        with serve(folder, "digits", EXAMPLE) as server:
            requests, swaps, memory = swap_under_load(folder, server, promotions, options.rate)
    return conclude("swap", report(requests, swaps, memory), began)


def swap_under_load(
    folder: Path, server: Server, promotions: int, rate: float
) -> tuple[list[Request], list[Swap], list[float]]:
    """Swaps versions under load; gives the requests, the swaps, and MiB after each of them."""
    project = load_project(folder)
    ledger, digests = (
        Ledger(project.ledger_url),
        {version.version: version.digest for version in Registry(project).versions()},
    )
    file = folder.parent / "requests.txt"
    body = json.dumps({"instances": [EXAMPLE]})
    command = [Path(__file__).with_name("_load.py"), server.url, body, rate, CONNECTIONS, file]
    swaps, memory = [], []
    load = subprocess.Popen([sys.executable, *map(str, command)], stdin=subprocess.PIPE)
    try:
        time.sleep(QUIET)
        for _ in range(promotions):
            champion = ledger.champion()
            assert champion is not None
            version = next(each for each in digests if each != champion.version)
            deployed = deploy(ledger, version, digests[version], champion.deployment)
            while server.version() != version:
                time.sleep(0.05)
            swaps.append(Swap(deployed, time.monotonic()))
            time.sleep(SETTLED + PAUSE)
            memory.append(resident_mib(server.process_id))
        time.sleep(QUIET)
    finally:
        assert load.stdin is not None
        load.stdin.close()
        load.wait(60)
        ledger.close()
    return read_requests(file), swaps, memory


def deploy(ledger: Ledger, version: str, digest: str, replaces: int) -> float:
    """Deploys a version as any command does; gives the moment."""
    deployment = Deployment(
        version=version,
        digest=digest,
        action="promote",
        by="a benchmark",
        why="the next one",
        replaces=replaces,
    )
    ledger.deploy(deployment, None)
    return time.monotonic()


def read_requests(file: Path) -> list[Request]:
    """Reads what the load generator wrote."""
    rows = [line.split() for line in file.read_text("utf-8").splitlines()]
    return [Request(float(due), float(seconds), version) for due, seconds, version in rows]


def resident_mib(process: int) -> float:
    """Reads how much memory a process has in RAM."""
    for line in Path(f"/proc/{process}/status").read_text("utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {process} has no memory")


def report(
    requests: Sequence[Request], swaps: Sequence[Swap], memory: Sequence[float]
) -> list[Figure]:
    """Prints the percentiles during swaps and without; gives the figures."""
    during, quiet = split(requests, swaps)
    rows, ratios = [], {}
    for percentile in _PERCENTILES:
        with_swap, without = (
            float(np.percentile([each.seconds for each in part], percentile)) * 1000
            for part in (during, quiet)
        )
        ratios[percentile] = with_swap / without
        rows.append(
            (
                f"p{percentile:g}",
                f"{without:.1f} ms",
                f"{with_swap:.1f} ms",
                f"{ratios[percentile]:.2f}",
            )
        )
    rows.append(("requests", len(quiet), len(during), ""))
    print_table(("", "without a swap", "during a swap", "ratio"), rows)
    follow = [swap.followed - swap.deployed for swap in swaps]
    failed = sum(each.version == "-" for each in requests)
    growth = memory[-1] - memory[min(FIRST, len(memory) - 1)]
    print(
        f"\n{len(swaps)} promotions, each followed within {max(follow):.1f} s (median "
        f"{float(np.median(follow)):.1f} s); memory {memory[min(FIRST, len(memory) - 1)]:.0f} MiB "
        f"after {FIRST + 1} of them, {memory[-1]:.0f} MiB in the end\n"
    )
    return [
        Figure("p99 during a swap, beside without", ratios[99], at_most=RATIO),
        Figure("failed requests", failed, at_most=0),
        Figure("p50 beside", ratios[50]),
        Figure("p99.9 beside", ratios[99.9]),
        Figure("growth of memory", growth, unit=" MiB"),
        Figure("median time to follow", float(np.median(follow)), unit=" s"),
    ]


def split(
    requests: Sequence[Request], swaps: Sequence[Swap]
) -> tuple[list[Request], list[Request]]:
    """Tells requests that were sent during a swap from those that were not."""
    begins = np.array([swap.deployed for swap in swaps])
    ends = np.array([swap.followed + SETTLED for swap in swaps])
    due = np.array([each.due for each in requests])
    inside = ((due[:, None] >= begins) & (due[:, None] <= ends)).any(axis=1)
    return (
        [each for each, swapping in zip(requests, inside, strict=True) if swapping],
        [each for each, swapping in zip(requests, inside, strict=True) if not swapping],
    )


if __name__ == "__main__":
    sys.exit(main())
