"""Sends requests at a fixed rate, without retries; a latency counts from when the request was due.

A request that waits behind a slow one is as late as a person would find it: a generator that waits
for each answer before it sends the next would leave those out (coordinated omission).

    python benchmarks/_load.py URL BODY RATE CONNECTIONS FILE

Writes one line for each request, `due seconds version`, until its standard input closes. `due` is
in seconds of the system's monotonic clock; a request that failed has the version `-`.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

PATIENCE = 30.0  # seconds for an answer


class Sender(threading.Thread):
    """One connection: every so many seconds one request."""

    def __init__(self, url: str, body: bytes, first: float, every: float) -> None:
        super().__init__(daemon=True)
        parts = urlsplit(url)
        self._address, self._path = parts.netloc, parts.path
        self._body, self._due, self._every = body, first, every
        self.stopping = threading.Event()
        self.lines: list[str] = []

    def run(self) -> None:
        """Sends until it is stopped."""
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        while not self.stopping.is_set():
            time.sleep(max(0.0, self._due - time.monotonic()))
            version = self._ask(connection)
            self.lines.append(f"{self._due:.6f} {time.monotonic() - self._due:.6f} {version}")
            self._due += self._every

    def _ask(self, connection: http.client.HTTPConnection) -> str:
        try:
            connection.request("POST", self._path, self._body)
            answer = connection.getresponse()
            content = answer.read()
            return str(json.loads(content)["model_version"]) if answer.status == 200 else "-"
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            connection.close()  # the next request opens another
            return "-"


def main() -> None:
    """Sends requests until standard input closes."""
    url, body, rate, connections, file = sys.argv[1:]
    every = int(connections) / float(rate)
    begin = time.monotonic() + 0.1
    senders = [
        Sender(url, body.encode(), begin + number * every / int(connections), every)
        for number in range(int(connections))
    ]
    for sender in senders:
        sender.start()
    sys.stdin.read()
    for sender in senders:
        sender.stopping.set()
    for sender in senders:
        sender.join(PATIENCE + 1)
    lines = sorted(line for sender in senders for line in sender.lines)
    Path(file).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
