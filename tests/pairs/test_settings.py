"""No setting decides nothing: each tells two whole runs apart, by itself.

The list of the settings is made from their classes; a new one without its pair fails here.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from perennial.processes import find_free_ports
from perennial.step_inputs import setting_paths
from tests.pairs.pairs import JUDGED, PAIRS, STATES, Pair
from tests.pairs.whole_runs import Runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PERENNIAL = Path(sys.executable).parent / "perennial"
SECTIONS = ("gate", "checks", "evaluate", "tune", "patch", "serving")
# What the model server reads is tried on the server, below.
SERVED = ("serving.port", "serving.poll_seconds")
_NEVER_BLOCKS = "probe_model does not say which features are suspect, so the gate judges none"
UNMENDED = {
    "gate.covariates": _NEVER_BLOCKS,
    "evaluate.covariates.features": _NEVER_BLOCKS,
    "evaluate.covariates.repeats": _NEVER_BLOCKS,
    "evaluate.covariates.false_alarms": _NEVER_BLOCKS,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The runs of this module, which share what they trained."""
    return Runs(tmp_path_factory.mktemp("pairs"), STATES)


def test_every_setting_that_judges_has_its_pair() -> None:
    settings = {path for path in setting_paths() if path.split(".")[0] in SECTIONS}
    assert settings == {pair.setting for pair in PAIRS} | set(SERVED)


def test_the_runs_of_a_pair_differ_in_its_setting_alone() -> None:
    for pair in PAIRS:
        assert pair.values[0] != pair.values[1], pair.setting
        assert pair.expected[0] != pair.expected[1], pair.setting
        assert pair.setting not in pair.settings, pair.setting


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(
            pair,
            id=pair.setting,
            marks=[
                pytest.mark.xfail(reason=UNMENDED[pair.setting], strict=True)
                for _ in range(pair.setting in UNMENDED)
            ],
        )
        for pair in PAIRS
    ],
)
def test_a_setting_alone_tells_two_runs_apart(pair: Pair, runs: Runs) -> None:
    shown = [
        pair.shows(runs.run(pair.scene, {**pair.settings, pair.setting: value}))
        for value in pair.values
    ]
    if pair.expected is None:
        assert shown[0] != shown[1]
    else:
        assert tuple(shown) == pair.expected


# --- the model server: the champion of the first run ----------------------------------------------


@pytest.fixture
def ports() -> list[int]:
    return find_free_ports(2)


def test_the_server_answers_on_the_port_of_the_settings(runs: Runs, ports: list[int]) -> None:
    for port, other in (ports, reversed(ports)):
        with _serving(runs, {"serving.port": port}) as client:
            assert client.get(f"http://127.0.0.1:{port}/v1/models/pairs").status_code == 200
            with pytest.raises(httpx.ConnectError):
                client.get(f"http://127.0.0.1:{other}/v1/models/pairs")


def test_a_shorter_poll_reads_the_ledger_more_often(runs: Runs, ports: list[int]) -> None:
    """While no read of the ledger succeeds, each server counts its own."""
    quick, slow = ports
    with (
        _serving(runs, {"serving.port": quick, "serving.poll_seconds": 0.1}) as client,
        _serving(runs, {"serving.port": slow, "serving.poll_seconds": 2.0}, begin=False),
    ):
        with contextlib.closing(sqlite3.connect(runs.project.state / "ledger.db")) as ledger:
            ledger.execute("ALTER TABLE events RENAME TO away")
        while (reads := _failed_reads(client, slow)) < 2:
            time.sleep(0.1)
        assert _failed_reads(client, quick) > 2 * reads


@contextlib.contextmanager
def _serving(runs: Runs, settings: dict[str, Any], begin: bool = True) -> Iterator[httpx.Client]:
    """Runs `perennial serve` with these settings until the block ends."""
    if begin:
        runs.begin(JUDGED, settings)
    else:
        runs.configure(JUDGED, settings)
    process = subprocess.Popen([PERENNIAL, "serve", runs.project.folder])
    try:
        with httpx.Client(timeout=30) as client:
            url = f"http://127.0.0.1:{settings['serving.port']}/v1/models/pairs"
            while not _answers(client, url):
                assert process.poll() is None, "the server ended"
                time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.wait()


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == 200
    except httpx.TransportError:
        return False


def _failed_reads(client: httpx.Client, port: int) -> float:
    lines = client.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
    name = "perennial_failed_ledger_reads_total "
    return next(float(line.split()[1]) for line in lines if line.startswith(name))
