"""`perennial tensorboard`: the real TensorBoard serves over HTTP what real writers logged."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.cli.tensorboard import fetch_logs, find_logs
from perennial.errors import PerennialError
from perennial.project import Project
from perennial.storage.objects import open_objects
from tests.forked import forked
from tests.perennial.folders import make_project

RUNS = ["20260102-060000-aaaa", "20260103-060000-bbbb"]
SECONDS = 60.0


def write_logs(folder: str, instances: list[str]) -> None:
    """Writes a few steps of each instance by `tf.summary`."""
    import tensorflow as tf

    for instance in instances:
        writer = tf.summary.create_file_writer(f"{folder}/{instance}/train")
        with writer.as_default():
            for step, loss in enumerate((2.3, 1.1, 0.6), start=1):
                tf.summary.scalar("batch_loss", loss, step=step)
        writer.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = make_project(tmp_path_factory.mktemp("tensorboard") / "digits")
    for name in RUNS:
        forked(
            write_logs, str(made.state / "runs" / name / "tensorboard"), ["instance-1", "patched-1"]
        )
    (made.state / "runs" / "20260104-060000-cccc").mkdir()  # one that did not train
    return made


@contextmanager
def board(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Runs the command in a process of its own; gives its address, once it listens."""
    command = [sys.executable, "-m", "perennial.cli.main", "tensorboard", *arguments]
    # A test run in the background ignores Ctrl-C, and so would what it starts.
    hear_interrupts = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=hear_interrupts,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+/", line)
            assert address, line + process.stdout.read()
            yield address[0], process
        finally:
            process.kill()


def ask(address: str, what: str, count: int) -> Any:
    """Asks TensorBoard until its answer has as many entries as are expected."""
    until = time.monotonic() + SECONDS
    while True:
        with urllib.request.urlopen(address + what) as response:
            answer = json.loads(response.read())
        if len(answer) >= count or time.monotonic() > until:
            return answer
        time.sleep(0.2)


def test_all_runs_are_served_and_control_c_ends_it_cleanly(project: Project) -> None:
    with board(str(project.folder), "--port", "0") as (address, process):
        names = {
            f"{run}/tensorboard/{name}/train"
            for run in RUNS
            for name in ("instance-1", "patched-1")
        }
        assert set(ask(address, "data/runs", 4)) == names
        tags = ask(address, "data/plugin/scalars/tags", 4)
        assert set(tags) == names and all(list(each) == ["batch_loss"] for each in tags.values())
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
        assert process.stdout is not None
        assert process.stdout.read().split() == ["TensorBoard", "ended"]


def test_one_run_alone_and_the_values_that_it_logged(project: Project) -> None:
    with board(str(project.folder), "--run", RUNS[1], "--port", "0") as (address, _):
        assert set(ask(address, "data/runs", 2)) == {"instance-1/train", "patched-1/train"}
        values = ask(
            address, "data/plugin/scalars/scalars?run=instance-1%2Ftrain&tag=batch_loss", 3
        )
        assert [(step, round(value, 3)) for _, step, value in values] == [
            (1, 2.3),
            (2, 1.1),
            (3, 0.6),
        ]


def test_logs_of_a_root_on_a_server_are_fetched_once(
    s3: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {**s3.environment, "PERENNIAL_ROOT": s3.new_root()}.items():
        monkeypatch.setenv(name, value)
    project = make_project(tmp_path / "digits")
    objects = open_objects(project.root)
    for run in RUNS:
        objects.write_once(f"runs/{run}/tensorboard/instance-1/train/events", run.encode())
        objects.write_once(f"runs/{run}/report.html", b"report")
    fetch_logs(project, RUNS[1])
    assert [path.name for path in (project.state / "runs").iterdir()] == [RUNS[1]]
    fetch_logs(project, None)
    logs = find_logs(project, None)
    files = {path.relative_to(logs).as_posix() for path in logs.rglob("*") if path.is_file()}
    assert files == {f"{run}/tensorboard/instance-1/train/events" for run in RUNS}
    fetched = capsys.readouterr().out
    assert fetched.count("fetched 1 file, 20 bytes, from s3://") == 2
    fetch_logs(project, None)
    assert capsys.readouterr().out == ""


def test_a_port_that_is_taken_is_named(project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["tensorboard", str(project.folder), "--port", port])
    assert isinstance(result.exception, PerennialError)
    assert str(result.exception).startswith(
        f"--port must be free on this machine. Received: {port}."
    )
    assert "--port 0" in result.exception.remedy


def test_a_project_that_never_trained_says_what_writes_logs(tmp_path: Path) -> None:
    with pytest.raises(
        PerennialError,
        match=r"project digits must have a run that trained to its end.*perennial run",
    ):
        find_logs(make_project(tmp_path / "digits"), None)


@pytest.mark.parametrize(
    ("run", "remedy"),
    [("20260103-060000-bbb", f"Did you mean `{RUNS[1]}`"), ("yesterday", "perennial status")],
)
def test_a_run_without_logs_is_told_which_have_some(
    project: Project, run: str, remedy: str
) -> None:
    with pytest.raises(PerennialError) as raised:
        find_logs(project, run)
    assert (
        str(raised.value).startswith("--run must be a run with logs")
        and remedy in raised.value.remedy
    )
    assert RUNS[0] in raised.value.expected and raised.value.received == run


def test_a_run_that_did_not_train_has_none(project: Project) -> None:
    with pytest.raises(PerennialError, match="must be a run with logs"):
        find_logs(project, "20260104-060000-cccc")
