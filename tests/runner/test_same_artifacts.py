"""A project gives the same artifacts however its steps are run.

By processes forked from the shared warm process, side by side; from a warm process of the run's
own, one at a time; and by plain kfp.local, which starts a Python for each. No annotations from
__future__: Kubeflow reads those of pipelines.
"""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from perennial.ledger.task_lease import RUN_VARIABLE
from perennial.project import load_project
from perennial.runner.local_run import LocalRun
from perennial.runner.step_display import StepDisplay
from perennial.training.stages import choose_stages
from tests.forked import forked
from tests.perennial.folders import make_project
from tests.runner.artifacts import digests

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.slow,
]  # plain kfp.local imports TensorFlow seven times
ROOT = Path(__file__).parents[2]
SETTINGS = {"stabilise": {"draws": 1, "steps": 2}, "train": {"instances": 2, "epochs": 1}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A landed day in three copies of one project, and the product's pipeline up to the trained models."""
    folder = tmp_path_factory.mktemp("same")
    project = make_project(folder / "shared", **SETTINGS)
    subprocess.run(
        [sys.executable, project.folder / "land.py", "--days", "1"], check=True, capture_output=True
    )
    for copy in ("own", "plain"):
        shutil.copytree(project.folder, folder / copy)
    compile_up_to_training(project, folder / "pipeline.yaml")
    return folder


def compile_up_to_training(project, path: Path) -> None:
    """Compiles the steps that make data and models.

    All but those that judge, register and deploy.
    """
    from kfp import compiler, dsl

    from components.select_spans.component import select_spans
    from pipelines.continuous_training import _train_models, _validate_window

    stages = choose_stages(project)

    @dsl.pipeline(name="up-to-training")
    def pipeline(project: str):
        selected = select_spans(
            project=project,
            stages=stages.names,
            retrain=False,
            tune=False,
            attempt=0,
            trigger="hand",
        ).outputs
        with dsl.If(selected["Output"] == "train"):  # kfp.local finds no output of another name
            validated = _validate_window(project, selected, None)
            _train_models(project, stages, selected, validated, None)

    compiler.Compiler().compile(pipeline, str(path))


def test_artifacts_do_not_depend_on_how_steps_are_run(folder):
    places = (str(folder / name) for name in ("pipeline.yaml", "plain/.run/artifacts", "plain"))
    command = [sys.executable, "-m", "tests.runner.plain", *places]
    with (
        (folder / "plain.log").open("w") as log,
        subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, RUN_VARIABLE: "run"}
        ) as plain,
    ):
        run(folder, "shared", warm=True, at_once=4)
        run(folder, "own", warm=False, at_once=1)
        assert plain.wait() == 0, (folder / "plain.log").read_text()[-3000:]
    shared, own, alone = (
        forked(digests, load_project(folder / name)) for name in ("shared", "own", "plain")
    )
    assert any("weights.npz" in name for name in shared) and any(
        "FeatureStats" in name for name in shared
    )
    assert shared == own == alone


def run(folder: Path, name: str, warm: bool, at_once: int) -> None:
    """Runs the pipeline as `perennial run` does."""
    project = folder / name
    places = (project / ".run" / place for place in ("artifacts", "run", "log"))
    (project / ".run").mkdir()
    with StepDisplay(Console(file=io.StringIO())) as display:
        local = LocalRun(
            folder / "pipeline.yaml",
            *places,
            display,
            warm=warm,
            at_once=at_once,
            environment={RUN_VARIABLE: "run"},
        )
        assert local.execute({"project": str(project)}), local.failures
