"""Files wherever they lie: what is read is what lies there, whole, or a message says why not."""

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import http.server
import lzma
import os
import threading

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import DataError
from perennial.storage.compression import CORRUPT
from perennial.storage.files import expand, open_bytes
from perennial.storage.fingerprints import Fingerprints, memo_in
from tests.perennial.other_account import as_nobody

COMPRESS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
CONTENTS = b"a,b\n1,2\n" * 1000 + os.urandom(20_000)


class _Server(http.server.SimpleHTTPRequestHandler):
    """Files of a folder with strong ETags, as object stores have them.

    Counts the bodies that it sent.
    """

    sent: list[str]

    def end_headers(self):
        path = self.translate_path(self.path)
        if self.server.tagged and os.path.isfile(path):
            with open(path, "rb") as stream:
                self.send_header("ETag", f'"{hashlib.md5(stream.read()).hexdigest()}"')
        super().end_headers()

    def do_GET(self):
        self.server.sent.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def web(tmp_path):
    """A folder that is served over HTTP, and its server; the address is `server.address`."""
    folder = tmp_path / "web"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Server, directory=folder)
    )
    server.sent, server.tagged, server.folder = [], True, folder
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def _read(uri, **how):
    with open_bytes(str(uri), **how) as stream:
        return stream.read()


@pytest.mark.parametrize("suffix", ["", *COMPRESS])
def test_compressed_files_are_read_as_what_they_hold(tmp_path, suffix):
    path = tmp_path / f"a.csv{suffix}"
    stored = COMPRESS[suffix](CONTENTS) if suffix else CONTENTS
    path.write_bytes(stored)
    assert _read(path) == _read(f"file://{path}") == CONTENTS
    assert _read(path, decompress=False) == stored


@pytest.mark.parametrize("suffix", COMPRESS)
def test_several_compressed_files_in_one_are_read_to_the_end(tmp_path, suffix):
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(COMPRESS[suffix](b"first\n") + COMPRESS[suffix](CONTENTS))
    assert _read(path) == b"first\n" + CONTENTS


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_file_that_is_cut_off_or_none_is_never_a_short_file(tmp_path, suffix):
    path = tmp_path / f"a.csv{suffix}"
    whole = COMPRESS[suffix](CONTENTS)
    for broken in (
        whole[:-1],
        whole[: len(whole) // 2],
        b"no such thing" * 10,
        whole[:100] + b"x" * 50 + whole[150:],
    ):
        path.write_bytes(broken)
        with pytest.raises((*CORRUPT, OSError)) as told:
            _read(path)
        assert getattr(told.value, "errno", None) is None


@given(st.lists(st.binary(max_size=5000), max_size=4), st.integers(1, 3000))
def test_zstandard_in_any_frames_and_steps(parts, step):
    from io import BytesIO

    from perennial.storage.compression import decompressor

    stream = decompressor(".zst")(BytesIO(b"".join(map(zstandard.compress, parts))))
    assert b"".join(iter(lambda: stream.read(step), b"")) == b"".join(parts)


def test_names_with_a_wildcard_are_expanded_in_order(tmp_path):
    for name in ("b.csv", "a.csv", "c.txt", ".d.csv"):
        (tmp_path / name).write_text(name)
    (tmp_path / "e.csv").mkdir()
    assert expand(f"{tmp_path}/*.csv") == [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    assert expand(str(tmp_path / "c.txt")) == [str(tmp_path / "c.txt")]


def test_what_is_not_there_is_named(tmp_path):
    (tmp_path / "file").write_text("a file")
    for uri, received in [
        (tmp_path / "none.csv", "no such file"),
        (tmp_path / "file" / "none.csv", "a part of its path is a file"),
        (tmp_path, "a folder"),
    ]:
        with pytest.raises(DataError, match=f"{uri} must be a file. Received: {received}"):
            _read(uri)
    for uri in (tmp_path / "none.csv", f"{tmp_path}/*.parquet"):
        with pytest.raises(DataError, match="no such file"):
            expand(str(uri))
    with pytest.raises(DataError, match="a folder"):
        expand(str(tmp_path))


def test_a_file_that_may_not_be_read_is_named(tmp_path):
    (tmp_path / "closed.csv").write_text("x")
    (tmp_path / "closed.csv").chmod(0)
    done = as_nobody(
        tmp_path, "with perennial.storage.files.open_bytes(folder + '/closed.csv') as stream: pass"
    )
    assert (
        f"DataError: {tmp_path}/closed.csv must be readable. Received: Permission denied."
        in done.stderr
    )


def test_a_driver_that_is_not_installed_is_named():
    with pytest.raises(
        DataError, match=r"abfs://bucket/a\.csv needs the package adlfs.*pip install adlfs"
    ):
        _read("abfs://bucket/a.csv")


def test_an_unknown_protocol_is_named():
    with pytest.raises(
        DataError, match=r"nowhere://a\.csv must be on a file system that fsspec knows"
    ):
        _read("nowhere://a.csv")


def test_passwords_in_addresses_are_not_shown():
    with pytest.raises(
        DataError, match=r"http://me:\*\*\*@127\.0\.0\.1:9/a\.csv must be readable"
    ) as told:
        _read("http://me:secret@127.0.0.1:9/a.csv")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9/a.csv", "http://127.0.0.1:9/*.csv"])
def test_a_server_that_does_not_answer_is_no_missing_file(uri):
    with pytest.raises(DataError, match=r"must be readable.*Check the address"):
        expand(uri)


def test_files_on_the_web_are_read_and_listed(web):
    (web.folder / "a.csv").write_bytes(CONTENTS)
    (web.folder / "b.csv.gz").write_bytes(gzip.compress(CONTENTS))
    assert _read(f"{web.address}/a.csv") == _read(f"{web.address}/b.csv.gz") == CONTENTS
    assert _read(f"{web.address}/b.csv.gz?token=1") == CONTENTS
    assert expand(f"{web.address}/*.csv*") == [f"{web.address}/a.csv", f"{web.address}/b.csv.gz"]
    with pytest.raises(DataError, match="no such file"):
        _read(f"{web.address}/none.csv")
    for uri in (f"{web.address}/none.csv", f"{web.address}/none/*.csv"):
        with pytest.raises(DataError, match="no such file"):
            expand(uri)


def test_a_connection_that_breaks_is_never_a_short_file(web, monkeypatch):
    def send_half(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENTS)))
        super(_Server, self).end_headers()
        self.wfile.write(CONTENTS[: len(CONTENTS) // 2])
        self.close_connection = True

    monkeypatch.setattr(_Server, "do_GET", send_half)
    (web.folder / "a.csv").write_bytes(CONTENTS)
    with pytest.raises(DataError, match=r"/a\.csv must be readable.*Check the address"):
        _read(f"{web.address}/a.csv")


@pytest.mark.parametrize("tagged", [True, False])
def test_a_remote_file_is_fetched_again_unless_its_etag_vouches_for_it(web, tmp_path, tagged):
    web.tagged = tagged
    uri, memo = f"{web.address}/a.csv", memo_in(str(tmp_path), "spans")
    digests = []
    for contents in (b"first", b"first", b"other"):
        (web.folder / "a.csv").write_bytes(contents)
        with Fingerprints(memo) as fingerprints:
            digests.append(fingerprints.of(uri, [uri]))
    assert digests == [
        hashlib.sha256(contents).hexdigest() for contents in (b"first", b"first", b"other")
    ]
    assert len(web.sent) == (2 if tagged else 3)
