"""Runs `perennial serve` beside a benchmark, and asks it which version answers."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PERENNIAL = Path(sys.executable).parent / "perennial"
PATIENCE = 120.0  # seconds for a starting server


@dataclass(frozen=True)
class Server:
    """Answers predictions of one example, at a URL, from a process."""

    url: str
    example: Mapping[str, Any]
    process_id: int

    def version(self) -> str | None:
        """Asks for the version that answers now; None when the request fails."""
        body = json.dumps({"instances": [self.example]}).encode()
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.url, body), timeout=10
            ) as response:
                version: str = json.load(response)["model_version"]
                return version
        except (urllib.error.URLError, OSError):
            return None


@contextmanager
def serve(project: Path, model: str, example: Mapping[str, Any]) -> Iterator[Server]:
    """Serves a project until the end of the block; the server answers from its beginning.

    Raises:
        SystemExit: It did not answer within two minutes.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [PERENNIAL, "serve", project, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/v1/models/{model}:predict"
    server = Server(url, example, process.pid)
    try:
        deadline = time.monotonic() + PATIENCE
        while server.version() is None:
            if time.monotonic() > deadline or process.poll() is not None:
                sys.exit(
                    f"error: the server of {project} must answer within {PATIENCE:.0f} s. "
                    "Received: no answer"
                )
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait(30)
