"""A ledger of an earlier format is brought to today's whole or not at all; a newer one is refused."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sqlite3
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DatabaseError

from perennial.errors import LedgerError
from perennial.ledger import sqlite
from perennial.ledger.events import Ledger
from perennial.ledger.migration import migrate_ledger
from perennial.ledger.table import FORMAT
from perennial.ledger.verification import verify_ledger
from tests.perennial.ledger.nobody import as_nobody, let_in
from tests.perennial.records import run_ended, run_started

FORK = multiprocessing.get_context("fork")
EARLIER = Path(__file__).parent / "format-1"
RUNS = ["20260101-020000-aa01", "20260102-020000-bb02", "20260103-020000-cc03"]


@pytest.fixture(params=["sqlite", "postgresql"])
def earlier(request, tmp_path):
    """URL of a database of format 1."""
    if request.param == "sqlite":
        return _sqlite_of_format_1(tmp_path / "ledger.db")
    url = request.getfixturevalue("postgres").new_database()
    _fill_with_format_1(url)
    return url


def _fill_with_format_1(url: str) -> None:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute((EARLIER / "postgresql.sql").read_text(encoding="utf-8"))


def _sqlite_of_format_1(path: Path) -> str:
    connection = sqlite3.connect(path)
    connection.executescript((EARLIER / "sqlite.sql").read_text(encoding="utf-8"))
    connection.close()
    return f"sqlite:///{path}"


def _rows(url: str) -> list[tuple]:
    engine = create_engine(url)
    query = "SELECT number, at, kind, run, key, body FROM events ORDER BY number"
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()
    return rows


def test_events_of_format_1_are_all_there_and_chained(earlier):
    before = _rows(earlier)
    assert migrate_ledger(earlier) == 1
    assert _rows(earlier) == before and len(before) == 12
    ledger = Ledger(earlier)
    assert [start.selection.run for _, start, _ in ledger.runs()] == RUNS
    assert ledger.champion().version == "1" and ledger.champion().deployment == 4
    assert [each.verdict for each in ledger.judged_spans()["2026-01-02"]] == [
        "quarantined",
        "released",
    ]
    ledger.append(run_ended(RUNS[-1]))
    assert verify_ledger(ledger).number == before[-1][0] + 1
    ledger.close()
    assert migrate_ledger(earlier) == FORMAT


@pytest.mark.parametrize("change", ["UPDATE events SET run = 'other'", "DELETE FROM events"])
def test_a_migrated_ledger_is_append_only(earlier, change):
    migrate_ledger(earlier)
    engine = create_engine(earlier)
    with pytest.raises(DatabaseError, match="append-only"), engine.begin() as connection:
        connection.execute(text(change))
    engine.dispose()


def test_the_earlier_product_writes_nothing_into_a_migrated_ledger(earlier):
    migrate_ledger(earlier)
    engine = create_engine(earlier)
    insert = (
        "INSERT INTO events (at, kind, run, key, body) VALUES ('t', 'run_started', 'r', 'k', '{}')"
    )
    with pytest.raises(DatabaseError, match=r"(?i)not.null"), engine.begin() as connection:
        connection.execute(text(insert))
    engine.dispose()
    verify_ledger(Ledger(earlier))


def test_a_file_is_migrated_by_whoever_opens_it(tmp_path):
    url = _sqlite_of_format_1(tmp_path / "ledger.db")
    assert verify_ledger(Ledger(url)).number == 12


def test_a_file_that_cannot_be_written_is_read_as_it_is(tmp_path):
    url = _sqlite_of_format_1(tmp_path / "ledger.db")
    let_in(tmp_path)
    (tmp_path / "ledger.db").chmod(0o444)
    assert as_nobody(partial(_runs_of, url)) == RUNS


def _runs_of(url: str) -> list[str]:
    return [start.selection.run for _, start, _ in Ledger(url).runs()]


def test_a_migration_that_is_killed_changes_nothing(tmp_path):
    path = tmp_path / "ledger.db"
    url = _sqlite_of_format_1(path)
    process = FORK.Process(target=_die_in_migration, args=(url,))
    process.start()
    process.join(20)
    assert process.exitcode == -signal.SIGKILL
    connection = sqlite3.connect(path)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(events)")]
    connection.close()
    assert "digest" not in columns and len(_rows(url)) == 12
    assert verify_ledger(Ledger(url)).number == 12


def _die_in_migration(url):
    def kill_at_the_fifth(number, *rest):
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return chain_row(number, *rest)

    chain_row, sqlite.chain_row = sqlite.chain_row, kill_at_the_fifth
    Ledger(url)


@pytest.mark.parametrize("tables", ["none", "format 1"])
def test_a_server_is_changed_by_the_command_alone(postgres, tables):
    url = postgres.new_database()
    if tables == "format 1":
        _fill_with_format_1(url)
    with pytest.raises(LedgerError, match="Run `perennial ledger migrate PROJECT`"):
        Ledger(url)
    assert migrate_ledger(url) == (0 if tables == "none" else 1)
    Ledger(url).append(run_started("r1"))


def test_a_newer_ledger_is_refused_before_and_after_it_was_opened(ledger_url):
    ledger = Ledger(ledger_url)
    engine = create_engine(ledger_url)
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO ledger_format (format) VALUES ({FORMAT + 1})"))
    engine.dispose()
    message = rf"format {FORMAT} or an earlier one\. Received: format {FORMAT + 1}\..*that version"
    for use in (
        lambda: Ledger(ledger_url),
        lambda: ledger.append(run_started("r1")),
        lambda: migrate_ledger(ledger_url),
    ):
        with pytest.raises(LedgerError, match=message):
            use()
    assert ledger.events() == []
    ledger.close()


def test_steps_need_to_select_and_insert_only(postgres):
    """An account that owns nothing: it may read, append, and change the one row of the lease."""
    url = postgres.new_ledger()
    engine = create_engine(url)
    account = f"step_{url.rpartition('_')[2]}"
    grants = (EARLIER.parents[3] / "docs" / "ledger.md").read_text(encoding="utf-8")
    (sql,) = re.findall(r"^```sql\n(.*?)^```", grants, re.MULTILINE | re.DOTALL)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {account} LOGIN")
        connection.exec_driver_sql(sql.replace("perennial", account))
    engine.dispose()
    as_step = url.replace("//postgres@", f"//{account}@")
    ledger = Ledger(as_step)
    ledger.append(run_started("r1"))
    assert len(verify_ledger(ledger).digest) == 64
    ledger.close()
