"""`perennial ab`: start, share, status and stop, over the real registry and ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.errors import LedgerError, RegistryError
from perennial.ledger.events import Ledger
from perennial.registry.deployments import promote_version
from perennial.registry.unserved import find_unserved
from tests.perennial.folders import make_project
from tests.perennial.judged import whole_run


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Version 1 serves; 2 and 3 were registered and never served."""
    project = make_project(tmp_path_factory.mktemp("tested") / "digits")
    for number in (1, 2, 3):
        whole_run(project, f"run-{number}", f"model {number}", promote=number == 1)
    return project


def call(project, name, *arguments):
    return CliRunner().invoke(app, ["ab", name, str(project.folder), *arguments])


def test_a_test_from_start_to_the_promotion_that_ends_it(project):
    assert "version 1, 100.0% of the traffic\nno test is running" in call(project, "status").stdout
    assert isinstance(call(project, "start", "1").exception, RegistryError)
    assert isinstance(call(project, "stop").exception, LedgerError)
    done = call(project, "start", "2", "--share", "0.2", "--days", "7")
    assert done.stdout.startswith("version 2 takes 20.0% of the traffic"), done.exception
    assert "50.0% of the traffic now" in call(project, "share", "0.5", "--why", "good").stdout
    shown = call(project, "status").stdout
    assert "champion    version 1, 50.0% of the traffic" in shown
    assert "challenger  version 2, 50.0% of the traffic" in shown and "at most 7 days" in shown
    overview = CliRunner().invoke(app, ["status", str(project.folder)]).stdout
    assert "challenger version 2, 50.0% of the traffic, since" in overview
    # Servers load it: `perennial clean` leaves it alone.
    ledger = Ledger(project.ledger_url)
    old = find_unserved(project, ledger, datetime.now(UTC) + timedelta(days=1))
    assert [each.version.version for each in old if each.version] == []
    promote_version(project, "3", "urgent")
    assert json.loads(call(project, "status", "--json").stdout)["challenger"] is None
    assert "version 2 shadows all requests" in call(project, "start", "2", "--shadow").stdout
    test = json.loads(call(project, "status", "--json").stdout)["challenger"]
    assert (test["arm"], test["version"], test["share"]) == ("shadow", "2", 0.0)
    assert "answers nothing" in call(project, "stop", "--why", "enough").stdout
    ended = [event.body.model_dump() for event in ledger.events("ab_ended")]
    assert [each["reasons"] for each in ended] == [["version 3 was deployed: urgent"], ["enough"]]
    ledger.close()


@pytest.mark.parametrize("share", ["0", "1.1", "nan"])
def test_a_share_that_is_none_is_refused(project, share):
    assert call(project, "share", share).exit_code == 2
