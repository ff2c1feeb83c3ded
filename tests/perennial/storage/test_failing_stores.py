"""A store that is slow, busy, broken, cut off or full: what was stored is whole, and is there once."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest

from perennial.errors import StoreError
from perennial.processes import find_free_ports
from perennial.storage import faults
from perennial.storage import objects as objects_module
from perennial.storage.faults import is_passing
from perennial.storage.objects import open_objects
from tests.faulty_proxy import FAULTS, Fault, FaultyProxy, before


@pytest.fixture(scope="module")
def proxy(s3):
    with before(s3.server.address) as running:
        yield running


@pytest.fixture
def objects(s3, proxy: FaultyProxy, monkeypatch):
    """An empty root behind the proxy."""
    environment = s3.environment | {"AWS_ENDPOINT_URL": f"http://{proxy.address}"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield open_objects(s3.new_root())
    proxy.plan.clear()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_costs_only_time(objects, proxy, tmp_path, fault):
    data = bytes(range(256)) * 400
    (tmp_path / "file").write_bytes(data)
    for work in (
        lambda: objects.write_once("folder/written", data),
        lambda: objects.add(tmp_path / "file", "folder/added"),
        lambda: objects.fetch("folder/added", tmp_path / "again"),
        lambda: objects.delete("nothing"),
    ):
        proxy.plan.append(fault)
        work()
    for name in ("folder/written", "folder/added"):
        proxy.plan.append(fault)
        assert objects.read(name) == data
    assert (tmp_path / "again").read_bytes() == data
    assert objects.write_once("folder/written", b"other") is False
    proxy.plan.append(fault)
    assert len(list(objects.list("folder"))) == 2


def test_a_large_file_is_whole_where_the_connection_ended_in_its_middle(objects, proxy, tmp_path):
    data = bytes(60 << 20)
    (tmp_path / "file").write_bytes(data)
    proxy.plan.extend(["busy", "cut request", "cut request"])
    objects.add(tmp_path / "file", "large")
    proxy.plan.extend([None, "cut answer", None, "cut answer"])
    objects.fetch("large", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == data


def test_a_server_that_never_answers_is_given_up(s3, proxy, monkeypatch):
    """Each try waits as long as a slow server may take; there are not many of them."""
    monkeypatch.setattr(objects_module, "_SILENT_SECONDS", 0.2)
    monkeypatch.setattr(faults, "PATIENCE", 0.5)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{proxy.address}")
    requests = proxy.requests
    proxy.plan.extend(["silent"] * 100)
    with pytest.raises(StoreError, match=r"root s3://.* must be readable"):
        open_objects(s3.new_root()).read("anything")
    proxy.plan.clear()
    assert proxy.requests - requests < 5


def tries(objects, proxy: FaultyProxy, fault: Fault) -> int:
    """How many requests one write makes before it is given up, as all meet a fault."""
    before_it = proxy.requests
    proxy.plan.extend([fault] * 1000)
    with pytest.raises(StoreError, match=r"root s3://.* must take new objects"):
        objects.write_once("one", b"data")
    proxy.plan.clear()
    return proxy.requests - before_it


def test_a_store_that_is_full_is_told_at_once(objects, proxy):
    assert tries(objects, proxy, "full") <= 2  # and whether it is there


def test_a_store_that_only_reads_is_waited_for_once(objects, proxy, monkeypatch):
    """As S3 answers 500 where it is full: once it is given up, each write is tried once."""
    monkeypatch.setattr(faults, "PATIENCE_BROKEN", 1.0)
    assert tries(objects, proxy, "broken") > 3
    assert objects.read("nothing") is None
    assert tries(objects, proxy, "broken") <= 2
    assert objects.write_once("one", b"data") is True
    assert tries(objects, proxy, "broken") > 3


@pytest.mark.parametrize("answered", [False, True])
def test_an_address_where_nothing_answers_is_told_sooner_than_a_server_that_starts_again(
    s3, monkeypatch, answered
):
    monkeypatch.setattr(faults, "PATIENCE_ABSENT", 0.5)
    monkeypatch.setattr(faults, "PATIENCE", 3600.0)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    (free,) = find_free_ports(1)
    address = f"127.0.0.1:{free}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
    objects = open_objects(s3.new_root())
    if not answered:
        with pytest.raises(StoreError, match="Could not connect to the endpoint"):
            objects.read("anything")
        return
    objects.assume_answered()
    starting = threading.Timer(2.0, lambda: relays.enter_context(before(s3.server.address, free)))
    with ExitStack() as relays:
        starting.start()
        assert objects.read("anything") is None
        starting.join()


def test_without_an_account_nothing_is_tried_for_long(s3, monkeypatch, tmp_path):
    for name in s3.environment:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"(?i)credentials") as raised:
        open_objects(s3.new_root()).write_once("one", b"data")
    assert time.monotonic() - began < faults.PATIENCE and len(str(raised.value)) < 400


@pytest.mark.parametrize("code", ["IncompleteBody", "BadDigest", "RequestTimeout"])
def test_what_was_damaged_on_its_way_is_sent_again(code):
    """S3's driver gives these the same number as a request that is wrong."""
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    def answer(code: str) -> BaseException:
        return translate_boto_error(ClientError({"Error": {"Code": code}}, "PutObject"))

    assert is_passing(answer(code)) and not is_passing(answer("InvalidArgument"))
