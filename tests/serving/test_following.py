"""The real server follows the ledger: promotion, rollback, damage, and starts that fail."""

from __future__ import annotations

import itertools
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.errors import ServingError

V1 = "/v1/models/tiny:predict"
INSTANCE = {"image": [0.0, 0.25, 0.5, 1.0], "age": 41, "city": "Łódź"}


class Hammer:
    """Sends requests from threads until stopped.

    Keeps every answer's version, and every failure.
    """

    def __init__(self, url: str, threads: int = 2) -> None:
        self.url, self.failures, self.versions = url, [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._strike) for _ in range(threads)]

    def _strike(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(self.url, json={"instances": [INSTANCE]})
                    self._note(answer)
                except Exception as error:
                    self.failures.append(repr(error))

    def _note(self, answer: httpx.Response) -> None:
        body = answer.json()
        version = body.get("model_version")
        # The class tells which model computed the answer; it must be the one that the answer names.
        if answer.status_code != 200 or body["predictions"][0]["class"] != int(version) - 1:
            self.failures.append(answer.text)
        self.versions.append(version)

    def __enter__(self) -> Hammer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def model_info(world: Any) -> list[str]:
    return [
        line
        for line in world.server.get("/metrics").text.splitlines()
        if line.startswith("perennial_model_info{")
    ]


def counter(world: Any, name: str) -> float:
    lines = world.server.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def test_promotion_and_rollback_under_load(version_1: Any) -> None:
    with Hammer(version_1.server.url + V1) as hammer:
        time.sleep(0.3)
        promoted = version_1.wait_for("2", version_1.deploy("2"))
        rolled_back = version_1.wait_for("1", version_1.deploy("1"))
        time.sleep(0.3)
    assert promoted < 5 and rolled_back < 5
    assert hammer.failures == [] and {"1", "2"} <= set(hammer.versions)
    runs = [version for version, _ in itertools.groupby(hammer.versions)]
    assert runs[0] == runs[-1] == "1" and len(hammer.versions) > 50
    assert model_info(version_1) == [
        f'perennial_model_info{{digest="{version_1.digests["1"]}",name="tiny",version="1"}} 1.0'
    ]


def wait_for_failures(world: Any, more_than: float) -> None:
    until = time.monotonic() + 10
    while counter(world, "perennial_failed_loads_total") <= more_than:
        assert time.monotonic() < until, world.server.log.read_text()
        time.sleep(0.1)


def test_damaged_model_is_not_served(version_1: Any) -> None:
    """Version 3 has a byte changed in the registry: the old model stays.

    Repaired, version 3 follows.
    """
    failed = counter(version_1, "perennial_failed_loads_total")
    stored = registered_file(version_1, "3")
    healthy = stored.read_bytes()
    stored.write_bytes(healthy[:-1] + bytes([healthy[-1] ^ 1]))
    with Hammer(version_1.server.url + V1, threads=1) as hammer:
        deployed = version_1.deploy("3")
        wait_for_failures(version_1, failed)
        assert version_1.serving_version() == "1"
        stored.write_bytes(healthy)
        version_1.wait_for("3", deployed)
    assert hammer.failures == []
    lines = [
        line
        for line in version_1.server.log.read_text().splitlines()
        if "version 3" in line and "cannot" in line
    ]
    assert lines and "version 1 keeps serving" in lines[0] and "must have the SHA-256" in lines[0]


def registered_file(world: Any, version: str) -> Path:
    from perennial.registry.versions import Registry

    found = Registry(world.project).version(version)
    return (
        Path(found.source.removeprefix("file://")) / "variables" / "variables.data-00000-of-00001"
    )


def test_damaged_copy_is_fetched_again(version_1: Any) -> None:
    version_1.wait_for("2", version_1.deploy("2"))
    version_1.wait_for("1", version_1.deploy("1"))
    copy = version_1.project.state / "models" / version_1.digests["2"] / "saved_model.pb"
    copy.write_bytes(b"damaged")
    assert version_1.wait_for("2", version_1.deploy("2")) < 5


@pytest.mark.parametrize(
    ("version", "digest", "part"),
    [
        ("2", "0" * 64, "must have the digest 000"),
        ("99", "1" * 64, "version 99 of tiny must be in the registry"),
        (
            "4",
            None,
            "must give `class` int64 [n], `probabilities` float32 [n, 3]. Received: {'label'",
        ),
        (
            "7",
            None,
            "must have assets.extra/contract.json. Received: no such file. Train a version with "
            "`perennial run`",
        ),
        (
            "8",
            None,
            "model tiny version 8: age must take int64 [n], as its contract says. Received: no "
            "such input",
        ),
    ],
)
def test_deployment_that_cannot_be_loaded(
    version_1: Any, version: str, digest: str | None, part: str
) -> None:
    failed = counter(version_1, "perennial_failed_loads_total")
    version_1.deploy(version, digest)
    wait_for_failures(version_1, failed)
    assert version_1.serving_version() == "1"
    assert part in version_1.server.log.read_text()
    # A newer deployment does not wait for the failed one.
    assert version_1.wait_for("2", version_1.deploy("2")) < 5


def test_ledger_that_fails_keeps_serving(version_1: Any) -> None:
    failed = counter(version_1, "perennial_failed_ledger_reads_total")
    with sqlite3.connect(version_1.project.state / "ledger.db") as database:
        database.execute("ALTER TABLE events RENAME TO away")
    until = time.monotonic() + 10
    while counter(version_1, "perennial_failed_ledger_reads_total") <= failed:
        assert version_1.serving_version() == "1" and time.monotonic() < until
        time.sleep(0.1)
    ready = {"ready": True, "ledger": "unreadable"}
    assert version_1.server.get("/v2/health/ready").json() == ready
    assert counter(version_1, "perennial_ledger_readable") == 0
    with sqlite3.connect(version_1.project.state / "ledger.db") as database:
        database.execute("ALTER TABLE away RENAME TO events")
    assert version_1.wait_for("2", version_1.deploy("2")) < 5
    assert version_1.server.get("/v2/health/ready").json()["ledger"] == "readable"
    log = version_1.server.log.read_text()
    assert (
        "version 1 keeps serving, as the ledger fails" in log
        and "the ledger is readable again" in log
    )


def test_no_deployment_yet(
    make_project: Callable[[str], Any], serve_project: Callable[..., Any], port: int
) -> None:
    server = serve_project(make_project("fresh"), port)
    assert server.process.wait(60) == 1
    log = server.log.read_text()
    assert (
        "ServingError: ledger of fresh" in log and "perennial run" in log and "Traceback" not in log
    )


def test_an_address_that_is_not_of_this_machine(version_1: Any, port: int) -> None:
    """It listens where `--host` says; what is no address is told before anything is loaded."""
    command = ["serve", str(version_1.project.folder), "--port", str(port), "--host"]
    for host in ("192.0.2.1", "nowhere.invalid"):  # RFC 5737 and RFC 2606: never of a machine
        error = CliRunner().invoke(app, [*command, host]).exception
        assert isinstance(error, ServingError)
        assert str(error).startswith(f"--host must be an address of this machine. Received: {host}")


def test_busy_port(version_1: Any, serve_project: Callable[..., Any], port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        server = serve_project(version_1.project, port)
        assert server.process.wait(60) == 1
    log = server.log.read_text()
    assert f"ServingError: port {port} on 127.0.0.1 must be free" in log and "Traceback" not in log
