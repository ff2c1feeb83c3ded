"""Sends the server what no client should, and watches its answers and its memory.

Bytes at random, JSON that nearly fits and tensors that nearly fit, made by hypothesis, over v1, v2
and v2 in binary. Every one must be answered or refused with HTTP 400, and the server must neither
end nor grow.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from _figures import ROOT, Figure, conclude, print_table
from _server import Server, serve
from local_runner import measure, run_by_perennial

sys.path.append(str(ROOT))  # the tests' requests
EXAMPLE = {"image": [0.0] * 64}
REQUESTS = 100_000
WARM = 0.1  # of the requests, before memory counts: what is made once is made by then
GREATEST_GROWTH = 30.0  # MB


def main() -> int:
    """Sends, and prints the table."""
    parser = argparse.ArgumentParser(description="Send the server what no client should.")
    parser.add_argument("--project", type=Path, help="a digits project with a champion")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results"
    )
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.project or Path(scratch) / "digits"
        if options.project is None:
            measure(folder, run_by_perennial)
        with serve(folder, "digits", EXAMPLE) as server:
            statuses: Counter[int] = Counter()
            send(server, int(options.requests * WARM), statuses, 1)
            before = memory(server.process_id)
            send(server, int(options.requests * (1 - WARM)), statuses, 2)
            grown = memory(server.process_id) - before
            alive = server.version() is not None
    print_table(("HTTP status", "answers"), sorted(statuses.items()))
    wrong = sum(count for status, count in statuses.items() if status not in (200, 400))
    figures = [
        Figure("answers that were neither 200 nor 400", wrong + (not alive), at_most=0),
        Figure("growth of memory", grown, at_most=GREATEST_GROWTH, unit=" MB"),
        Figure("requests", sum(statuses.values()), at_least=options.requests),
    ]
    return conclude("robustness", figures, began)


def send(server: Server, requests: int, statuses: Counter[int], seed: int) -> None:
    """Sends so many requests; 0 stands for one that got no answer."""
    import http.client

    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as with_seed

    from tests.serving.hostile import Hostile, hostile_requests

    address = urlsplit(server.url).netloc
    connection = http.client.HTTPConnection(address, timeout=30)

    def ask(request: Hostile) -> None:
        if sum(statuses.values()) >= until:
            return
        try:
            connection.request("POST", request.path, request.body, request.headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            connection.close()
            status = 0
        if status not in (200, 400):
            print(f"HTTP {status}: {request}", file=sys.stderr)
        statuses[status] += 1

    until = sum(statuses.values()) + requests
    part = 0
    while sum(statuses.values()) < until:  # hypothesis ends early where it finds nothing new
        run = settings(
            max_examples=min(requests, 5000),
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(given(hostile_requests("digits", 64))(ask))
        with_seed(seed * 10_000 + part)(run)()
        part += 1


def memory(process_id: int) -> float:
    """Gives the memory that a process holds, in MB."""
    lines = Path(f"/proc/{process_id}/status").read_text(encoding="utf-8").splitlines()
    (resident,) = (line for line in lines if line.startswith("VmRSS"))
    return int(resident.split()[1]) / 1000


if __name__ == "__main__":
    sys.exit(main())
