"""A real S3 server on loopback for tests: SeaweedFS, which Kubeflow Pipelines itself ships."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial.processes import find_free_ports
from tests.session import Server

_READY_SECONDS = 120
ACCOUNT, PASSWORD, BUCKET = "tester", "secret-of-the-tests", "roots"


@dataclass(frozen=True)
class S3:
    """The session's server; each test has a folder of its own in its bucket."""

    server: Server

    @property
    def endpoint(self) -> str:
        return f"http://{self.server.address}"

    @property
    def environment(self) -> dict[str, str]:
        """What the driver finds the server and its account by."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": PASSWORD,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def new_root(self) -> str:
        """Gives the URL of a folder that nobody has used."""
        return f"s3://{BUCKET}/{secrets.token_hex(4)}/project"


def start(folder: Path, *options: str) -> Server:
    """Starts a server that keeps its objects in a folder, with further options of its own."""
    server = _start(folder, [*_command(folder), *options])
    _make_bucket(server.address)
    return server


def restart(server: Server) -> None:
    """Ends a server as a crash does, and starts it again at the same address after a while."""
    kill(server)
    time.sleep(5)
    folder = Path(server.folder)
    _start(folder, json.loads((folder / "command.json").read_text()))


def kill(server: Server) -> None:
    """Ends a server at once, its process of today."""
    os.kill(int(Path(server.folder, "pid").read_text()), signal.SIGKILL)


def _command(folder: Path) -> list[str]:
    weed = Path(sys.executable).with_name("weed")
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
    names += ("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")
    ports = dict(zip(names, find_free_ports(len(names)), strict=True))
    account = {"accessKey": ACCOUNT, "secretKey": PASSWORD}
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    accounts = {"identities": [{"name": ACCOUNT, "credentials": [account], "actions": rights}]}
    (folder / "accounts.json").write_text(json.dumps(accounts))
    return [
        *(str(weed), "server", "-s3", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-s3.config={folder / 'accounts.json'}", "-master.volumeSizeLimitMB=64"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=40"),
        *("-master.volumePreallocate=false", "-master.telemetry=false"),
        *(f"-{name}={port}" for name, port in ports.items()),
    ]


def _start(folder: Path, command: list[str]) -> Server:
    (folder / "command.json").write_text(json.dumps(command))
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    (folder / "pid").write_text(str(process.pid))
    (port,) = (part.partition("=")[2] for part in command if part.startswith("-s3.port="))
    address = f"127.0.0.1:{port}"
    until = time.monotonic() + _READY_SECONDS
    while not _answers(address):
        assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
        time.sleep(0.1)
    return Server(address, process.pid, str(folder))


def takes_objects(server: Server) -> bool:
    """Tells whether a server writes an object to its disk now; one that was full looks at times."""
    from botocore.exceptions import BotoCoreError, ClientError

    name = f"probes/{secrets.token_hex(4)}"
    try:
        _client(server.address).put_object(Bucket=BUCKET, Key=name, Body=bytes(1 << 17))
    except (BotoCoreError, ClientError):
        return False
    return True


def _make_bucket(address: str) -> None:
    _client(address).create_bucket(Bucket=BUCKET)


def _client(address: str) -> Any:
    import botocore.session
    from botocore.config import Config

    return botocore.session.get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=f"http://{address}",
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key=PASSWORD,
        config=Config(retries={"total_max_attempts": 1}),
    )


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{address}", timeout=5)
    except urllib.error.HTTPError:
        return True  # it asks for an account
    except OSError:
        return False
    return True
