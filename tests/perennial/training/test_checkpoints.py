"""Checkpoints: whole or not there, the newest that can be read, and nothing but numbers."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from perennial.training.checkpoints import Checkpoints, prune_checkpoints

STATE = {
    "0001/model/dense/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "0002/seed": np.array([7, 8]),
}
BEST = {"dense/kernel": np.ones((2, 3), np.float32), "empty": np.zeros((0, 4), np.float16)}


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", "training")


def save(checkpoints, step):
    return checkpoints.save(step, f'{{"step": {step}, "why": "é"}}', {"state": STATE, "best": BEST})


def test_what_was_saved_comes_back_with_its_types(checkpoints):
    file = save(checkpoints, 12)
    found, damaged = checkpoints.newest()
    assert (found.file, found.text, damaged) == (file, '{"step": 12, "why": "é"}', [])
    for name, arrays in (("state", STATE), ("best", BEST)):
        assert found.groups[name].keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(found.groups[name][key], array, strict=True)


def test_nothing_there(checkpoints):
    assert checkpoints.newest() == (None, [])


def test_the_newest_counts_by_step_and_older_ones_go(checkpoints):
    for step in (9, 10, 100):
        save(checkpoints, step)
    assert checkpoints.newest()[0].file.name == "step-000000000100.npz"
    assert len(list(checkpoints.folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "foreign", "pickled"])
def test_a_damaged_file_is_ignored_in_favour_of_an_older_one(checkpoints, damage):
    older, newer = save(checkpoints, 1), save(checkpoints, 2)
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
    found, damaged = checkpoints.newest()
    assert found.file == older
    assert len(damaged) == 1 and str(newer) in damaged[0] and "ignored" in damaged[0]


def test_a_writer_that_was_killed_leaves_nothing_that_is_read(checkpoints):
    file = save(checkpoints, 1)
    (checkpoints.folder / f".{file.name}.123").write_bytes(b"half")
    found, damaged = checkpoints.newest()
    assert found.file == file and not damaged


def test_other_trainings_keep_theirs(checkpoints):
    other = Checkpoints(checkpoints.root, "other")
    save(checkpoints, 1), save(other, 5)
    checkpoints.remove()
    assert checkpoints.newest()[0] is None and other.newest()[0] is not None
    checkpoints.remove()


def test_unused_ones_are_removed_after_their_time(checkpoints):
    used, unused, read = (
        Checkpoints(checkpoints.root, name) for name in ("used", "unused", "read")
    )
    old = time.time() - 31 * 86_400
    for each in (used, unused, read):
        file = save(each, 1)
        if each is not used:
            os.utime(file, (old, old)), os.utime(each.folder, (old, old))
    read.newest()
    assert prune_checkpoints(checkpoints.root) == ["unused"]
    assert sorted(path.name for path in checkpoints.root.iterdir()) == ["read", "used"]
    assert prune_checkpoints(checkpoints.root / "absent") == []
