"""`perennial history`: what served when, who or what decided, and why."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import perennial.ledger.events
from perennial.cli.formats import format_duration
from perennial.cli.history import parse_moment
from perennial.cli.main import app
from perennial.ledger.events import Ledger, NewEvent
from perennial.registry.serving_periods import Period, read_periods, served_at
from schemas.records import DecisionMade
from tests.perennial.folders import make_project
from tests.perennial.judged import decision
from tests.perennial.records import deployment

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
PUSHED = {"1": "2026-01-02T10:00:00.000+00:00", "2": "2026-01-05T08:30:00.000+00:00"}
ROLLED_BACK = "2026-01-06T00:00:00.000+00:00"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Version 1 since the 2nd, version 2 since the 5th of January, and a rollback by a person on the 6th."""
    project = make_project(tmp_path_factory.mktemp("served") / "digits")
    with pytest.MonkeyPatch.context() as monkeypatch:
        write_ledger(project, monkeypatch)
    return project


def write_ledger(project, monkeypatch):
    ledger = Ledger(project.ledger_url)
    for version, at in PUSHED.items():
        monkeypatch.setattr(perennial.ledger.events, "_now", lambda at=at: at)
        made = DecisionMade(
            decision=decision(reasons=[f"gain of {version}"]), version=version, digest=f"d{version}"
        )
        ledger.append(NewEvent("decision", made, f"run-{version}"))
        champion = ledger.champion()
        ledger.deploy(
            deployment(version, champion.deployment if champion else None), f"run-{version}"
        )
    monkeypatch.setattr(perennial.ledger.events, "_now", lambda: ROLLED_BACK)
    ledger.deploy(deployment("1", ledger.champion().deployment, action="rollback"), None)
    ledger.close()


def invoke(project, *arguments):
    done = CliRunner().invoke(app, ["history", str(project.folder), *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_every_deployment_in_one_line(project):
    code, output, _ = invoke(project)
    lines = output.splitlines()
    assert code == 0 and len(lines) == 3
    expected = "2026-01-02 10:00:00 UTC  version 1  pushed by a test (a test), served for 2 d 22 h"
    assert lines[0].strip() == expected
    assert "version 2  pushed by a test (a test), served for 15 h 30 min" in lines[1]
    assert "version 1  rolled back to by a test (a test), serves since then for" in lines[2]


def test_json_has_every_deployment(project):
    answer = json.loads(invoke(project, "--json")[1])
    assert [(each["version"], each["action"], each["run"], each["until"]) for each in answer] == [
        ("1", "push", "run-1", PUSHED["2"]),
        ("2", "push", "run-2", ROLLED_BACK),
        ("1", "rollback", None, None),
    ]
    assert [each["decided"] for each in answer] == [["gain of 1"], ["gain of 2"], []]
    assert answer[0]["seconds"] == timedelta(days=2, hours=22, minutes=30).total_seconds()


@pytest.mark.parametrize(
    ("at", "version", "moment"),
    [
        ("2026-01-02T09:59:59.999", None, "2026-01-02 09:59:59"),
        ("2026-01-02T10:00", "1", "2026-01-02 10:00:00"),
        ("2026-01-02", "1", "2026-01-02 23:59:59"),
        ("2026-01-01", None, "2026-01-01 23:59:59"),
        ("2026-01-05T09:29:59+01:00", "1", "2026-01-05 08:29:59"),
        ("2026-01-05T09:30+01:00", "2", "2026-01-05 08:30:00"),
        ("2026-01-05", "2", "2026-01-05 23:59:59"),
        ("2026-01-06", "1", "2026-01-06 23:59:59"),
    ],
)
def test_what_was_live_then(project, at, version, moment):
    code, output, _ = invoke(project, "--at", at)
    expected = (
        f"version {version} served at {moment} UTC"
        if version
        else f"nothing served at {moment} UTC"
    )
    assert code == 0 and output.splitlines()[0] == expected
    served = json.loads(invoke(project, "--at", at, "--json")[1])["served"]
    assert (served["version"] if served else None) == version


def test_who_decided_and_why(project):
    output = invoke(project, "--at", "2026-01-05")[1]
    assert "pushed by a test (a test)" in output and "the gate: gain of 2" in output
    assert "the gate" not in invoke(project, "--at", "2026-01-07")[1]  # a person decided


@pytest.mark.parametrize(
    ("at", "part"),
    [
        ("tomorrow", "must be an ISO date or date-time"),
        ("2026-02-30", "must be an ISO date or date-time"),
        ("9999-12-30", "must not lie in the future"),
        ("2999-01-01T00:00", "must not lie in the future"),
    ],
)
def test_times_that_cannot_be_answered(project, at, part):
    code, output, error = invoke(project, "--at", at)
    message = re.sub(r"[^\w.-]+", " ", error)  # typer draws a box around it
    assert (
        code == 2
        and output == ""
        and part in message
        and f"Received {at.replace(':', ' ')}" in message
    )


def test_nothing_was_ever_deployed(tmp_path):
    project = make_project(tmp_path / "empty")
    assert (
        invoke(project)[1] == "nothing was ever deployed\n"
        and invoke(project, "--json")[1] == "[]\n"
    )
    assert invoke(project, "--at", "2026-01-01")[1].startswith("nothing served at")


def test_today_means_now():
    assert parse_moment("2026-01-10", NOW) == NOW
    with pytest.raises(typer.BadParameter):
        parse_moment("2026-01-11", NOW)


def test_the_command_itself_imports_neither_tensorflow_nor_mlflow(project):
    invoke(project)  # the registry is compared once
    perennial_command = Path(sys.executable).with_name("perennial")
    code = (
        "import sys; from perennial.cli.main import main\ntry: main()\n"
        "finally: print({'tensorflow', 'mlflow', 'pandas'} & set(sys.modules))"
    )
    arguments = ["history", str(project.folder), "--at", "2026-01-05"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[0] == "version 2 served at 2026-01-05 23:59:59 UTC"
    assert done.stdout.splitlines()[-1] == "set()"
    real = subprocess.run(
        [perennial_command, *arguments], check=True, capture_output=True, text=True
    )
    assert real.stdout == "".join(done.stdout.splitlines(keepends=True)[:-1])


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=20), st.integers(0, 10**7))
def test_periods_follow_each_other_and_one_holds_each_time(gaps, seconds):
    starts, begin = [], datetime(2026, 1, 1, tzinfo=UTC)
    for gap in gaps:
        begin += timedelta(seconds=gap)
        starts.append(begin)
    periods = [_period(number, at) for number, at in enumerate(starts)]
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    served = served_at(periods, moment)
    before = [number for number, at in enumerate(starts) if at <= moment]
    assert (served.deployment if served else None) == (max(before) if before else None)


def _period(number, at):
    return Period(
        number, str(number), "d", "push", "a test", None, "", at.isoformat(), None, 0.0, []
    )


def test_periods_end_where_the_next_begin(project):
    periods = read_periods(project, NOW)
    assert [period.until for period in periods] == [period.at for period in periods[1:]] + [None]
    total = (NOW - datetime.fromisoformat(PUSHED["1"])).total_seconds()
    assert sum(period.seconds for period in periods) == total


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (93784, "1 d 2 h"),
        (-5, "0 s"),
    ],
)
def test_spans_of_time_in_words(seconds, words):
    assert format_duration(seconds) == words
