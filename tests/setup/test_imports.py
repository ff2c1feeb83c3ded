"""The direction of imports is checked.

Each contract of pyproject.toml can break, and allows what it should.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ONE_WAY = (
    "Imports point one way, but for the command line and the runner, which may import everything"
)
CLI = "Nothing imports the command line"
RUNNER = "Only the command line imports the runner"
STEPS = "Steps run without Kubeflow"
APART = "Steps do not import each other"
ALONE = "Publication imports nothing of the product, so that records may use it"
HOUSE = ["perennial.errors", "perennial.cli.main", "perennial.runner.task", "serving.server"]
HOUSE += ["pipelines.training", "components.train_model.step", "components.train_model.component"]
HOUSE += [
    "components.tune_model.step",
    "components.kubeflow",
    "perennial.storage.atomic",
    "schemas.records.base",
]


def broken_contracts(folder: Path, module: str, source: str) -> list[str]:
    """Names of the contracts that break when one module of a small house holds `source`."""
    for name in HOUSE:
        path = folder / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source if name == module else "")
        for package in path.relative_to(folder).parents[:-1]:
            (folder / package / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", folder)
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(linter), "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert "Contracts:" in done.stdout, done.stdout + done.stderr
    contracts = (ONE_WAY, CLI, RUNNER, STEPS, APART, ALONE)
    broken = [name for name in contracts if f"{name} BROKEN" in done.stdout.replace("\n", " ")]
    assert bool(broken) == bool(done.returncode), done.stdout
    return broken


@pytest.mark.parametrize(
    ("module", "source", "broken"),
    [
        ("schemas.records.base", "import perennial.errors", [ONE_WAY]),
        ("schemas.records.base", "from perennial.storage.atomic import publish_text", []),
        ("perennial.storage.atomic", "import perennial.errors", [ALONE]),
        ("perennial.errors", "import serving.server", [ONE_WAY]),
        ("perennial.errors", "from components.train_model import step", [ONE_WAY]),
        ("serving.server", "import components.train_model.step", [ONE_WAY]),
        ("components.train_model.step", "import pipelines.training", [ONE_WAY]),
        ("pipelines.training", "import perennial.cli.main", [CLI]),
        ("perennial.errors", "def late():\n    from perennial.cli import main", [CLI]),
        ("perennial.runner.task", "import perennial.cli.main", [CLI]),
        ("perennial.errors", "import perennial.runner.task", [RUNNER]),
        ("components.train_model.step", "from kfp import dsl", [STEPS]),
        ("components.train_model.step", "import components.tune_model.step", [APART]),
        (
            "components.train_model.component",
            "from components.tune_model.step import tune_model",
            [APART],
        ),
        ("components.train_model.step", "import components.kubeflow", [APART]),
        ("components.train_model.component", "from components.kubeflow import component", []),
        ("components.train_model.step", "import components.train_model.component", []),
        ("components.train_model.component", "from kfp import dsl", []),
        ("components.train_model.component", "import serving.server\nimport perennial.errors", []),
        ("perennial.runner.task", "import components.train_model.step", []),
        ("perennial.cli.main", "import perennial.runner.task", []),
        (
            "perennial.cli.main",
            "import pipelines.training\nimport components.train_model.step\nimport serving.server",
            [],
        ),
    ],
)
def test_contracts(tmp_path: Path, module: str, source: str, broken: list[str]) -> None:
    assert broken_contracts(tmp_path, module, source) == broken
