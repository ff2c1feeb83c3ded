"""What a watch finds due, over restarts, pauses and other runs; and a real one, with a real run."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.errors import PerennialError
from perennial.ledger import events as ledger_events
from perennial.ledger.events import Ledger, NewEvent
from perennial.ledger.lease import hold_lease
from perennial.project import load_project
from perennial.project_checks import check_definition
from perennial.runner.watch import _Watched
from perennial.spans.landed import find_landed
from schemas.records import SpanJudged, WatchChanged
from tests.perennial.folders import make_project
from tests.perennial.records import run_ended, run_started, selection, span
from tests.receiver import run_receiver

YEARLY = {"schedule": "0 0 1 1 *", "time_zone": "Europe/Berlin"}


def watch(project):
    """A project that is watched from now on, and what the watch tells."""
    told = []
    watched = _Watched(project, told.append)
    watched.begin()
    return watched, told


def look(watched, times=1):
    due = None
    for _ in range(times):
        watched.next_look = 0.0
        due = watched.look(idle=True)
    return due


def land(project, name, contents=b"not read here"):
    file = project.folder / f"data/{name}.parquet"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(contents)
    return file


def append(project, *events):
    with closing(Ledger(project.ledger_url)) as ledger:
        ledger.append(*events)


def record_due(project, due):
    append(project, NewEvent("retraining_due", due, key=f"retraining-due:{due.cause}"))


def begin_run(project, run, end="failed", **changes):
    """Records a run on all that has landed, with its lease, as `perennial run` does."""
    with closing(Ledger(project.ledger_url)) as ledger, hold_lease(ledger, "digits", run, 60):
        window = [span(each.name, each.fingerprint) for each in find_landed(project)]
        chosen = selection(run, window, trigger=changes.pop("trigger", "landing"), **changes)
        ledger.append(run_started(run, chosen), *([run_ended(run, end)] if end else []))


def test_what_is_being_written_has_not_landed(tmp_path):
    project = make_project(tmp_path)
    watched, _ = watch(project)
    assert look(watched, 2) is None
    file = land(project, "2026-01-01")
    assert look(watched) is None
    with file.open("ab") as stream:
        stream.write(b"more")
    assert look(watched) is None
    assert look(watched).because == "landed: 2026-01-01"


@pytest.mark.parametrize("end", ["failed", "data_rejected"])
def test_what_a_run_worked_on_is_due_again_only_with_other_data(tmp_path, end):
    project = make_project(tmp_path)
    land(project, "2026-01-01")
    watched, _ = watch(project)
    record_due(project, look(watched, 2))
    begin_run(project, "r1", end)
    assert look(watched) is None
    again, _ = watch(project)  # after a restart
    assert look(again, 2) is None
    land(project, "2026-01-02")
    assert look(again, 2).because == "landed: 2026-01-02"


def test_what_a_person_releases_is_due(tmp_path):
    project = make_project(tmp_path)
    land(project, "2026-01-01")
    begin_run(project, "r1")
    watched, _ = watch(project)
    assert look(watched, 2) is None
    (landed,) = find_landed(project)
    body = SpanJudged(span=span(landed.name, landed.fingerprint), rows=1, reasons=[], by="me")
    append(project, NewEvent("span_released", body))
    assert look(watched).because == "landed: 2026-01-01"


def test_what_was_due_and_not_begun_is_begun_after_a_restart(tmp_path):
    project = make_project(tmp_path)
    land(project, "2026-01-01")
    watched, _ = watch(project)
    due = look(watched, 2)
    record_due(project, due)
    again, _ = watch(project)
    assert look(again, 2) == due


def test_of_two_watches_one_begins_the_run(tmp_path):
    project = make_project(tmp_path)
    land(project, "2026-01-01")
    first, _ = watch(project)
    second, told = watch(project)
    due = look(first, 2)
    assert look(second, 2) == due
    record_due(project, due)  # by the first one
    assert not second.try_start(due) and [event.kind for event in told] == ["watching"]


def test_a_run_of_the_watch_that_was_cut_short_goes_on_once(tmp_path):
    project = make_project(tmp_path)
    land(project, "2026-01-01")
    watched, _ = watch(project)
    record_due(project, look(watched, 2))
    begin_run(project, "r1", end=None)
    due = look(watch(project)[0], 2)
    assert due.because == "run r1 was ended before it came to its end"
    record_due(project, due)
    begin_run(project, "r2", end=None, resumes="r1")
    assert look(watch(project)[0], 2) is None


def test_a_pause_holds_for_every_watch_and_does_not_catch_up(tmp_path, monkeypatch):
    project = make_project(tmp_path, retrain=YEARLY)
    with monkeypatch.context() as past:  # it has been watched for years
        past.setattr(ledger_events, "_now", lambda: "2020-06-01T00:00:00.000+00:00")
        text = "0 0 1 1 * Europe/Berlin"
        append(project, NewEvent("watch_changed", WatchChanged(state="on", schedule=text, by="x")))
    watched, told = watch(project)
    assert look(watched, 2).because.startswith(
        f"scheduled for {datetime.now(UTC).year}-01-01 00:00"
    )
    command = ["watch", "pause", str(project.folder)]
    assert "digits is paused\n" in CliRunner().invoke(app, command).output
    assert "as before" in CliRunner().invoke(app, command).output
    assert look(watched) is None and told[-1].kind == "paused"
    assert look(watch(project)[0], 2) is None
    assert CliRunner().invoke(app, ["watch", "resume", str(project.folder)]).exit_code == 0
    land(project, "2026-01-01")
    due = look(watched, 2)
    assert "resumed" in [event.kind for event in told]
    assert due.trigger == "landing"  # and not what was missed


def test_a_run_of_another_process_is_waited_for_with_one_line(tmp_path):
    project = make_project(tmp_path)
    land(project, "2026-01-01")
    watched, told = watch(project)
    with hold_lease(Ledger(project.ledger_url), "digits", "by-hand", 60):
        assert look(watched, 4) is None
        assert [e.kind for e in told] == ["watching", "waits"] and "by-hand" in told[-1].text
    assert look(watched).trigger == "landing"


def test_labels_are_counted_where_the_settings_ask_for_enough(tmp_path):
    project = make_project(tmp_path, retrain={"new_labels": 5})
    watched, _ = watch(project)
    for day, rows in ((1, 3), (2, 2)):
        file = project.folder / f"data/2026-01-0{day}.parquet"
        file.parent.mkdir(exist_ok=True)
        columns = {f.name: [0] * rows for f in project.schema.feature}
        pq.write_table(pa.table(columns), file)
        due = look(watched, 2)
        assert (due and due.trigger) == (None if day == 1 else "labels")
    assert due.because == "landed: 2026-01-01, 2026-01-02, 5 rows (enough: 5)"
    land(project, "2026-01-01", b"broken")
    assert look(watched, 2).trigger == "landing"  # its run says what is wrong


def test_settings_are_read_again_and_a_mistake_is_told_once(tmp_path):
    project = make_project(tmp_path)
    watched, told = watch(project)
    file = project.folder / "project.yaml"
    good = file.read_text()
    file.write_text(good + "nonsense: 1\n")
    assert look(watched, 4) is None
    assert [event.kind for event in told] == ["watching", "trouble"]
    make_project(tmp_path, retrain=YEARLY)
    look(watched)
    assert watched.project.settings.retrain.schedule == YEARLY["schedule"]
    with closing(Ledger(project.ledger_url)) as ledger:
        schedules = [event.body.schedule for event in ledger.events("watch_changed")]
    assert schedules == ["", "0 0 1 1 * Europe/Berlin"]


@pytest.mark.parametrize("wrong", [{"schedule": "61 * * * *"}, {**YEARLY, "time_zone": "Mars"}])
def test_a_schedule_that_is_none_is_refused(tmp_path, wrong):
    with pytest.raises(PerennialError, match=r"the schedule|the time zone"):
        check_definition(make_project(tmp_path, retrain=wrong))


class Watch:
    """A real `perennial watch`, and the lines that it prints."""

    def __init__(self, folder, **environment):
        command = [sys.executable, "-m", "perennial.cli.main", "watch", str(folder), "--json"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def wait_for(self, event, count=1, seconds=240):
        deadline = time.monotonic() + seconds
        while len(found := [line for line in self.lines if line["event"] == event]) < count:
            assert time.monotonic() < deadline and self.process.poll() is None, self.lines
            time.sleep(0.05)
        return found[count - 1]

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self._reader.join(10)
        return code


def test_data_that_lands_is_run_and_people_are_told(tmp_path):
    """What lands is broken, so that the run is short: the data is refused."""
    hook = {"name": "ops", "url_variable": "OPS_URL", "secret_variable": "OPS_SECRET"}
    messages = {"webhooks": [hook], "digest_minutes": 0}
    project = make_project(tmp_path, watch={"poll_seconds": 0.2}, messages=messages)
    with run_receiver() as server:
        secret = f"whsec_{base64.b64encode(bytes(32)).decode()}"
        watch = Watch(project.folder, OPS_URL=server.url, OPS_SECRET=secret)
        try:
            watch.wait_for("watching")
            land(project, "2026-01-01")
            ended = watch.wait_for("ended")
            assert ended["outcome"] == "data_rejected" and ended["project"] == "digits"
            deadline = time.monotonic() + 30
            while not server.accepted:
                assert time.monotonic() < deadline, watch.lines
                time.sleep(0.05)
            land(project, "2026-01-02")
            watch.wait_for("began", 2)
            with closing(Ledger(project.ledger_url)) as ledger:
                while len(ledger.events("run_started")) < 2:
                    assert time.monotonic() < deadline + 60, watch.lines
                    time.sleep(0.05)
            assert watch.end() == 0
        finally:
            watch.process.kill()
    assert watch.lines[-1]["event"] == "stopped"
    assert json.loads(server.accepted[0][1])["data"]["notices"][0]["kind"] == "data_rejected"
    with closing(Ledger(project.ledger_url)) as ledger:
        first, second = [event.body.selection for event in ledger.events("run_started")]
        assert (first.trigger, first.new_spans) == ("landing", ["2026-01-01"])
        assert ledger.run_end(second.run) is None and ledger.lease().released
    due = look(_Watched(load_project(project.folder), print), 2)
    assert due.because == f"run {second.run} was ended before it came to its end"
