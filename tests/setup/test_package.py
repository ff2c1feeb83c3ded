"""The package that Beam ships to remote workers holds all the code and the files that the code reads."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import perennial

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["schemas", "perennial", "components", "pipelines", "serving"]
DATA = {".html", ".css", ".js", ".svg", ".json", ".yaml", ".pbtxt", ".txt"}


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source package, built as Beam builds it, with a file of every kind added to a room and below it."""
    tree = tmp_path_factory.mktemp("tree")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tree)
    (tree / "serving" / "templates").mkdir(exist_ok=True)
    for ending in DATA:
        (tree / "serving" / f"example{ending}").touch()
        (tree / "serving" / "templates" / f"example{ending}").touch()
    run("setup.py", "-q", "sdist", cwd=tree)
    with tarfile.open(tree / "dist" / f"perennial-{perennial.__version__}.tar.gz") as archive:
        archive.extractall(tree / "unpacked", filter="data")
    return tree / "unpacked" / f"perennial-{perennial.__version__}"


def test_wheel_from_the_source_package_is_complete(source: Path, tmp_path: Path) -> None:
    options = ["--no-index", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    run("-m", "pip", "wheel", *options, ".", cwd=source)
    with zipfile.ZipFile(tmp_path / f"perennial-{perennial.__version__}-py3-none-any.whl") as wheel:
        packed = set(wheel.namelist())
    tree = source.parents[1]
    files = [
        path
        for name in PACKAGES
        for path in (tree / name).rglob("*")
        if path.suffix in {*DATA, ".py"}
    ]
    assert {path.relative_to(tree).as_posix() for path in files} - packed == set()
    assert not [
        name for name in packed if name.startswith(("tests/", "examples/", "tools/", "docs/"))
    ]
