"""A real MLflow server process, as docs/registry.md starts it.

PostgreSQL behind it, artifacts in a folder, or on S3 as the manifests say.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from perennial.processes import find_free_ports
from tests.s3 import BUCKET, S3
from tests.session import Server

MLFLOW = Path(sys.executable).with_name("mlflow")
# A version's source must be the model of a run. The server checks by itself that it is that
# version's own run.
SOURCES = "^mlflow-artifacts:/[0-9]+/[0-9a-f]{32}/artifacts/model$"
MODELS = f"s3://{BUCKET}/mlflow"
_READY_SECONDS = 240  # on a machine that is busy with other tests


def start(database: str, folder: Path, s3: S3 | None = None) -> Server:
    """Starts a server on a free port of loopback; a version's files are in `folder`, or on S3."""
    (port,) = find_free_ports(1)
    command = [MLFLOW, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    command += [
        "--backend-store-uri",
        database,
        "--serve-artifacts",
        "--artifacts-destination",
        MODELS if s3 else folder / "artifacts",
    ]
    environment = {
        **os.environ,
        **(s3.environment if s3 else {}),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": SOURCES,
    }
    log = folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _wait(server, f"http://127.0.0.1:{port}/health", log)
    return Server(f"http://127.0.0.1:{port}", server.pid, str(folder))


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(log.read_text())
