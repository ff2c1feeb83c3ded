"""`perennial run` that finds nothing new decides so by itself, records it, and imports nothing that takes long."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest
from rich.console import Console

from components.select_spans.component import select_spans
from perennial.ledger.events import Ledger
from perennial.ledger.task_lease import RUN_VARIABLE
from perennial.runner import project_run
from perennial.runner.project_run import RunOptions, run_project
from perennial.spans.landed import find_landed
from perennial.spans.window import number_versions
from perennial.training.stages import choose_stages
from schemas.records import RunEnded, RunStarted
from tests.perennial.folders import make_project
from tests.perennial.records import judged
from tests.stored import FileArtifact

HEAVY = (
    *(
        "tensorflow",
        "keras",
        "kfp",
        "mlflow",
        "kubernetes",
        "docker",
        "apache_beam",
        "great_expectations",
        "sqlalchemy",
    ),
    *(
        "pandas",
        "pyarrow",
        "numpy",
        "scipy",
        "fsspec",
        "jinja2",
        "tensorflow_data_validation",
        "tfx_bsl",
    ),
)
PROGRAM = """
import sys
from perennial.cli.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


class PipelineBegan(Exception):
    """Raised where the pipeline would be compiled and started."""


@pytest.fixture
def project(tmp_path):
    """Five landed spans, of which the newest three are the window; all were judged."""
    project = make_project(tmp_path / "digits", data={"window": 3})
    (project.folder / "data").mkdir()
    for day in range(1, 6):
        _land(project, f"2026-01-0{day}")
    Ledger(project.ledger_url).append(
        *(judged(True, span) for span in number_versions(find_landed(project), {}))
    )
    return project


def _land(project, name):
    path = project.folder / "data" / f"{name}.parquet"
    path.write_text(name)
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))


def test_the_command_imports_nothing_heavy_and_prints_the_outcome(project):
    command = [sys.executable, "-c", PROGRAM, "run", str(project.folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not set(HEAVY) & set(done.stderr.splitlines()[-1].split())
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["outcome"] == "nothing_new" and answer["report"] is None
    assert answer["window"] == ["2026-01-03", "2026-01-04", "2026-01-05"]


def test_it_is_recorded_as_a_run_that_began_and_ended(project):
    result = run_project(project, RunOptions(), Console(file=io.StringIO()))
    start, end = Ledger(project.ledger_url).events("run_started", "run_ended")
    assert isinstance(start.body, RunStarted) and start.run == end.run == start.body.selection.run
    assert isinstance(end.body, RunEnded) and end.body == result.ended
    assert [span.name for span in start.body.selection.window] == result.ended.window
    assert "data/{YYYY}-{MM}-{DD}.parquet" in result.ended.reasons[0]
    ledger = Ledger(project.ledger_url)
    assert ledger.lease().released
    rows = [row for row in ledger.read_chain(0, 99) if row.run == start.run]
    assert [row.fence for row in rows] == [None, rows[0].number, rows[0].number]


@pytest.mark.parametrize("landed", [False, True], ids=["nothing landed", "a new span"])
@pytest.mark.parametrize("retrain", [False, True], ids=["", "retrain"])
def test_the_command_and_the_pipeline_decide_the_same(project, monkeypatch, landed, retrain):
    if landed:
        _land(project, "2026-01-06")

    def begin(*_):
        raise PipelineBegan

    monkeypatch.setattr(project_run, "_run_pipeline", begin)
    monkeypatch.setenv(RUN_VARIABLE, "in-the-pipeline")
    stages = choose_stages(project).names
    selected = select_spans.python_func(
        str(project.folder),
        stages,
        retrain,
        False,
        0,
        "hand",
        FileArtifact(project.folder / "selection"),
    )
    ledger = Ledger(project.ledger_url)
    ledger.release_lease(ledger.lease().fence)
    began = nullcontext() if selected[0] == "nothing_new" else pytest.raises(PipelineBegan)
    with began:
        assert (
            run_project(
                project, RunOptions(retrain=retrain), Console(file=io.StringIO())
            ).ended.outcome
            == "nothing_new"
        )
    assert (selected[0] == "train") == (landed or retrain)
