"""A database that cannot be used gives one message.

Where, what was expected, what was received, what to do.
"""

from __future__ import annotations

import os
import sqlite3
from functools import partial

import pytest

from perennial.errors import LedgerError
from perennial.ledger import sqlite
from perennial.ledger.events import Ledger
from tests.perennial.ledger.nobody import as_nobody, let_in
from tests.perennial.records import run_started


def _message(url: str) -> str:
    with pytest.raises(LedgerError) as refused:
        Ledger(url).append(run_started("r1"))
    message = str(refused.value)
    assert len(message.splitlines()) == 1 and "Received: " in message and "ledger.url" in message
    return message


def test_garbage(tmp_path):
    path = tmp_path / "ledger.db"
    path.write_bytes(b"no database at all" * 100)
    message = _message(f"sqlite:///{path}")
    assert str(path) in message and "not a database" in message
    assert path.read_bytes() == b"no database at all" * 100


def test_truncated_database(tmp_path):
    path = tmp_path / "ledger.db"
    ledger = Ledger(f"sqlite:///{path}")
    ledger.append(*(run_started(f"r{i}") for i in range(200)))
    ledger.close()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(LedgerError, match=r"is damaged\. Restore it"):
        Ledger(f"sqlite:///{path}").events()


def test_folder_in_the_way(tmp_path):
    (tmp_path / "ledger.db").mkdir()
    assert "cannot be opened" in _message(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_file_in_the_way_of_the_folder(tmp_path):
    (tmp_path / "state").write_text("")
    assert str(tmp_path / "state") in _message(f"sqlite:///{tmp_path / 'state' / 'ledger.db'}")


def test_locked_by_another_program(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.1)
    path = tmp_path / "ledger.db"
    Ledger(f"sqlite:///{path}").close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        assert "locked" in _message(f"sqlite:///{path}")
    finally:
        other.close()
    ledger = Ledger(f"sqlite:///{path}")
    ledger.append(run_started("r1"))
    assert len(ledger.events()) == 1


def test_a_reader_does_not_wait_for_a_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.1)
    path = tmp_path / "ledger.db"
    Ledger(f"sqlite:///{path}").append(run_started("r1"))
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        assert len(Ledger(f"sqlite:///{path}").events()) == 1
    finally:
        writer.close()


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_read_only_folder(tmp_path, existing):
    folder = tmp_path / "state"
    url = f"sqlite:///{folder / 'ledger.db'}"
    if existing:
        Ledger(url).close()
    folder.mkdir(exist_ok=True)
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    let_in(tmp_path)
    message = as_nobody(partial(_append, url))
    folder.chmod(0o755)
    assert message.startswith("LedgerError: ledger at sqlite:") and "ledger.url" in message


def _append(url: str) -> str:
    Ledger(url).append(run_started("r1"))
    return "appended"


@pytest.mark.parametrize("url", ["nonsense", "oops://host/name", "sqlite+nothing:///x.db"])
def test_url_that_names_no_database(url):
    assert "ledger" in _message(url)


def test_server_that_is_not_there_and_its_password_is_not_shown():
    message = _message("postgresql+psycopg://somebody:sesame@127.0.0.1:1/ledger")
    assert "127.0.0.1" in message and "sesame" not in message


def test_postgresql_without_a_driver_in_its_url(postgres):
    url = postgres.new_ledger().replace("postgresql+psycopg:", "postgresql:")
    ledger = Ledger(url)
    ledger.append(run_started("r1"))
    assert len(ledger.events()) == 1
    ledger.close()


def test_database_that_does_not_exist(postgres):
    url = postgres.new_database().rsplit("/", 1)[0] + "/nobody_made_it"
    assert "nobody_made_it" in _message(url)
