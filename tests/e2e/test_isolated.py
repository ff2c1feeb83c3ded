"""The whole loop with each step isolated as a pod, over servers that fail.

The root lies on an S3 server whose disk the tests fill, behind a proxy that treats requests badly;
ledger and registry lie on PostgreSQL and MLflow's server. The runs follow each other.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from perennial.ledger.events import Ledger
from perennial.ledger.verification import verify_ledger
from perennial.results.store import Results
from tests.e2e.conftest import PERENNIAL, Digits, make_digits, wait_for
from tests.faulty_proxy import FaultyProxy, before
from tests.perennial.registry import mlflow_server
from tests.s3 import S3, kill, restart, start, takes_objects
from tests.session import Server, serve_once

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NAME = "pods"
_ROOMY, _SLACK = 400, 3  # megabytes of the server's disk, and of what is left on one that is full
# Every step that loads the module tells what it sees, and leaves a file for the next to see.
SPY = """

import json as _json, os as _os, sys as _sys, tempfile as _tempfile
from pathlib import Path as _Path

def _look(folder):
    names = [path.name for path in _Path(folder).iterdir() if path.is_file()]
    (_Path(folder) / "scratch-of-a-step").write_text("")
    return names

_places = {"home": _Path.home(), "temporary": _tempfile.gettempdir(), "working": ".", "state": STATE}
_seen = {name: _look(folder) for name, folder in _places.items()}
_seen["runs"] = _os.path.exists(STATE + "/runs")
print("SEEN " + _json.dumps(_seen), file=_sys.stderr, flush=True)
"""


@dataclass
class Machine:
    """A project on a machine, and the servers that its steps reach."""

    digits: Digits
    s3: S3
    disk: Path
    proxy: FaultyProxy
    places: dict[str, str] = field(default_factory=dict)

    def is_held(self) -> bool:
        lease = self.ledger.lease()
        return lease is not None and not lease.released

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(
            [PERENNIAL, "run", self.digits.folder, "--isolated", "--json"],
            env={**os.environ, **self.places},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self) -> tuple[int, dict, str]:
        """Runs the loop; gives the exit code, the answer and what was printed."""
        return ended(self.start())

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.places["PERENNIAL_LEDGER_URL"])

    def made(self, step: str) -> int:
        """How many results of a step lie in the root, by the server itself."""
        with pytest.MonkeyPatch.context() as patched:
            for name, value in self.s3.environment.items():
                patched.setenv(name, value)
            root = f"{self.places['PERENNIAL_ROOT']}/{NAME}"
            return len(Results(root, self.digits.folder / ".copies").of_step(step))

    def runs(self) -> list[Path]:
        return sorted((self.digits.project.state / "runs").iterdir())

    def resize(self, megabytes: int) -> None:
        options = f"remount,size={megabytes}m"
        subprocess.run(["mount", "-o", options, self.disk], check=True)


def ended(process: subprocess.Popen) -> tuple[int, dict, str]:
    out, err = process.communicate()
    assert out, err
    assert "Traceback" not in err
    return process.returncode, json.loads(out.splitlines()[-1]), err


@pytest.fixture(scope="module")
def machine(tmp_path_factory, postgres) -> Iterator[Machine]:
    disk = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_ROOMY}m", "tmpfs", disk]
    mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    server = start(disk, "-volume.minFreeSpace=1MiB")
    registry: Server = serve_once(
        "mlflow", lambda folder: mlflow_server.start(postgres.new_database(), folder)
    )
    digits = make_digits(
        tmp_path_factory.mktemp("machine") / "digits",
        train={"instances": 1, "epochs": 4},
        evaluate={"explain": {}},  # with the step that probes
        gate={"floors": {}, "trivial": "warn"},
    )
    settings = yaml.safe_load((digits.folder / "project.yaml").read_text())
    (digits.folder / "project.yaml").write_text(yaml.safe_dump({**settings, "name": NAME}))
    with (digits.folder / "model.py").open("a") as module:
        module.write(SPY.replace("STATE", repr(str(digits.project.state))))
    try:
        with before(server.address, seed=20261128) as proxy:
            s3 = S3(server)
            places = {
                **s3.environment,
                "AWS_ENDPOINT_URL": f"http://{proxy.address}",
                "PERENNIAL_ROOT": s3.new_root(),
                "PERENNIAL_LEDGER_URL": postgres.new_ledger(),
                "PERENNIAL_REGISTRY_URI": registry.address,
            }
            yield Machine(digits, s3, disk if mounted else Path(), proxy, places)
    finally:
        with contextlib.suppress(ProcessLookupError):
            kill(server)
        if mounted:
            subprocess.run(["umount", "-l", disk], check=True)


def test_each_step_sees_nothing_of_this_machine_that_another_one_left(machine):
    """The first champion: all that steps hand on goes through the root and the artifacts."""
    machine.digits.land("--days", "1")
    code, result, printed = machine.run()
    assert (code, result["outcome"]) == (0, "promoted"), printed
    assert "isolated in a mount namespace" in printed or "mount namespaces are refused" in printed
    assert result["report"].startswith(machine.places["PERENNIAL_ROOT"])
    (run,) = machine.runs()
    lines = (run / "kubeflow.log").read_text().splitlines()
    seen = [json.loads(line[5:]) for line in lines if line.startswith("SEEN ")]
    assert len(seen) >= 3  # analysis, transformation, training
    if "mount namespaces are refused" not in printed:
        assert all(not step["state"] and not step["runs"] for step in seen)
    for step in seen:
        assert not step["home"] and not step["working"]
        assert "scratch-of-a-step" not in step["temporary"]
    assert list(machine.digits.project.scratch.iterdir()) == []
    name = machine.ledger.runs()[0][1].selection.run
    command = [PERENNIAL, "logs", machine.digits.folder, name]
    environment = {**os.environ, **machine.places}
    logs = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    steps = [line.split()[1].rstrip(",") for line in logs.stdout.splitlines() if line[:3] == "== "]
    assert steps[0] == "select_spans" and {"prepare_span", "train_model", "push_model"} < set(steps)
    assert logs.stdout.count("SEEN ") == len(seen)


def test_a_root_that_is_full_is_one_message(machine):
    machine.digits.land("--days", "2")
    if machine.disk == Path():
        pytest.skip("mounting a small file system needs root")
    used = os.statvfs(machine.disk)
    machine.resize((used.f_blocks - used.f_bfree) * used.f_frsize // 2**20 + _SLACK)
    filler = machine.disk / "filler"
    filler.write_bytes(bytes((_SLACK - 1) << 20))
    code, result, _ = machine.run()
    assert (code, result["outcome"]) == (1, "failed")
    (reason,) = result["reasons"]
    assert machine.places["PERENNIAL_ROOT"] in reason and "the free space" in reason
    assert "must take new objects" in reason and "\n" not in reason and len(reason) < 500
    filler.unlink()
    machine.resize(_ROOMY)
    wait_for(lambda: takes_objects(machine.s3.server), seconds=150)


def test_a_step_that_is_killed_ends_the_run_with_its_name(machine):
    running = machine.start()
    assert any(" analyse_features " in line for line in running.stderr)
    os.kill(step_of(machine), signal.SIGKILL)
    code, result, _ = ended(running)
    assert (code, result["outcome"]) == (1, "failed")
    assert result["reasons"] == ["transform_features was ended by signal 9"], result


def step_of(machine: Machine) -> int:
    """The process of the step that runs: between its launcher and the keeper of its task's log.

    Both of those write the run's log themselves; what the step prints goes through its keeper.
    """
    log = str(machine.runs()[-1] / "kubeflow.log")
    steps: list[int] = []

    def find() -> bool:
        writers = {entry for entry in _processes() if _writes(entry, log)}
        between = {_parent(entry) for entry in writers} - writers
        steps[:] = [entry for entry in between if _parent(entry) in writers]
        return len(steps) == 1

    wait_for(find, seconds=60)
    return steps[0]


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _writes(process: int, file: str) -> bool:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{process}/fd/2").endswith(file)
    return False


def _parent(process: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def test_the_next_run_finishes_through_slow_cut_and_refused_requests_and_another_run_waits(machine):
    """It finishes what the full root and the kill cut short.

    Of two runs at once one says who the other is.
    """
    machine.proxy.share = 0.15
    try:
        running = machine.start()
        wait_for(machine.is_held, 60)
        code, refused, _ = machine.run()
        assert code == 1 and "one run at a time" in refused["reasons"][0]
        code, result, printed = ended(running)
    finally:
        machine.proxy.share = 0.0
    assert (code, result["outcome"]) in ((0, "promoted"), (0, "kept_champion")), printed
    assert result["new_spans"] == ["2026-01-02"]
    assert len(machine.proxy.met) >= 6 and machine.proxy.met.total() > 20
    assert machine.made("ingest_examples") == 2 and machine.made("analyse_features") == 2
    assert accepted(machine) == ["2026-01-01", "2026-01-02"]


def test_a_broken_day_is_refused_while_the_server_stops_and_starts_again(machine):
    machine.digits.land("--days", "3", "--corrupt", "3=wrong-range")
    running, known = machine.start(), len(machine.runs())
    wait_for(lambda: len(machine.runs()) > known, 60)
    restart(machine.s3.server)
    code, result, printed = ended(running)
    assert (code, result["outcome"]) == (3, "data_rejected"), printed
    assert "2026-01-03" in result["reasons"][0]
    assert accepted(machine) == ["2026-01-01", "2026-01-02"]
    assert machine.run()[1]["outcome"] == "nothing_new"
    verify_ledger(machine.ledger)


def accepted(machine: Machine) -> list[str]:
    return [event.body.span.name for event in machine.ledger.events("span_accepted")]
