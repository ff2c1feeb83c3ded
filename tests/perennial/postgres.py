"""PostgreSQL servers of the tests, from Debian's binaries, in temporary folders."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from perennial.processes import find_free_ports
from tests.session import Server, stop

ACCOUNT = "postgres"


def find_binaries() -> Path | None:
    """The folder of the newest server's programs, or None when none is installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: int(path.parent.name), default=None)


@dataclass(frozen=True)
class Postgres:
    """A running server; every database it gives is new and empty."""

    server: Server

    def new_database(self) -> str:
        """SQLAlchemy URL of a database that nobody has used."""
        import psycopg

        host, name = f"{ACCOUNT}@{self.server.address}", f"ledger_{secrets.token_hex(4)}"
        with psycopg.connect(f"postgresql://{host}", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{host}/{name}"

    def new_ledger(self) -> str:
        """SQLAlchemy URL of a database with the ledger's tables, and no event."""
        from perennial.ledger.migration import migrate_ledger

        url = self.new_database()
        migrate_ledger(url)
        return url

    def crash(self) -> None:
        """Ends it at once, whoever is connected, and removes its folder.

        Source: pg_ctl's immediate mode.
        """
        os.kill(self.server.pid, signal.SIGQUIT)
        stop(self.server)


def start(binaries: Path) -> Server:
    """Starts a server on a free port of loopback."""
    folder = Path(
        tempfile.mkdtemp(prefix="postgres-")
    )  # not the session's: the server's account cannot look into that
    (port,) = find_free_ports(1)
    if os.geteuid() == 0:
        shutil.chown(folder, ACCOUNT)
    data = folder / "data"
    _as_account([binaries / "initdb", "-D", data, "-A", "trust", "-U", ACCOUNT, "--no-sync"])
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    _as_account(
        [binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"]
    )
    pid = int((data / "postmaster.pid").read_text().split()[0])
    return Server(f"127.0.0.1:{port}", pid, str(folder))


def _as_account(command: list[str | Path]) -> None:
    """Runs a program of the server, which refuses to run as root."""
    prefix = ["runuser", "-u", ACCOUNT, "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*prefix, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/"
    )
    assert done.returncode == 0, done.stderr.decode()
