"""A PostgreSQL server of the test's own, from Debian's binaries, in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

ACCOUNT = "postgres"


def find_binaries() -> Path | None:
    """The folder of the newest server's programs, or None when none is installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: int(path.parent.name), default=None)


class Postgres:
    """A running server; every database it gives is new and empty."""

    def __init__(self, port: int, binaries: Path, data: Path) -> None:
        self.port, self._binaries, self._data = port, binaries, data

    def stop(self) -> None:
        """Ends it at once, whoever is connected, as a crash would; once stopped it stays so."""
        if (self._data / "postmaster.pid").exists():
            _as_account([self._binaries / "pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop"])

    def new_database(self) -> str:
        """SQLAlchemy URL of a database that nobody has used."""
        import psycopg

        name = f"ledger_{secrets.token_hex(4)}"
        with psycopg.connect(f"host=127.0.0.1 port={self.port} user={ACCOUNT}", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{ACCOUNT}@127.0.0.1:{self.port}/{name}"


@contextlib.contextmanager
def serve(binaries: Path) -> Iterator[Postgres]:
    """Starts a server on a free port of loopback, and stops it."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # not pytest's: the server's account cannot look into that
    port = _free_port()
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, ACCOUNT)
        data = folder / "data"
        _as_account([binaries / "initdb", "-D", data, "-A", "trust", "-U", ACCOUNT, "--no-sync"])
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        _as_account([binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"])
        server = Postgres(port, binaries, data)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_account(command: list[str | Path]) -> None:
    """Runs a program of the server, which refuses to run as root."""
    prefix = ["runuser", "-u", ACCOUNT, "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*prefix, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
    assert done.returncode == 0, done.stderr.decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
