"""Child processes end with the process that started them, whenever that is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perennial.processes import find_free_ports

CHILD = """
import time
from pathlib import Path

from perennial.processes import die_with_parent


def work(early, folder, delay):
    if early:
        die_with_parent()
    (folder / "began").touch()
    time.sleep(delay)
    if not early:
        die_with_parent()
    (folder / "survived").touch()
"""
# As steps are forked: from a process that has asked, too.
WARM = """
from perennial.processes import die_with_parent

die_with_parent()
"""
STARTER = """
import multiprocessing, sys
from pathlib import Path

import child

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    multiprocessing.set_forkserver_preload(["warm"])
    process = context.Process(target=child.work, args=(sys.argv[2] == "early", Path(sys.argv[3]), float(sys.argv[4])))
    process.start()
    process.join()
"""


def start(tmp_path: Path, method: str, asks: str, delay: float) -> subprocess.Popen[bytes]:
    (tmp_path / "child.py").write_text(CHILD)
    (tmp_path / "warm.py").write_text(WARM)
    (tmp_path / "starter.py").write_text(STARTER)
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    command = [sys.executable, tmp_path / "starter.py", method, asks, tmp_path, str(delay)]
    process = subprocess.Popen(list(map(str, command)), env={**os.environ, "PYTHONPATH": paths})
    while not (tmp_path / "began").exists():
        assert process.poll() is None
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
@pytest.mark.parametrize("asks", ["early", "late"])
def test_a_child_of_a_killed_process_ends(tmp_path, method, asks):
    """Also one that asks only when its starter, and the process that it was forked from, are gone."""
    process = start(tmp_path, method, asks, delay=1.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2.5)
    assert not (tmp_path / "survived").exists()


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_a_child_lives_on_while_its_starter_does(tmp_path, method):
    assert start(tmp_path, method, "late", delay=0.1).wait(60) == 0
    assert (tmp_path / "survived").exists()


def test_free_ports_differ_and_can_be_listened_on():
    ports = find_free_ports(3)
    assert len(set(ports)) == 3
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
