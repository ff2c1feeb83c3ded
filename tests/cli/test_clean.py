"""`perennial clean` says what it would remove, and removes that; the next run makes it anew."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perennial.cli import clean as command
from perennial.cli.main import app
from perennial.errors import LeaseLostError
from perennial.ledger import events as events_module
from perennial.ledger.events import Ledger, NewEvent
from perennial.ledger.lease import hold_lease
from perennial.package.publish import publish_package
from perennial.production.log_files import LogFiles, part_name
from perennial.production.prediction_log import Masks, make_tables
from perennial.project import load_project
from perennial.registry.versions import Registry
from perennial.results.unfinished import UnfinishedWork
from perennial.spans.prepared import PreparedSpans
from perennial.storage import objects as objects_module
from schemas.records import Reference
from tests.perennial.conftest import blank_registry
from tests.perennial.folders import make_project
from tests.perennial.judged import whole_run
from tests.perennial.production.rows import answer
from tests.perennial.records import (
    deployment,
    judged,
    run_ended,
    run_started,
    selection,
    span,
)
from tests.stored import kept, publish, results_of

__all__ = ["blank_registry"]  # a fixture


@pytest.fixture
def project(tmp_path):
    """A project with one landed span that was prepared, and one result of a span that is gone."""
    project = make_project(tmp_path / "project")
    (project.folder / "data").mkdir(exist_ok=True)
    (project.folder / "data" / "2026-01-01.parquet").write_bytes(b"landed")
    for name in ("checked", "statistics", "left over"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "file").write_text(name)
    checked, statistics = (
        Reference.read(Path(publish(project, tmp_path / name).path))
        for name in ("checked", "statistics")
    )
    publish(project, tmp_path / "left over")
    (span,) = command.window_of(project)
    PreparedSpans.of_project(results_of(project), project).record(span, checked, statistics)
    return project


def clean(project, *options: str) -> str:
    done = CliRunner().invoke(app, ["clean", str(project.folder), *options])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def in_two_months(monkeypatch):
    """Everything that lies there was written two months ago."""
    for kind in (objects_module.FolderObjects, objects_module.RemoteObjects):
        monkeypatch.setattr(kind, "list", _aged(kind.list))


def _aged(listing):
    def earlier(self, folder):
        for each in listing(self, folder):
            yield each._replace(written=each.written - timedelta(days=60))

    return earlier


def test_what_is_new_stays(project):
    assert "would remove 0 results" in clean(project)


def test_it_says_what_it_would_remove_and_removes_nothing(project, in_two_months):
    output = clean(project)
    assert "would remove 1 result older than 30 days, 1 object " in output
    assert "say --yes" in output and len(kept(project, "test")) == 3


def test_what_the_window_needs_stays_however_old(project, in_two_months):
    output = clean(project, "--yes")
    assert "removed 1 result" in output and "3 results stay" in output
    assert len(kept(project, "test")) == 2 and len(kept(project, "prepare_span")) == 1
    assert len(list(results_of(project).objects.list("objects"))) == 2
    assert "would remove 0 results" in clean(project)
    prepared = PreparedSpans.of_project(results_of(project), project)
    (span,) = prepared.read(command.window_of(project))
    for reference in (span.checked, span.statistics):
        assert results_of(project).files_of(reference)


def ended(run: str, version: str) -> NewEvent:
    """The end of a run that registered a version."""
    end = run_ended(run)
    return replace(end, body=end.body.model_copy(update={"version": version}))


def test_packages_go_that_no_run_needs(project, in_two_months, monkeypatch):
    """Those stay of a run whose model served, of one that has not ended, and of a recent one."""
    ledger = Ledger(project.ledger_url)
    stored = {}
    for name in ("served", "ended", "recent", "unfinished", "of no run"):
        (project.folder / "notes.txt").write_text(name)
        stored[name] = publish_package(project).reference.digest
        load_project(f"{project.root}/packages/{stored[name]}.tar#{project.folder}")
    before = datetime.now(UTC) - timedelta(days=60)
    for name in ("served", "ended", "unfinished", "recent"):
        at = datetime.now(UTC) if name == "recent" else before
        monkeypatch.setattr(events_module, "_now", at.isoformat)
        chosen = selection(name).model_copy(update={"package": stored[name]})
        ledger.append(run_started(name, chosen))
        if name != "unfinished":
            ledger.append(ended(name, "1" if name == "served" else "2"))
    ledger.append(NewEvent("deployment", deployment("1")))  # by a person, later
    assert "and 2 packages that no run needs" in clean(project, "--yes")
    kept_names = {stored[name] for name in ("served", "unfinished", "recent")}
    listed = results_of(project).objects.list("packages")
    assert {Path(each.name).stem for each in listed} == kept_names
    assert {each.name for each in (project.state / "unpacked").iterdir()} == kept_names


def leave_report(project, run: str) -> Path:
    """What a run left of itself in the root."""
    report = Path(project.root, "runs", run, "report.html")
    report.parent.mkdir(parents=True)
    report.write_text("report")
    return report


def test_what_old_runs_left_goes_but_what_is_needed_and_the_newest(project, in_two_months):
    """Needed: a champion's and its predecessors', an unfinished run's, a quarantined span's."""
    ledger = Ledger(project.ledger_url)
    for number, run in enumerate(["serves", "served", "kept", "undecided", "decided", "newest"]):
        ledger.append(run_started(run), ended(run, str(number)))
    ledger.append(run_started("unfinished"))
    for number, replaces in (("1", None), ("0", 1)):
        ledger.append(NewEvent("deployment", deployment(number, replaces)))
    ledger.append(judged(False, span("2026-01-02"), "undecided"))
    ledger.append(judged(False, span("2026-01-03"), "decided"))
    rejected = judged(False, span("2026-01-03"))
    ledger.append(NewEvent("span_rejected", rejected.body))
    runs = ["serves", "served", "kept", "undecided", "decided", "unfinished"]
    reports = {run: leave_report(project, run) for run in runs}
    time.sleep(0.05)  # files know when they were written to some milliseconds
    reports["newest"] = leave_report(project, "newest")
    assert "reports and records of 0 runs" in clean(project, "--yes")
    output = clean(project, "--runs", "1")
    assert "would remove reports and records of 2 runs older than 30 days, 12 bytes" in output
    assert all(report.exists() for report in reports.values())
    assert "those of 5 stay" in clean(project, "--runs", "1", "--yes")
    gone = [run for run, report in reports.items() if not report.parent.exists()]
    assert gone == ["kept", "decided"]


def test_of_a_root_on_a_server_this_machine_s_part_is_removed_too(
    tmp_path, s3, in_two_months, monkeypatch
):
    """Logs of its runs, and copies of what it read."""
    for name, value in {**s3.environment, "PERENNIAL_ROOT": s3.new_root()}.items():
        monkeypatch.setenv(name, value)
    project = make_project(tmp_path / "project")
    results_of(project).objects.write_once("runs/old/report.html", b"report")
    here = objects_module.FolderObjects(project.state)
    here.write_once("runs/old/kubeflow.log", b"log")
    here.write_once("copies/objects/ab/abc", b"copy")
    output = clean(project, "--runs", "0", "--yes")
    assert "records of 1 run older than 30 days, 6 bytes in all, from s3://" in output
    assert f"records of 1 run older than 30 days, 3 bytes in all, from {project.state}" in output
    assert "removed 1 copy of objects of the root older than 30 days, 4 bytes" in output
    assert not [*results_of(project).objects.list("runs"), *here.list("runs")]
    assert not list(here.list("copies"))


def test_accumulators_of_the_window_stay_and_work_that_nobody_goes_on_with_goes(
    project, in_two_months
):
    results = results_of(project)
    for name in ("2026-01-01", "2025-01-01"):
        results.publish("analyse_span", name, {}, {}, {"span": name})
    work = UnfinishedWork(project.root, "train_model", "key")
    work.write("step-1.npz", b"1234")
    output = clean(project, "--yes")
    assert "removed 2 results" in output and "1 piece of unfinished work" in output
    assert [result.key for result in kept(project, "analyse_span")] == ["2026-01-01"]
    assert work.parts() == []


def test_results_of_fewer_days_go_where_a_person_asks(project, in_two_months):
    assert "would remove 0 results older than 90 days" in clean(project, "--days", "90")


def test_it_stops_where_it_was_asleep_and_another_run_took_over(
    project, in_two_months, monkeypatch
):
    """It is fenced at the next thing that it would remove, whatever its signs of life noticed."""
    removed = []

    def delete(self, name):
        removed.append(name)
        ledger = Ledger(project.ledger_url)
        ledger.release_lease(ledger.lease().fence)  # as if it had run out
        with hold_lease(ledger, "digits", "the next", 600):
            pass

    monkeypatch.setattr(objects_module.FolderObjects, "delete", delete)
    done = CliRunner().invoke(app, ["clean", str(project.folder), "--yes"])
    assert isinstance(done.exception, LeaseLostError) and len(removed) == 1


def test_models_that_never_served_go_when_they_are_old(project, blank_registry):
    shutil.copy(blank_registry, project.state / "registry.db")
    for number in (1, 2, 3):
        whole_run(project, f"run-{number}", f"model {number}", promote=number == 1)
    assert "would remove 0 models" in clean(project)
    with closing(sqlite3.connect(project.state / "registry.db")) as registry, registry:
        registry.execute("UPDATE runs SET end_time = end_time - ?", [60 * 86_400_000])
    output = clean(project)
    assert "would remove 1 model older than 30 days that never served (version 2), " in output
    assert "version 2), 6.1 kB in all, from the registry" in output
    assert [version.version for version in Registry(project).versions()] == ["1", "2", "3"]
    assert "removed 1 model " in clean(project, "--yes")
    assert [version.version for version in Registry(project).versions()] == ["1", "3"]
    assert "would remove 0 models" in clean(project)


def test_days_of_the_prediction_log_go_when_they_are_old(project):
    for number in range(2):
        moment = datetime.now(UTC) - timedelta(days=100 * number)
        for day, table in make_tables([answer(f"r{number}", ["k"], moment)], Masks("id")):
            LogFiles.of_project(project).write(table, day, part_name(moment, "writer", number))
    assert "would remove 1 file of the prediction log older than 90 days" in clean(project)
    assert "removed 1 file of the prediction log" in clean(project, "--yes")
    (file,) = LogFiles.of_project(project).listing().current
    assert file.day == datetime.now(UTC).date()
