"""The memo of fingerprints.

What did not change is not read again, and what did is never taken for the old.
"""

from __future__ import annotations

import json
import os
import time

import pytest

from perennial.storage import fingerprints as module
from perennial.storage.digests import digest_file
from perennial.storage.fingerprints import Fingerprints, fingerprint, memo_in
from perennial.storage.objects import open_objects

RACY_SECONDS = module._RACY_NS / 1e9


@pytest.fixture
def hashed(monkeypatch):
    """The files that were read."""
    read: list[str] = []
    really = module.open_bytes

    def open_and_note(file, **options):
        read.append(file)
        return really(file, **options)

    monkeypatch.setattr(module, "open_bytes", open_and_note)
    return read


@pytest.fixture
def later(monkeypatch):
    """Makes the files of the test old: hashing is said to happen an hour later."""
    really = time.time_ns
    monkeypatch.setattr(module.time, "time_ns", lambda: really() + 3600 * 10**9)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.csv").write_text("first")
    return tmp_path / "a.csv"


@pytest.fixture
def memo(tmp_path):
    return memo_in(str(tmp_path / "root"), "spans")


def _of(memo, path):
    with Fingerprints(memo) as fingerprints:
        return fingerprints.of(str(path), [str(path)])


def test_an_old_file_is_read_once(path, memo, hashed, later):
    assert {_of(memo, path) for _ in range(3)} == {digest_file(path)}
    assert hashed == [str(path)]


def test_a_file_that_was_written_just_now_is_read_again(path, memo, hashed):
    first = _of(memo, path)
    stat = path.stat()
    path.write_text("other")  # the same size, and possibly within the same tick of the clock
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert _of(memo, path) != first and len(hashed) == 2


@pytest.mark.parametrize("how", ["bytes", "replaced", "in place with its old time"])
def test_a_change_of_an_old_file_is_seen(path, memo, tmp_path, later, how):
    first, stat = _of(memo, path), path.stat()
    time.sleep(0.05)  # more than a tick
    if how == "replaced":
        (tmp_path / "new").write_text("other")
        os.replace(tmp_path / "new", path)
    else:
        path.write_text("other")
    if how != "bytes":
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert _of(memo, path) == digest_file(path) != first


@pytest.mark.parametrize("broken", ["", "{", "[1]", '{"a": 1}', '{"a": [1, 2, 3]}', "\x00", "null"])
def test_a_broken_memo_is_made_anew(path, memo, later, broken):
    memo.add(memo.newest(), broken.encode())
    assert _of(memo, path) == digest_file(path)
    assert list(json.loads(memo.newest().data)) == [str(path)]


def test_another_machine_over_the_same_root_reads_no_file_again(path, root, hashed, later):
    assert {_of(memo_in(root, "spans"), path) for _ in range(3)} == {digest_file(path)}
    assert hashed == [str(path)]
    assert len(list(open_objects(root).list("memos"))) == 1


def test_the_memo_forgets_what_is_gone(path, memo, tmp_path, later):
    other = tmp_path / "b.csv"
    other.write_text("b")
    with Fingerprints(memo) as fingerprints:
        fingerprints.of(f"{tmp_path}/*.csv", [str(path), str(other)])
    assert len(json.loads(memo.newest().data)) == 2
    _of(memo, path)
    assert list(json.loads(memo.newest().data)) == [str(path)]


def test_a_memo_that_cannot_be_written_costs_time_only(path, tmp_path, later):
    (tmp_path / "state").write_text("a file where the folder should be")
    assert _of(memo_in(str(tmp_path / "state"), "spans"), path) == digest_file(path)


def test_without_a_memo_everything_is_read(path, hashed, later):
    assert fingerprint(str(path)) == fingerprint(str(path)) == digest_file(path)
    assert len(hashed) == 2
