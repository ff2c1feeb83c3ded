"""Finds a Python that can hold the environment, or says in one message why there is none.

    python3 tools/preflight.py [PYTHON]     prints the path of the Python to use; searches PATH unless one is named

Runs on Python 3.6 and newer, so that an old one gets a message and not a syntax error. `choose` decides, and is a pure
function; everything below it only collects what it decides on.
"""

import json
import os
import shutil
import subprocess
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

Version = Tuple[int, ...]

OLDEST, NEWEST = (3, 11), (3, 13)
PLATFORM = "linux-x86_64"
# Lowest glibc that the wheels in requirements.lock run on; requirements.overrides says why they differ.
GLIBC: Dict[Version, Version] = {(3, 11): (2, 28), (3, 12): (2, 39), (3, 13): (2, 39)}
# The environment and uv's cache share 3.9 GB when on one disk; the rest is room to unpack.
FREE_GB = 6

SUPPORTED = "Python {}.{} to {}.{}".format(*(OLDEST + NEWEST))
NAME_ONE = "make setup PYTHON=/path/to/python3.11"


class Interpreter(NamedTuple):
    """What is known of one Python. `glibc` is empty when it runs on another C library."""

    command: str
    executable: str
    implementation: str
    version: Version
    platform: str
    glibc: Version
    has_venv: bool
    header: str
    has_header: bool
    compilers: Sequence[str]
    missing_compilers: Sequence[str]


class Disk(NamedTuple):
    """Free space where something is going to be written, in GB of 10^9 bytes."""

    folder: str
    free_gb: float


class Problem(NamedTuple):
    """Why set-up cannot go on, as a person should read it."""

    where: str
    expected: str
    received: str
    remedy: str

    def __str__(self) -> str:
        return "{} {}. Received: {}. {}".format(*self)


def choose(pythons: Sequence[Interpreter], disks: Sequence[Disk]) -> Union[Interpreter, Problem]:
    """The first Python that can hold the environment, else the problem of the one that came closest."""
    if not pythons:
        remedy = "Install one, or name one that is not on PATH: {}.".format(NAME_ONE)
        return Problem("PATH", "must hold " + SUPPORTED, "none", remedy)
    judged = [judge(python) for python in pythons]
    fitting = [python for python, problems in zip(pythons, judged) if not any(problems)]
    if not fitting:
        closest = max(judged, key=_checks_passed)
        return next(problem for problem in closest if problem)
    for disk in disks:
        if disk.free_gb < FREE_GB:
            where = "Disk of {}".format(disk.folder)
            remedy = (
                "Free some, or move the checkout or uv's cache (UV_CACHE_DIR) to a larger disk."
            )
            return Problem(
                where,
                "must have {} GB free".format(FREE_GB),
                "{:.1f} GB".format(disk.free_gb),
                remedy,
            )
    return fitting[0]


def judge(python: Interpreter) -> List[Optional[Problem]]:
    """One entry for each check, in order; None where it passed. Later ones mean little when an earlier one failed."""
    return [check(python) for check in (_platform, _version, _glibc, _venv, _compiler, _header)]


def _checks_passed(problems: Sequence[Optional[Problem]]) -> int:
    return next((number for number, problem in enumerate(problems) if problem), len(problems))


def _platform(python: Interpreter) -> Optional[Problem]:
    if python.platform == PLATFORM:
        return None
    remedy = "Use such a machine or container: the TFX libraries have no wheels for others."
    return Problem("This machine and its Python", "must be " + PLATFORM, python.platform, remedy)


def _version(python: Interpreter) -> Optional[Problem]:
    if python.implementation == "cpython" and OLDEST <= python.version[:2] <= NEWEST:
        return None
    received = "{} {}".format(
        python.implementation.replace("cpython", "Python"), _dotted(python.version)
    )
    remedy = "Install one of these, or name one that is not on PATH: {}.".format(NAME_ONE)
    return Problem("Python ({})".format(python.command), "must be C" + SUPPORTED, received, remedy)


def _glibc(python: Interpreter) -> Optional[Problem]:
    minor = python.version[:2]
    needed = GLIBC.get(minor, max(GLIBC.values()))
    if python.glibc >= needed:
        return None
    lowest = min(GLIBC, key=lambda version: GLIBC[version])
    if python.glibc >= GLIBC[lowest]:
        remedy = "Use Python {}, which needs only {}: {}.".format(
            _dotted(lowest), _dotted(GLIBC[lowest]), NAME_ONE
        )
    else:
        remedy = (
            "Use a newer distribution, such as Debian 12 (Python 3.11), Debian 13 or Ubuntu 24.04."
        )
    where = "The C library for Python {} ({})".format(_dotted(minor), python.command)
    received = "glibc " + _dotted(python.glibc) if python.glibc else "another C library"
    return Problem(where, "must be glibc {} or newer".format(_dotted(needed)), received, remedy)


def _venv(python: Interpreter) -> Optional[Problem]:
    if python.has_venv:
        return None
    where = "Python ({})".format(python.command)
    remedy = "Install it (Debian, Ubuntu: apt-get install python{}-venv).".format(
        _dotted(python.version[:2])
    )
    return Problem(where, "must have the modules venv and ensurepip", "a Python without", remedy)


def _compiler(python: Interpreter) -> Optional[Problem]:
    if not python.missing_compilers:
        return None
    expected = "must have the compilers that Python builds with ({}): pyfarmhash has no wheel"
    remedy = "Install them (Debian, Ubuntu: apt-get install g++), or name yours: make setup CC=clang CXX=clang++."
    received = "no " + ", no ".join(python.missing_compilers)
    return Problem("PATH", expected.format(", ".join(python.compilers)), received, remedy)


def _header(python: Interpreter) -> Optional[Problem]:
    if python.has_header:
        return None
    where = "Python ({})".format(python.command)
    remedy = "Install them (Debian, Ubuntu: apt-get install python{}-dev).".format(
        _dotted(python.version[:2])
    )
    return Problem(
        where,
        "must have its C headers: pyfarmhash has no wheel",
        "no {}".format(python.header),
        remedy,
    )


def _dotted(version: Version) -> str:
    return ".".join(str(part) for part in version)


# Runs in the Python that is looked at, which may be of any age.
PROBE = """
import json, os, platform, sys, sysconfig
try:
    import ensurepip, venv
    has_venv = bool(ensurepip.version())
except Exception:
    has_venv = False
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except Exception:
    libc = ""
executable = sys.executable
if sys.prefix != getattr(sys, "base_prefix", sys.prefix):
    executable = getattr(sys, "_base_executable", executable)
header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
print(json.dumps({
    "executable": executable,
    "implementation": platform.python_implementation().lower(),
    "version": list(sys.version_info[:3]),
    "platform": sysconfig.get_platform(),
    "libc": libc,
    "has_venv": has_venv,
    "header": header,
    "has_header": os.path.exists(header),
    "compilers": [sysconfig.get_config_var("CC") or "cc", sysconfig.get_config_var("CXX") or "c++"],
}))
"""


def look_at(command: str) -> Optional[Interpreter]:
    """Runs one Python to see what it is; None when it is not there or does not run."""
    try:
        done = subprocess.run(
            [command, "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60
        )
        answers = json.loads(done.stdout.decode())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return _interpreter(command, answers)


def _interpreter(command: str, answers: Dict[str, Any]) -> Interpreter:
    named = [os.environ.get("CC"), os.environ.get("CXX")]
    compilers = [(mine or built).split()[0] for mine, built in zip(named, answers["compilers"])]
    words = answers["libc"].split()
    return Interpreter(
        command=command,
        executable=answers["executable"],
        implementation=answers["implementation"],
        version=tuple(answers["version"]),
        platform=answers["platform"],
        glibc=tuple(int(part) for part in words[1].split(".")) if words[:1] == ["glibc"] else (),
        has_venv=answers["has_venv"],
        header=answers["header"],
        has_header=answers["has_header"],
        compilers=compilers,
        missing_compilers=[compiler for compiler in compilers if not shutil.which(compiler)],
    )


def candidates(named: str) -> List[str]:
    """The Python that was named, else the default one and then the versions that fit, newest first."""
    if named:
        return [named]
    minors = range(NEWEST[1], OLDEST[1] - 1, -1)
    return ["python3"] + ["python3.{}".format(minor) for minor in minors]


def disks_written(root: str) -> List[Disk]:
    """Free space of the checkout's disk and of uv's cache, once when they are the same."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    disks: Dict[int, Disk] = {}
    for folder in (root, os.environ.get("UV_CACHE_DIR") or os.path.join(cache_home, "uv")):
        while not os.path.isdir(folder):
            folder = os.path.dirname(os.path.abspath(folder))
        disks.setdefault(os.stat(folder).st_dev, Disk(folder, shutil.disk_usage(folder).free / 1e9))
    return list(disks.values())


def main(arguments: Sequence[str]) -> int:
    """Prints the chosen Python's path to standard output, what it is or the problem to standard error."""
    named = arguments[0] if arguments else ""
    pythons = [python for python in map(look_at, candidates(named)) if python]
    if named and not pythons:
        remedy = "Name one that runs, or leave PYTHON out to search PATH."
        result: Union[Interpreter, Problem] = Problem(
            "PYTHON", "must name " + SUPPORTED, named, remedy
        )
    else:
        result = choose(
            pythons, disks_written(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        )
    if isinstance(result, Problem):
        sys.stderr.write("set-up: {}\n".format(result))
        return 1
    sys.stderr.write(
        "set-up: Python {}, glibc {}\n".format(_dotted(result.version), _dotted(result.glibc))
    )
    sys.stdout.write(result.executable + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
