"""Measures the server under load beside KServe's own with the same SavedModel, in turn.

The load comes from Debian's `wrk`, which keeps its connections, sends the next request when an
answer is there, and repeats none. Answers other than HTTP 200 fail the benchmark. Ratios count:
other work on the machine slows both.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from _figures import Figure, conclude, print_table
from _server import PATIENCE, Server, serve
from local_runner import measure, run_by_perennial

from perennial.ledger.events import Ledger
from perennial.processes import find_free_ports
from perennial.project import load_project
from perennial.registry.versions import Registry

EXAMPLE = {"image": [float(pixel % 17) for pixel in range(64)]}
CONNECTIONS = (1, 4, 64)
SECONDS, ROUNDS = 10, 3
# Of the bare server's median and throughput.
MEDIAN_RATIO, THROUGHPUT_RATIO = 0.8, 5.0
_MICROSECONDS = 1000.0  # in a millisecond
_SCRIPT = """
wrk.method = "POST"
wrk.body = [[BODY]]
wrk.headers["content-type"] = "application/json"
function done(summary, latency, _)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read
    + summary.errors.write + summary.errors.timeout
  print(string.format("figures %d %d %f %f %d", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), failed))
end
"""


@dataclass(frozen=True)
class Load:
    """Measurements of `wrk`: milliseconds, and requests in a second."""

    median: float
    p99: float
    throughput: float


def main() -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--project", type=Path, help="a digits project with a champion")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of load, each time")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results"
    )
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("skipped: wrk must be there. Install it, on Debian: sh tools/system-packages.sh load")
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.project or Path(scratch) / "digits"
        if options.project is None:
            measure(folder, run_by_perennial)
        body = json.dumps({"instances": [EXAMPLE]})
        script = Path(scratch) / "load.lua"
        script.write_text(_SCRIPT.replace("BODY", body), encoding="utf-8")
        with serve_bare(folder) as bare, serve(folder, "digits", EXAMPLE) as ours:
            loads = {
                (name, connections): [] for connections in CONNECTIONS for name in ("bare", "ours")
            }
            for server in (bare, ours):
                send(server, script, 4, 2)  # what is made once is made by then
            for _ in range(options.rounds):
                for connections in CONNECTIONS:
                    for name, server in (("bare", bare), ("ours", ours)):
                        load = send(server, script, connections, options.seconds)
                        loads[name, connections].append(load)
    return report(loads, began)


def send(server: Server, script: Path, connections: int, seconds: int) -> Load:
    """Sends requests over some connections for some seconds.

    Raises:
        SystemExit: One was not answered by HTTP 200.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    done = subprocess.run(
        [*command, "-s", str(script), server.url], check=True, capture_output=True, text=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("figures "))
    requests, duration, half, most, failed = (float(word) for word in line.split()[1:])
    if failed:
        sys.exit(f"error: every request must be answered. Received: {failed:.0f} that were not")
    return Load(half / _MICROSECONDS, most / _MICROSECONDS, requests / duration * 1e6)


@contextmanager
def serve_bare(project: Path) -> Iterator[Server]:
    """Serves the champion's SavedModel by KServe's own server, until the end of the block."""
    loaded = load_project(project)
    champion = Ledger(loaded.ledger_url).champion()
    assert champion is not None
    registry = Registry(loaded)
    folder = registry.fetch(registry.version(champion.version))
    (port,) = find_free_ports(1)
    script = Path(__file__).with_name("_bare_server.py")
    process = subprocess.Popen(
        [sys.executable, script, str(folder), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/v1/models/digits:predict"
    try:
        wait_for(url, process)
        yield Server(url, EXAMPLE, process.pid)
    finally:
        process.terminate()
        process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Waits until a server answers a prediction.

    Raises:
        SystemExit: It does not.
    """
    import httpx

    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.post(url, json={"instances": [EXAMPLE]}).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    sys.exit("error: the bare server must answer. Received: no answer")


def report(loads: Mapping[tuple[str, int], list[Load]], began: float) -> int:
    """Prints the table and the figures: medians of the rounds, and of their ratios."""
    rows: list[tuple[Any, ...]] = []
    for (name, connections), rounds in loads.items():
        halves, most = [load.median for load in rounds], [load.p99 for load in rounds]
        throughput = median(load.throughput for load in rounds)
        rows.append(
            (
                f"{connections} connections: {name}",
                f"{median(halves):.2f}",
                f"{median(most):.2f}",
                f"{throughput:,.0f}",
            )
        )
    print_table(("digits, one image in a request", "median ms", "p99 ms", "requests/s"), rows)

    def ratio(connections: int, kind: str) -> float:
        pairs = zip(loads["ours", connections], loads["bare", connections], strict=True)
        return median(getattr(ours, kind) / getattr(bare, kind) for ours, bare in pairs)

    figures = [
        Figure(f"median at {connections}, beside bare", ratio(connections, "median"), MEDIAN_RATIO)
        for connections in (1, 4)
    ]
    busy = CONNECTIONS[-1]
    throughput = ratio(busy, "throughput")
    name = f"throughput at {busy}, beside bare"
    figures.append(Figure(name, throughput, at_least=THROUGHPUT_RATIO))
    figures.append(Figure(f"p99 at {busy}, beside bare", ratio(busy, "p99")))
    return conclude("serving", figures, began)


if __name__ == "__main__":
    sys.exit(main())
