"""Tasks that do not depend on each other run side by side.

What happens when one fails or the run is ended.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perennial.processes import is_alive
from perennial.runner import local_run
from tests.runner import pipelines

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_imports(monkeypatch):
    """Lets `pipelines.run` say that its tasks need no imports."""
    monkeypatch.setattr(local_run, "STEP_GROUPS", local_run.STEP_GROUPS)


def test_independent_tasks_overlap(tmp_path):
    """Each waits for another to begin: in turn, none would end."""
    ran = pipelines.run(pipelines.meetings, tmp_path, at_once=6)
    assert ran.succeeded, ran.run.failures
    assert [path.read_text() for path in tmp_path.glob("artifacts/*/join/letter")] == ["a b 1 2"]
    # Which ends first is open: `join` waits for no task of the conditional DAG.
    assert sorted((line.split()[1], "6 tasks" in line) for line in ran.printed) == [
        ("join", False),
        ("meet", True),
    ]


def test_no_more_run_at_once_than_are_allowed(tmp_path):
    ran = pipelines.run(pipelines.in_turn, tmp_path, at_once=1)
    assert ran.succeeded, ran.run.failures
    assert [path.read_text() for path in tmp_path.glob("artifacts/*/join/letter")] == ["a b 1 2"]


def test_when_one_fails_those_beside_it_are_finished_and_nothing_else_begins(tmp_path):
    ran = pipelines.run(pipelines.failing, tmp_path, at_once=2)
    assert not ran.succeeded
    (failure,) = ran.run.failures
    place = re.fullmatch(
        r"fail failed: ValueError: this one fails \(all of it: (.*), line (\d+)\)", failure.message
    )
    assert place is not None, failure.message
    lines = Path(place[1]).read_text().splitlines()[int(place[2]) - 1 :]
    # Tasks beside it write into the same log.
    assert any(line.startswith("Traceback") for line in lines)
    assert "ValueError: this one fails" in lines
    assert (tmp_path / "a-ended").exists() and not (tmp_path / "after").exists()
    assert (tmp_path / "cleaned-up").read_text() == "FAILED"
    assert [line[0] for line in ran.printed if "fail" in line] == ["✗"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ended_run_leaves_nothing_running(tmp_path, number):
    command = [sys.executable, "-m", "tests.runner.pipelines", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for(
        lambda: all(
            (tmp_path / name).exists() and "." in (tmp_path / name).read_text() for name in "ab"
        )
    )
    tasks = [int((tmp_path / name).read_text().rstrip(".")) for name in "ab"]
    process.send_signal(number)
    _, error = process.communicate(timeout=20)  # long before the tasks would have ended
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in error) == (number == signal.SIGINT)
    wait_for(lambda: not any(map(is_alive, tasks)))


def wait_for(condition, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)
