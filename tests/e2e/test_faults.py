"""Runs that are started twice, out of disk, or given a project with a mistake in it."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from perennial.ledger.verification import verify_ledger

from .conftest import make_digits, start, wait_for, with_a_wrong_label

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

# One instance, trained for a moment: how good it is does not matter here.
QUICK = {"train": {"instances": 1, "epochs": 2}, "gate": {"floors": {}, "trivial": "warn"}}


def test_a_second_run_stops_until_the_first_is_asleep_which_then_records_nothing_more(tmp_path):
    """A laptop that was closed in the middle of a run, while another machine ran the loop."""
    digits = make_digits(tmp_path / "digits", **QUICK, runner={"lease_seconds": 2})
    digits.land("--days", "1")
    first = start(digits)
    try:
        wait_for(lambda: digits.ledger.events("run_started"), seconds=60)
        fence = digits.ledger.lease().fence
        second = digits.command("run", "--json")
        assert second.returncode == 1 and "Traceback" not in second.stderr
        assert "one run at a time" in second.stderr and f"process {first.pid}" in second.stderr
        answer = json.loads(second.stdout.splitlines()[-1])
        assert answer["outcome"] == "failed" and "one run at a time" in answer["reasons"][0]
        first.send_signal(signal.SIGSTOP)
        wait_for(lambda: digits.ledger.lease().age > 2)
        code, ended = digits.run_command()
        assert (code, ended["outcome"]) == (0, "promoted")
    finally:
        first.send_signal(signal.SIGCONT)
        out, _ = first.communicate()
    assert first.returncode == 1 and "must hold the project's lease" in out
    assert "took over" in out and "no sign of life" in out and "Traceback" not in out
    ledger = digits.ledger
    verify_ledger(ledger)
    rows = ledger.read_chain(0, 99)
    taken = {row.run: row.number for row in rows if row.kind == "lease_taken"}
    assert len(taken) == 2
    recorded = [row for row in rows if row.kind != "lease_taken"]
    assert all(row.fence == taken[row.run] for row in recorded)
    assert [row.kind for row in recorded if row.fence == fence] == ["run_started"]
    assert [row.kind for row in recorded if row.fence != fence] == [
        "run_started",
        "registration_begun",
        "decision",
        "deployment",
        "span_accepted",
        "run_ended",
    ]


def test_full_disk_ends_in_a_message_and_loses_nothing(tmp_path, monkeypatch):
    """What steps make goes to a file system with room for little, which is then made larger."""
    digits = make_digits(tmp_path / "digits", **QUICK)
    digits.land("--days", "1")
    root = tmp_path / "root"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", root]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    monkeypatch.setenv("PERENNIAL_ROOT", str(root))
    try:
        done = digits.command("run", "--json")
        result = json.loads(done.stdout.splitlines()[-1])
        assert done.returncode == 1 and result["outcome"] == "failed"
        said, _, log = result["reasons"][0].partition(" (all of it: ")
        assert "no space left on the disk" in said and len(said) < 200
        assert "kubeflow.log, line" in log and "Traceback" not in done.stderr
        assert digits.ledger.judged_spans() == {} and digits.ledger.champion() is None
        subprocess.run(["mount", "-o", "remount,size=200m", root], check=True)
        assert digits.run_command()[1]["outcome"] == "promoted"
    finally:
        subprocess.run(["umount", "-l", root], check=True)


MISTAKES = {
    "no model": (lambda d: (d / "model.py").unlink(), "model.py", "must exist"),
    "syntax error": (
        lambda d: _edit(d / "model.py", "def build_model(", "def build_model(("),
        "model.py:",
        "valid Python",
    ),
    "no build_model": (
        lambda d: _edit(d / "model.py", "def build_model", "def make_model"),
        "model.py",
        "build_model",
    ),
    "label not in the data": (
        lambda d: _edit(d / "project.yaml", "label: label", "label: labell"),
        "label",
        "Did you mean",
    ),
    "unknown key": (
        lambda d: _edit(d / "project.yaml", "train:", "trian:"),
        "trian",
        "Did you mean `train`?",
    ),
    "no settings": (lambda d: (d / "project.yaml").unlink(), "project.yaml", "perennial init"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_in_the_project_is_one_clear_message(tmp_path, name):
    digits = make_digits(tmp_path / "digits")
    make, where, says = MISTAKES[name]
    make(digits.folder)
    done = digits.command("run")
    assert done.returncode == 2
    assert where in done.stderr and says in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_mistake_that_shows_only_while_training_names_its_line(tmp_path):
    """What the checks of the data warn of is told all the same: the row without a digit's label."""
    digits = make_digits(tmp_path / "digits", **QUICK)
    digits.land("--days", "1")
    with_a_wrong_label(digits.folder / "data" / "2026-01-01.parquet")
    _edit(
        digits.folder / "model.py",
        "keras.layers.Reshape((SIDE, SIDE, 1))",
        "keras.layers.Reshape((SIDE, 9, 1))",
    )
    code, result = digits.run_command()
    assert code == 2 and result["outcome"] == "failed"
    assert "model.py:" in result["reasons"][0] and "build_model" in result["reasons"][0]
    assert (Path(result["report"])).is_file()
    (warning,) = (each for each in result["warnings"] if each["kind"] == "rows")
    assert warning["span"] == "2026-01-01" and "label" in warning["message"]
    assert result["warned"] and "rows" in digits.command("status").stdout
    assert digits.ledger.champion() is None
    # Nothing was lost: corrected, the same span is trained on.
    _edit(
        digits.folder / "model.py",
        "keras.layers.Reshape((SIDE, 9, 1))",
        "keras.layers.Reshape((SIDE, SIDE, 1))",
    )
    assert digits.run_command()[1]["outcome"] == "promoted"


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
