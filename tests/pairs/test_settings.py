"""No setting decides nothing: each tells two whole runs apart, by itself.

The list of the settings is made from their classes; a new one without its pair fails here.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from perennial.processes import find_free_ports
from perennial.step_inputs import setting_paths
from schemas.project import LogSettings
from tests.pairs.pairs import JUDGED, PAIRS, STATES, Pair
from tests.pairs.whole_runs import Runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PERENNIAL = Path(sys.executable).parent / "perennial"
SECTIONS = ("gate", "checks", "evaluate", "tune", "patch", "serving")
# What the model server reads is tried on the server, below.
SERVED = (
    *("serving.port", "serving.grpc_port"),
    *("serving.poll_seconds", "serving.outside_domain"),
    *("serving.limits.body_mb", "serving.limits.instances", "serving.limits.depth"),
    *("serving.limits.requests_per_second", "serving.limits.burst"),
)
# What the prediction log reads is tried in tests/serving/test_prediction_logger.py.
LOGGED = tuple(f"serving.log.{name}" for name in LogSettings.model_fields)
# Who may ask, over what, and calls that are shared: in tests/serving, on servers of small models.
SERVED_ELSEWHERE = (
    *("serving.tokens", "serving.tls"),
    *("serving.batching",),
)
_BURST = 40
_STRICT = {
    "serving.outside_domain": "refuse",
    "serving.limits.body_mb": 0.01,
    "serving.limits.instances": 2,
    "serving.limits.depth": 4,
    "serving.limits.requests_per_second": 0.1,
    "serving.limits.burst": _BURST,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The runs of this module, which share what they trained."""
    return Runs(tmp_path_factory.mktemp("pairs"), STATES)


def test_every_setting_that_judges_has_its_pair() -> None:
    settings = {path for path in setting_paths() if path.split(".")[0] in SECTIONS}
    assert settings == {pair.setting for pair in PAIRS} | {*SERVED, *SERVED_ELSEWHERE, *LOGGED}


def test_the_runs_of_a_pair_differ_in_its_setting_alone() -> None:
    for pair in PAIRS:
        assert pair.values[0] != pair.values[1], pair.setting
        assert pair.expected is None or pair.expected[0] != pair.expected[1], pair.setting
        assert pair.setting not in pair.settings, pair.setting


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.setting)
def test_a_setting_alone_tells_two_runs_apart(pair: Pair, runs: Runs) -> None:
    shown = [
        pair.shows(runs.run(pair.scene, {**pair.settings, pair.setting: value}))
        for value in pair.values
    ]
    if pair.expected is None:
        assert shown[0] != shown[1]
    else:
        assert tuple(shown) == pair.expected


# --- the model server, with the champion of the first run -----------------------------------------


@dataclass(frozen=True)
class Served:
    """A server that runs with its settings."""

    port: int
    client: httpx.Client
    grpc_port: int | None = None

    def failed_reads(self) -> float:
        """Gives how often the ledger could not be read."""
        name = "perennial_failed_ledger_reads_total "
        lines = self.client.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(name))

    def predict(self, row: dict[str, Any]) -> int:
        """Asks about a row; gives the status of the answer."""
        return self.client.post("/v1/models/pairs:predict", json={"instances": [row]}).status_code


@pytest.fixture(scope="module")
def servers(runs: Runs) -> Iterator[tuple[Served, Served, Served]]:
    """Gives three servers, which differ in `poll_seconds`, in `outside_domain` and in their ports."""
    *ports, grpc_port = find_free_ports(4)
    values: tuple[dict[str, Any], ...] = (
        {"serving.grpc_port": grpc_port},
        {"serving.poll_seconds": 0.1},
        _STRICT,
    )
    runs.begin(JUDGED, {})
    with contextlib.ExitStack() as running:
        processes = []
        for port, settings in zip(ports, values, strict=True):
            common = {"serving.port": port, "serving.poll_seconds": 2.0}
            runs.configure(JUDGED, {**common, **settings})
            process = subprocess.Popen([PERENNIAL, "serve", runs.project.folder])
            running.callback(_stop, process)
            processes.append(process)
            _wait(process, port)
        clients = [httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) for port in ports]
        for client in clients:
            running.enter_context(client)
        plain, quick, strict = map(Served, ports, clients, (grpc_port, None, None))
        yield plain, quick, strict


def test_each_server_answers_on_the_port_of_its_settings(
    servers: tuple[Served, Served, Served],
) -> None:
    """Each was told its port by the settings alone."""
    names = {one.client.get("/v1/models/pairs").json()["name"] for one in servers}
    assert names == {"pairs"} and len({one.port for one in servers}) == len(servers)


def test_grpc_is_served_on_the_port_of_the_settings(servers: tuple[Served, Served, Served]) -> None:
    plain, *_ = servers
    with grpc.insecure_channel(f"127.0.0.1:{plain.grpc_port}") as channel:
        grpc.channel_ready_future(channel).result(timeout=30)


def test_a_value_outside_its_domain_is_answered_or_refused(
    servers: tuple[Served, Served, Served],
) -> None:
    plain, _, strict = servers
    texts = ("site", "camera", "shift", "ward", "clinic", "patient")
    row = {"old": 1.0, "new": 1.0, "tag": 1.0, "age": 30.0, **dict.fromkeys(texts, "north")}
    assert (plain.predict(row), strict.predict(row)) == (200, 200)
    row["age"] = 1000.0
    assert (plain.predict(row), strict.predict(row)) == (200, 400)


def test_what_is_too_large_is_answered_or_refused(servers: tuple[Served, Served, Served]) -> None:
    """The last test of the third server, whose rate it uses up."""
    texts = ("site", "camera", "shift", "ward", "clinic", "patient")
    row = {"old": 1.0, "new": 1.0, "tag": 1.0, "age": 30.0, **dict.fromkeys(texts, "north")}

    def ask(server: Served, instances: object, more: str = "") -> int:
        body = json.dumps({"instances": instances}) + more
        return server.client.post("/v1/models/pairs:predict", content=body).status_code

    plain, _, strict = servers
    for allowed, refused, status in (
        (([row] * 2,), ([row] * 3,), 400),  # instances
        (([row],), ([row], " " * 10_000), 413),  # size
    ):
        assert (ask(strict, *allowed), ask(strict, *refused)) == (200, status)
        assert (ask(plain, *allowed), ask(plain, *refused)) == (200, 200)
    deep = [[[[[1]]]]]
    messages = [
        server.client.post("/v1/models/pairs:predict", json={"instances": deep}).json()["error"]
        for server in (plain, strict)
    ]
    assert ["nested at most 4 deep" in message for message in messages] == [False, True]
    for server, limited in ((plain, False), (strict, True)):
        codes = {ask(server, [row]) for _ in range(_BURST + 5)}
        assert (429 in codes) is limited


def test_a_shorter_poll_reads_the_ledger_more_often(
    runs: Runs, servers: tuple[Served, Served, Served]
) -> None:
    """While no read of the ledger succeeds, each server counts its own."""
    plain, quick, _ = servers
    with contextlib.closing(sqlite3.connect(runs.project.state / "ledger.db")) as ledger:
        ledger.execute("ALTER TABLE events RENAME TO away")
    while (reads := plain.failed_reads()) < 2:
        time.sleep(0.1)
    assert quick.failed_reads() > 2 * reads


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/v1/models/pairs").status_code == 200:
                return
        assert process.poll() is None, "the server ended"
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
