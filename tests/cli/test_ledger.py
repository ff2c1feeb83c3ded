"""`perennial ledger`: whoever is woken by it learns which event it is, and what to do."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.errors import LedgerError
from perennial.ledger.events import Ledger
from tests.perennial.folders import make_project
from tests.perennial.ledger.test_chain import tamper
from tests.perennial.records import run_ended, run_started


@pytest.fixture
def project(tmp_path):
    project = make_project(tmp_path / "digits")
    Ledger(project.ledger_url).append(run_started("r1"), run_ended("r1"))
    return project


def call(project, *arguments):
    name, *rest = arguments
    return CliRunner().invoke(app, ["ledger", name, str(project.folder), *rest])


def test_the_head_of_a_whole_ledger_is_printed_and_can_be_held_against_it(project):
    done = call(project, "verify")
    head = str(Ledger(project.ledger_url).head())
    assert done.exit_code == 0 and f"head {head}" in done.output
    Ledger(project.ledger_url).append(run_started("r2"))
    assert call(project, "verify", "--head", head).exit_code == 0
    other = call(project, "verify", "--head", f"2:{'0' * 64}")
    assert isinstance(other.exception, LedgerError) and "event 2 must have" in str(other.exception)
    assert call(project, "verify", "--head", "nonsense").exit_code == 2


def test_a_changed_event_ends_the_command_with_what_to_do(project):
    tamper(project.ledger_url, "UPDATE events SET run = 'r7' WHERE number = 1")
    refused = call(project, "verify").exception
    assert isinstance(refused, LedgerError) and refused.exit_code == 1
    assert "event 1 was changed" in str(refused) and "restore the newest backup" in str(refused)


def test_migrate_says_what_it_did(project, postgres):
    assert "has format 2 already" in call(project, "migrate").output
    url = postgres.new_database()
    served = make_project(project.folder.parent / "served", ledger={"url": url})
    assert "made the ledger's tables, in format 2" in call(served, "migrate").output
    assert "holds no events" in call(served, "verify").output
