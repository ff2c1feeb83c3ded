"""Reading needs no writing: commands that only look work on a full disk and in a read-only folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.cli.predict import predict_file
from perennial.errors import LedgerError
from perennial.ledger.events import Ledger
from perennial.project import load_project
from tests.forked import forked
from tests.perennial.records import run_started

_ROOM = 2 << 20  # bytes, before it is full


@pytest.fixture(scope="module", params=["full disk", "read-only folder"])
def place(request, chain, tmp_path_factory):
    """The chain's project, with its registry and its champion, where nothing can be written."""
    disk = tmp_path_factory.mktemp("disk")
    source = chain.project.folder
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    options = ["-t", "tmpfs", "-o", f"size={2 * size + _ROOM}", "tmpfs", disk]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        shutil.copytree(source, disk / "digits")
        for beside in ("models", "reconciled.json"):
            shutil.rmtree(disk / "digits" / ".perennial" / beside, ignore_errors=True)
        if request.param == "full disk":
            _fill(disk / "filled")
        else:
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        yield disk / "digits"
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def _fill(path):
    handle = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        for size in (1 << 20, 1 << 12):
            while True:
                try:
                    os.write(handle, b"x" * size)
                except OSError:
                    break
    finally:
        os.close(handle)


def invoke(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, f"{done.stderr} {done.exception!r}"
    return done.stdout


def test_ledger_and_registry_are_read(place):
    version = load_project(place).settings.name
    assert "champion  version 1" in invoke("status", place)
    assert "version 1  pushed by a test" in invoke("history", place)
    assert "2026-01-01" in invoke("spans", "list", place)
    assert f"version 1 of {version} and serves now" in invoke("explain", place, "1")


def test_the_champion_scores_a_file_into_another_folder(place, tmp_path):
    data = sorted((place / "data").iterdir())[0]
    forked(predict_file, str(place), str(data), str(tmp_path / "scored.parquet"), "0")
    scored = pq.read_table(tmp_path / "scored.parquet")
    assert (
        scored.num_rows == pq.read_table(data).num_rows and "predicted_class" in scored.schema.names
    )


def test_a_run_says_why_it_cannot_begin_in_its_line_of_json(place):
    done = CliRunner().invoke(app, ["run", str(place), "--json"])
    record = json.loads(done.stdout.splitlines()[-1])
    assert done.exit_code == 1 and record["outcome"] == "failed"
    assert "no space left on the disk" in record["reasons"][0] or (
        "a read-only file system" in record["reasons"][0]
    )


def test_appending_is_refused_with_the_reason(place):
    url = load_project(place).ledger_url
    with pytest.raises(LedgerError, match=r"no space left|a read-only file system"):
        Ledger(url).append(run_started("r9"))
    assert len(Ledger(url).deployments()) == 1


@pytest.mark.parametrize("reading", ["full disk", "read-only folder"])
def test_events_of_a_killed_process_are_not_lost_to_readers(tmp_path, reading):
    """They lie in the log beside the database until somebody may write again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("mounting a small file system needs root")
    url = f"sqlite:///{disk / 'ledger.db'}"
    try:
        if (child := os.fork()) == 0:
            ledger = Ledger(url)
            ledger.append(run_started("r1"), run_started("r2"))
            os._exit(0)  # as if killed: nothing is closed
        os.waitpid(child, 0)
        (disk / "ledger.db-shm").unlink()
        if reading == "full disk":
            _fill(disk / "filled")
        else:
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert [event.run for event in Ledger(url).events()] == ["r1", "r2"]
        assert Ledger(f"sqlite:///{disk / 'none' / 'ledger.db'}").events() == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
