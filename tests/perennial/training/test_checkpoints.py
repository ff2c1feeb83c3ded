"""Checkpoints: whole or not there, the newest that can be read, and nothing but numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perennial.results.unfinished import UnfinishedWork
from perennial.training import checkpoints as module
from perennial.training.checkpoints import Checkpoints

STATE = {
    "0001/model/dense/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "0002/seed": np.array([7, 8]),
}
BEST = {"dense/kernel": np.ones((2, 3), np.float32), "empty": np.zeros((0, 4), np.float16)}


@pytest.fixture
def work(root):
    return UnfinishedWork(root, "train_model", "training")


@pytest.fixture
def checkpoints(work, monkeypatch):
    """On a server as on a disk: none is left out to save time."""
    monkeypatch.setattr(module, "_SHARE", 1e9)
    return Checkpoints(work)


def save(checkpoints, step):
    checkpoints.save(step, f'{{"step": {step}, "why": "é"}}', {"state": STATE, "best": BEST})


def test_what_was_saved_comes_back_with_its_types(checkpoints, work):
    save(checkpoints, 12)
    found, damaged = Checkpoints(work).newest()
    assert (found.text, damaged) == ('{"step": 12, "why": "é"}', [])
    assert found.place == f"{checkpoints.place}/step-000000000012.npz"
    for name, arrays in (("state", STATE), ("best", BEST)):
        assert found.groups[name].keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(found.groups[name][key], array, strict=True)


def test_nothing_there(checkpoints):
    assert checkpoints.newest() == (None, [])


def test_the_newest_counts_by_step_and_older_ones_go(checkpoints, work):
    for step in (9, 10, 100):
        save(checkpoints, step)
    assert Checkpoints(work).newest()[0].place.endswith("step-000000000100.npz")
    assert work.parts() == ["step-000000000010.npz", "step-000000000100.npz"]


def test_one_that_goes_on_counts_with_those_that_were_there(checkpoints, work):
    for step in (9, 10):
        save(checkpoints, step)
    again = Checkpoints(work)
    assert again.newest()[0].text.startswith('{"step": 10')
    save(again, 11)
    assert work.parts() == ["step-000000000010.npz", "step-000000000011.npz"]


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "foreign", "pickled"])
def test_a_damaged_file_is_ignored_in_favour_of_an_older_one(tmp_path, damage):
    work = UnfinishedWork(str(tmp_path), "train_model", "training")
    checkpoints = Checkpoints(work)
    for step in (1, 2):
        save(checkpoints, step)
    newer = Path(work.place, work.parts()[-1])
    data = bytearray(newer.read_bytes())
    if damage in ("cut", "empty"):
        newer.write_bytes(data[: len(data) // 2 if damage == "cut" else 0])
    elif damage == "flipped":
        place = data.index(STATE["0001/model/dense/kernel"].tobytes())
        data[place] ^= 1
        newer.write_bytes(data)
    elif damage == "foreign":
        np.savez(newer, weights=np.ones(3))
    else:
        np.savez(newer, progress=np.array([{"a": 1}], dtype=object))
    found, damaged = Checkpoints(work).newest()
    assert found.text.startswith('{"step": 1')
    assert len(damaged) == 1 and str(newer) in damaged[0] and "ignored" in damaged[0]
    assert work.parts() == ["step-000000000001.npz"], "it is not in the way of the next one"


def test_a_writer_that_was_killed_leaves_nothing_that_is_read(tmp_path):
    work = UnfinishedWork(str(tmp_path), "train_model", "training")
    save(Checkpoints(work), 1)
    Path(work.place, ".step-000000000002.npz.123").write_bytes(b"half")
    found, damaged = Checkpoints(work).newest()
    assert found.text.startswith('{"step": 1') and not damaged


def test_other_trainings_keep_theirs(checkpoints, root):
    other = Checkpoints(UnfinishedWork(root, "train_model", "other"))
    save(checkpoints, 1), save(other, 5)
    checkpoints.remove()
    assert checkpoints.newest()[0] is None and other.newest()[0] is not None
    checkpoints.remove()


def test_over_a_network_they_take_a_share_of_the_time(s3, monkeypatch):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "_SHARE", 1e-9)
    work = UnfinishedWork(s3.new_root(), "train_model", "training")
    checkpoints = Checkpoints(work)
    for step in (1, 2, 3):
        save(checkpoints, step)
    assert work.parts() == ["step-000000000001.npz"]
