"""Measures `perennial run` when nothing new has landed.

CPU seconds of the command, after a history of 1,000 spans.

A project with 1,000 landed files, of which the newest 50 are the window. Its ledger holds what a
thousand daily runs leave there: each run's start with its window, the verdict on its span, its
decision and deployment, and its end. The memo of fingerprints and the mark that says that ledger
and registry agree are there, as after any run.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from _figures import ROOT, Figure, conclude, print_table

from perennial.ledger.events import Ledger, NewEvent
from perennial.project import Project, load_project
from perennial.registry.repair import MARK_FILE, Reconciled
from perennial.spans.landed import find_landed
from perennial.spans.window import number_versions
from perennial.storage.atomic import publish_text
from schemas.records import (
    Criterion,
    Decision,
    DecisionMade,
    Deployment,
    RegistrationBegun,
    RunEnded,
    RunStarted,
    Selection,
    Span,
    SpanJudged,
)

DIGITS = ROOT / "examples" / "digits"
FILES = ("project.yaml", "model.py", "schema.pbtxt", "expectations.json")
LANDED = 1000
WINDOW = 50
REPEATS = 5
TARGET = 1.5  # CPU seconds


def main() -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description="Measure a run that finds nothing new.")
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results"
    )
    parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        project = make_project(Path(scratch) / "digits")
        record_history(project)
        measured = [cpu_seconds(project) for _ in range(REPEATS)]
    median = statistics.median(measured)
    runs = ", ".join(f"{seconds:.2f}" for seconds in measured)
    print_table(
        ("landed spans, window", "CPU seconds of each run", "median"),
        [(f"{LANDED}, {WINDOW}", runs, f"{median:.2f}")],
    )
    return conclude(
        "nothing_new", [Figure("nothing new", median, at_most=TARGET, unit=" CPU s")], began
    )


def make_project(folder: Path) -> Project:
    """Makes the digits project with a window of 50 and small files, which only get fingerprints."""
    (folder / "data").mkdir(parents=True)
    for name in FILES:
        shutil.copy(DIGITS / name, folder / name)
    settings = yaml.safe_load((folder / "project.yaml").read_text(encoding="utf-8"))
    settings["data"] |= {"spans": "data/{SPAN}.parquet", "window": WINDOW}
    (folder / "project.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for number in range(LANDED):
        file = folder / "data" / f"{number}.parquet"
        file.write_bytes(f"span {number}".encode() * 1000)
    return load_project(folder)


def record_history(project: Project) -> None:
    """Appends what a run for each landed span leaves in the ledger.

    Every one of them was promoted.
    """
    ledger = Ledger(project.ledger_url)
    spans = number_versions(find_landed(project), {})  # leaves the memo
    events: list[NewEvent] = []
    for number, span in enumerate(spans):
        events += _events(number, span, spans[max(0, number + 1 - WINDOW) : number + 1])
    ledger.append(*events)
    begun, deployed = ledger.newest("registration_begun"), ledger.newest("deployment")
    ledger.close()
    assert begun is not None and deployed is not None
    mark = Reconciled(registration=begun.number, deployment=deployed.number)
    publish_text(mark.model_dump_json(), project.state / MARK_FILE)


def _events(number: int, span: Span, window: list[Span]) -> list[NewEvent]:
    run, version, digest = f"run-{number:04}", str(number + 1), f"{number:064}"
    selection = Selection(
        run=run,
        window=window,
        new_spans=[span.name],
        instances=[],
        data_digest=digest,
        checks_digest=digest,
        project_digest=digest,
        schema_digest=digest,
    )
    criterion = Criterion(name="accuracy", passed=True, explanation="gain in accuracy of 0.01")
    decision = Decision(
        promote=True, criteria=[criterion] * 10, reasons=["it is better"], not_compared=[]
    )
    deployment = Deployment(
        version=version, digest=digest, action="push", by=run, why="it is better", replaces=None
    )
    ended = RunEnded(
        outcome="promoted",
        reasons=["it is better"],
        window=[each.name for each in window],
        new_spans=[span.name],
        version=version,
        champion=version,
        report=f".perennial/runs/{run}/report.html",
    )
    return [
        NewEvent("run_started", RunStarted(selection=selection), run),
        NewEvent("registration_begun", RegistrationBegun(digest=digest), run),
        NewEvent("decision", DecisionMade(decision=decision, version=version, digest=digest), run),
        NewEvent("deployment", deployment, run),
        NewEvent("span_accepted", SpanJudged(span=span, rows=180, reasons=[]), run),
        NewEvent("run_ended", ended, run),
    ]


def cpu_seconds(project: Project) -> float:
    """Measures one `perennial run` with all that it starts, user and system seconds.

    It must find nothing new.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [Path(sys.executable).parent / "perennial", "run", str(project.folder), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if json.loads(done.stdout.splitlines()[-1])["outcome"] != "nothing_new":
        sys.exit(f"error: the run in {project.folder} did not find nothing new: {done.stdout}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
