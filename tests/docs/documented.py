"""Makes `my-project`, which the pages speak of: `perennial init`'s irises after two good days and two broken ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from sklearn.datasets import load_iris

PERENNIAL = Path(sys.executable).parent / "perennial"
PROJECT = "my-project"
# The commands and what follows them are what is tried, so the irises are trained briefly.
QUICK = {
    "stabilise": {"draws": 1, "steps": 6},
    "train": {"epochs": 20, "instances": 1, "batch_size": 16, "learning_rate": 0.01},
    "gate": {"mode": "not_worse", "margin": 0.1, "confidence": 0.9, "floors": {"accuracy": 0.8}},
}


def make_documented(folder: Path) -> None:
    """Lands four days and runs the loop after the first, the second and the fourth."""
    perennial(folder, "init", PROJECT)
    project = folder / PROJECT
    settings = yaml.safe_load((project / "project.yaml").read_text())
    (project / "project.yaml").write_text(yaml.safe_dump({**settings, **QUICK}))
    land(project, "2026-01-01", irises(1))
    perennial(folder, "run", PROJECT)
    land(project, "2026-01-02", irises(2))
    perennial(folder, "run", PROJECT)
    land(project, "2026-01-03", irises(3).rename(columns={"petal_width": "petal_breadth"}))
    land(project, "2026-01-04", irises(4).drop(columns="petal_width"))
    perennial(folder, "run", PROJECT, code=3)


def irises(day: int) -> pd.DataFrame:
    """The irises that the project's README lands, measured on another day: ids and errors of that day."""
    table = load_iris(as_frame=True).frame
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    table.columns = [*names, "species"]
    errors = np.random.default_rng(day).normal(0, 0.02, (len(table), len(names)))
    table = table.astype({name: "float32" for name in names})
    table[names] += errors.astype("float32")
    table.insert(0, "id", [f"iris-{day}-{number:03d}" for number in range(len(table))])
    return table


def land(project: Path, day: str, table: pd.DataFrame) -> None:
    """Writes one day, whole at once."""
    (project / "data").mkdir(exist_ok=True)
    table.to_parquet(project / "landing", index=False)
    (project / "landing").rename(project / "data" / f"{day}.parquet")


def perennial(folder: Path, *arguments: str, code: int = 0) -> str:
    """Runs a command in `folder` and gives what it printed.

    Raises:
        AssertionError: It ended with another exit code.
    """
    done = subprocess.run(
        [PERENNIAL, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, f"perennial {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout
