"""A folder and an S3 server keep objects alike: once, whole, and with the same messages."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from perennial.errors import StoreError
from perennial.storage import objects as module
from perennial.storage.faults import is_passing
from perennial.storage.objects import open_objects


@pytest.fixture
def objects(root):
    return open_objects(root)


def test_an_object_is_written_once(objects):
    assert objects.read("a/b.json") is None
    assert objects.write_once("a/b.json", b"first") is True
    assert objects.write_once("a/b.json", b"second") is False
    assert objects.read("a/b.json") == b"first"


def test_of_many_writers_at_once_one_wins(root):
    barrier, written = threading.Barrier(8), []

    def write(number: int) -> None:
        objects = open_objects(root)
        barrier.wait()
        if objects.write_once("one", b"%d" % number):
            written.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1 and open_objects(root).read("one") == b"%d" % written[0]


def test_a_file_comes_back_as_it_was(objects, tmp_path):
    data = bytes(range(256)) * 50_000
    (tmp_path / "file").write_bytes(data)
    objects.add(tmp_path / "file", "objects/ab/abc")
    objects.add(tmp_path / "file", "objects/ab/abc")
    objects.fetch("objects/ab/abc", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == data


def test_objects_are_listed_with_their_sizes_and_removed(objects):
    for name in ("results/a/1", "results/a/2", "results/b/1"):
        objects.write_once(name, name.encode() * 2)
    now = datetime.now(UTC)
    listed = sorted(objects.list("results/a"))
    assert [(each.name, each.size) for each in listed] == [("results/a/1", 22), ("results/a/2", 22)]
    assert all(abs(now - each.written) < timedelta(minutes=5) for each in listed)
    objects.delete("results/a/1")
    objects.delete("results/a/1")
    assert [each.name for each in objects.list("results/a")] == ["results/a/2"]
    assert list(objects.list("nothing")) == []


def test_what_is_gone_is_named(objects, tmp_path):
    with pytest.raises(StoreError, match=r"must hold what earlier steps made\. Received: no x/y"):
        objects.fetch("x/y", tmp_path / "file")


def test_another_process_s_write_is_seen_at_once(root):
    """The driver remembers listings; a worker that looked before sees what came since."""
    first = open_objects(root)
    module._open_remote.cache_clear()
    second = open_objects(root)
    assert first.read("results/1") is None and list(first.list("results")) == []
    second.write_once("results/1", b"now")
    assert first.read("results/1") == b"now"
    assert [each.name for each in first.list("results")] == ["results/1"]


def test_a_server_that_refuses_is_one_message(s3, monkeypatch):
    """Also where the same process was welcome before: the account is today's, not the first."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    root = s3.new_root()
    assert open_objects(root).read("anything") is None
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError, match="must be readable") as raised:
        open_objects(root).read("anything")
    assert "the account's rights" in str(raised.value) and len(str(raised.value)) < 400


def test_a_root_that_no_driver_knows_is_refused():
    with pytest.raises(StoreError, match="root nowhere://bucket must be a place that a driver"):
        open_objects("nowhere://bucket")


def test_a_half_written_file_is_no_object(tmp_path):
    """As a kill leaves it: under the name of a temporary file."""
    objects = open_objects(str(tmp_path))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / ".one.json.k3j").write_bytes(b"{")
    assert list(objects.list("results")) == []


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError(5, "input/output error"), True),
        (OSError(28, "no space left"), False),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (ValueError(), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_what_can_pass_is_tried_again(error, passing):
    assert is_passing(error) is passing
