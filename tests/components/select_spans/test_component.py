"""What select_spans hands to other steps stays small, however many spans there are."""

from __future__ import annotations

import json
import os
from datetime import date, timedelta

from perennial.ledger.task_lease import RUN_VARIABLE
from perennial.project import load_project
from perennial.training.stages import choose_stages
from schemas.records import Reference, Selection
from tests.forked import forked, import_wrapper
from tests.perennial.folders import make_project
from tests.stored import FileArtifact, results_of, stage

SPANS = 1_000
# Kubeflow gives a step its inputs as one argument of a command, which may have 128 KiB.
MOST_BYTES = 64 * 1024


def select(folder: str, artifact: FileArtifact) -> list:
    """Calls the wrapper; gives its output parameters."""
    stages = choose_stages(load_project(folder)).names
    os.environ[RUN_VARIABLE] = "a-run"
    arguments = (folder, stages, False, False, 0, "hand", artifact)
    return list(import_wrapper("select_spans").python_func(*arguments))


def test_a_thousand_spans_make_small_parameters_and_a_small_artifact(tmp_path):
    project = make_project(tmp_path / "project", data={"window": SPANS})
    data = project.folder / "data"
    data.mkdir(exist_ok=True)
    days = [date(2020, 1, 1) + timedelta(days=number) for number in range(SPANS)]
    for number, day in enumerate(days):
        (data / f"{day}.parquet").write_text(str(number))
    artifact = FileArtifact(tmp_path / "selection")
    outputs = forked(select, str(project.folder), artifact)
    assert outputs[0] == "train"
    pending = next(one for one in outputs if isinstance(one, list) and len(one) == SPANS)
    assert pending[0] == {"name": "2020-01-01"} and pending[-1] == {"name": str(days[-1])}
    assert len(json.dumps(outputs)) < MOST_BYTES
    assert (tmp_path / "selection" / Reference.FILE).stat().st_size < MOST_BYTES
    selection = Selection.read(stage(project, artifact, tmp_path / "staged"))
    assert [span.name for span in selection.window] == [str(day) for day in days]
    assert len(selection.model_dump_json()) > 2 * MOST_BYTES  # as a parameter it would not pass
    assert results_of(project).of_step("select_spans")[0].outputs["record"].files
