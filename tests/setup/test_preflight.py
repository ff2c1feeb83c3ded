"""The choice of a Python, and the one message when there is none."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
spec = importlib.util.spec_from_file_location("preflight", TOOLS / "preflight.py")
assert spec and spec.loader
preflight = importlib.util.module_from_spec(spec)
spec.loader.exec_module(preflight)

ROOM = [preflight.Disk("/home/somebody", 50.0)]
GOOD = preflight.Interpreter(
    command="python3",
    executable="/usr/bin/python3",
    implementation="cpython",
    version=(3, 11, 2),
    platform="linux-x86_64",
    glibc=(2, 36),
    has_venv=True,
    header="/usr/include/python3.11/Python.h",
    has_header=True,
    compilers=["gcc", "g++"],
    missing_compilers=[],
)


@pytest.mark.parametrize(
    ("version", "glibc"),
    [((3, 11, 0), (2, 28)), ((3, 12, 4), (2, 39)), ((3, 13, 5), (2, 41)), ((3, 11, 9), (2, 41))],
)
def test_takes_what_the_wheels_run_on(version: tuple[int, ...], glibc: tuple[int, ...]) -> None:
    python = GOOD._replace(version=version, glibc=glibc)
    assert preflight.choose([python], ROOM) == python


@pytest.mark.parametrize(
    ("change", "where", "expected", "received", "remedy"),
    [
        (
            {"version": (3, 10, 13)},
            "Python (python3)",
            "CPython 3.11 to 3.13",
            "Python 3.10.13",
            "PYTHON=",
        ),
        (
            {"version": (3, 14, 0)},
            "Python (python3)",
            "CPython 3.11 to 3.13",
            "Python 3.14.0",
            "PYTHON=",
        ),
        (
            {"implementation": "pypy"},
            "Python (python3)",
            "CPython 3.11 to 3.13",
            "pypy 3.11.2",
            "PYTHON=",
        ),
        (
            {"platform": "macosx-14.0-arm64"},
            "This machine",
            "linux-x86_64",
            "macosx-14.0-arm64",
            "container",
        ),
        (
            {"platform": "linux-aarch64"},
            "This machine",
            "linux-x86_64",
            "linux-aarch64",
            "container",
        ),
        (
            {"glibc": (2, 17)},
            "C library",
            "glibc 2.28 or newer",
            "glibc 2.17",
            "newer distribution",
        ),
        (
            {"glibc": ()},
            "C library",
            "glibc 2.28 or newer",
            "another C library",
            "newer distribution",
        ),
        (
            {"version": (3, 12, 1)},
            "C library",
            "glibc 2.39 or newer",
            "glibc 2.36",
            "Use Python 3.11",
        ),
        (
            {"has_venv": False},
            "Python (python3)",
            "venv and ensurepip",
            "without",
            "python3.11-venv",
        ),
        ({"missing_compilers": ["g++"]}, "PATH", "compilers", "no g++", "apt-get install g++"),
        (
            {"has_header": False},
            "Python (python3)",
            "C headers",
            "no /usr/include/python3.11/Python.h",
            "python3.11-dev",
        ),
    ],
)
def test_says_where_expected_received_and_what_to_do(
    change: dict[str, object], where: str, expected: str, received: str, remedy: str
) -> None:
    problem = preflight.choose([GOOD._replace(**change)], ROOM)
    assert isinstance(problem, preflight.Problem)
    assert where in problem.where
    assert expected in problem.expected
    assert received in problem.received
    assert remedy in problem.remedy
    assert "\n" not in str(problem)


def test_an_unsuitable_default_gives_way_to_one_that_fits() -> None:
    fitting = GOOD._replace(command="python3.11", executable="/usr/bin/python3.11")
    too_new = GOOD._replace(version=(3, 14, 0))
    too_new_for_the_c_library = GOOD._replace(command="python3.13", version=(3, 13, 0))
    assert preflight.choose([too_new, too_new_for_the_c_library, fitting], ROOM) == fitting


def test_speaks_of_the_python_that_came_closest() -> None:
    too_old = GOOD._replace(version=(3, 9, 2))
    without_venv = GOOD._replace(command="python3.11", has_venv=False)
    assert "python3.11" in preflight.choose([too_old, without_venv], ROOM).where


def test_no_python_at_all() -> None:
    assert preflight.choose([], ROOM).received == "none"


def test_every_disk_that_is_written_needs_room() -> None:
    problem = preflight.choose([GOOD], [*ROOM, preflight.Disk("/home/somebody/.cache", 2.34)])
    assert problem.where == "Disk of /home/somebody/.cache"
    assert problem.received == "2.3 GB"


def test_looks_at_a_real_python() -> None:
    python = preflight.look_at(sys.executable)
    assert python.version == sys.version_info[:3]
    assert Path(python.executable).resolve() == Path(sys.executable).resolve()
    assert python.executable != sys.executable or sys.prefix == sys.base_prefix, (
        "a .venv cannot be made from itself"
    )


def test_what_does_not_run_is_no_python(tmp_path: Path) -> None:
    assert preflight.look_at(str(tmp_path / "absent")) is None
    assert preflight.look_at("true") is None


def test_a_name_that_does_not_run_gets_a_message() -> None:
    done = subprocess.run(
        [sys.executable, str(TOOLS / "preflight.py"), "no-such-python"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "set-up: PYTHON must name Python 3.11 to 3.13. Received: no-such-python. "
        "Name one that runs, or leave PYTHON out to search PATH.\n"
    )


def test_the_same_disk_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "not" / "there" / "yet"))
    assert [disk.folder for disk in preflight.disks_written(str(tmp_path))] == [str(tmp_path)]


def test_runs_on_old_pythons_and_says_so() -> None:
    found = [preflight.look_at(f"python3.{minor}") for minor in range(6, 11)]
    if not any(found):
        pytest.skip("no Python 3.6 to 3.10 on PATH")
    for old in filter(None, found):
        command = [old.executable, str(TOOLS / "preflight.py"), old.executable]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert (
            f"must be CPython 3.11 to 3.13. Received: Python {old.version[0]}.{old.version[1]}"
            in done.stderr
        )
        assert done.stderr.count("\n") == 1


def test_has_only_syntax_of_python_3_6() -> None:
    ast.parse((TOOLS / "preflight.py").read_text(), feature_version=(3, 6))
