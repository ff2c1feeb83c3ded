"""A real MLflow server process, by the command and the variables of the manifest.

PostgreSQL behind it, artifacts in a folder, or on S3 as the manifests say.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perennial.processes import find_free_ports
from tests.s3 import BUCKET, S3
from tests.session import Server

sys.path.append(str(Path(__file__).parents[3] / "tools"))
import manifests

MLFLOW = Path(sys.executable).with_name("mlflow")
MODELS = f"s3://{BUCKET}/mlflow"
_READY_SECONDS = 240  # on a machine that is busy with other tests


def start(database: str, folder: Path, s3: S3 | None = None) -> Server:
    """Starts a server on a free port of loopback; a version's files are in `folder`, or on S3.

    It is the container of the manifest but for its address, and for what secrets and places hold.
    """
    (port,) = find_free_ports(1)
    container = _read_container()
    address = {"5000": str(port), "0.0.0.0": "127.0.0.1"}
    store = s3.environment if s3 else {}
    references = {
        "url": database,
        "MLFLOW_ARTIFACTS_DESTINATION": MODELS if s3 else str(folder / "artifacts"),
        **store,
    }
    variables = {each["name"]: _value(each, references) for each in container["env"]}
    log = folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [MLFLOW, *(address.get(argument, argument) for argument in container["args"][1:])],
            cwd=folder,
            env={**os.environ, **store, **{k: v for k, v in variables.items() if v is not None}},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    url = f"http://localhost:{port}"  # a name that the server answers to
    _wait(server, f"{url}/health", log)
    return Server(url, server.pid, str(folder))


def _read_container() -> dict[str, Any]:
    objects = manifests.render(manifests.KUBERNETES / "overlays" / "laptop")
    (pod,) = (pod for owner, pod in manifests.pods(objects) if owner == "Deployment mlflow")
    container: dict[str, Any] = pod["containers"][0]
    assert container["args"][0] == "mlflow"
    return container


def _value(variable: Mapping[str, Any], references: Mapping[str, str]) -> str | None:
    """Gives the value of a variable; that of a reference by the key that it names."""
    if "value" in variable:
        return str(variable["value"])
    (reference,) = variable["valueFrom"].values()
    return references.get(reference["key"])


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
