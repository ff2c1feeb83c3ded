"""A copy of the digits project that trains quickly, and the means to run it as a person or another process does."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from perennial.ledger.events import Ledger
from perennial.project import load_project
from perennial.results.run_records import RunRecords
from perennial.runner.project_run import RunOptions, RunResult, run_project
from tests.perennial.folders import TOLERANT_GATE
from tests.runner.artifacts import NOT_COMPARED, canonical
from tests.stored import results_of

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits"
FILES = ("project.yaml", "model.py", "schema.pbtxt", "expectations.json", "land.py")
PERENNIAL = Path(sys.executable).parent / "perennial"


@dataclass(frozen=True)
class Digits:
    """A project folder in a test.

    `printed` is what each run in this process printed, on what is no terminal.
    """

    folder: Path
    printed: list[str] = field(default_factory=list)

    @property
    def project(self):
        return load_project(self.folder)

    @property
    def ledger(self):
        return Ledger(self.project.ledger_url)

    def land(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, self.folder / "land.py", *arguments], check=True, capture_output=True
        )

    def run(self, retrain: bool = False, tune: bool = False) -> RunResult:
        output = io.StringIO()
        try:
            return run_project(self.project, RunOptions(retrain, tune), Console(file=output))
        finally:
            self.printed.append(output.getvalue())

    def command(self, *arguments: str) -> subprocess.CompletedProcess:
        name, *rest = arguments
        return subprocess.run(
            [PERENNIAL, name, str(self.folder), *rest],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
        )

    def command_of(self, group: str, name: str, *arguments: str) -> subprocess.CompletedProcess:
        """A command of a group, such as `spans list`."""
        return subprocess.run(
            [PERENNIAL, group, name, str(self.folder), *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
        )

    def run_command(self) -> tuple[int, dict]:
        done = self.command("run", "--json")
        return done.returncode, json.loads(done.stdout.splitlines()[-1])


def make_digits(folder: Path, **changes) -> Digits:
    """Copies the example, with a tolerant gate; `changes` update the sections of its settings.

    Without its probes, which take a tenth of a run and decide nothing: they are in the runs of
    test_loop.py, test_isolated.py and test_root.py.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(DIGITS / name, folder / name)
    settings = yaml.safe_load((folder / "project.yaml").read_text())
    settings["gate"] = dict(TOLERANT_GATE)
    quick = {
        "stabilise": {"draws": 2, "steps": 12},
        "train": {"epochs": 10},
        "evaluate": {"explain": {"examples": 0}},
    }
    for section, values in {**quick, **changes}.items():
        settings[section] = {**settings.get(section, {}), **values}
    (folder / "project.yaml").write_text(yaml.safe_dump(settings))
    return Digits(folder)


def with_a_wrong_label(path: Path) -> pa.Table:
    """Gives the first row of a landed day a label that no digit has."""
    table = pq.read_table(path)
    labels = [99, *table["label"].to_pylist()[1:]]
    pq.write_table(table.set_column(3, "label", pa.array(labels, pa.int64())), path)
    return table


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """One project for the tests of a module, which follow each other."""
    return make_digits(tmp_path_factory.mktemp("project") / "digits")


def make_again(digits: Digits, run: str, task: tuple[str, ...], scratch: Path) -> str:
    """Runs a task of a run again, which must make the same and change nothing; gives what it prints.

    Nothing is the registry, the ledger, the root and anything else: each file, its times and links.
    """
    before = _everything(digits)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TMPDIR", str(scratch))
        done = digits.command("rerun", run, *task)
    assert done.returncode == 0, done.stderr
    assert _everything(digits) == before
    (folder,) = scratch.glob(f"perennial-{task[0]}-*")
    results = results_of(digits.project)
    left = {(made.step, made.part): made for made in RunRecords(results, run).made()}
    made = left[task if len(task) == 2 else (*task, "")].outputs
    for output, reference in made.items():
        assert f"{output}  {folder / 'outputs' / output}  " in done.stdout
        for file in results.files_of(reference):
            if not any(part in file.path for part in NOT_COMPARED):
                again = (folder / "outputs" / output / file.path).read_bytes()
                first = results.read_file(file)
                assert canonical(file.path, again) == canonical(file.path, first), file.path
    return done.stdout


def _everything(digits: Digits) -> dict[str, tuple[int, int, int]]:
    """Size, time of the last change and links of each file of the project and of its state."""
    files = (path for path in digits.folder.rglob("*") if path.is_file())
    return {
        str(path): (path.stat().st_size, path.stat().st_ctime_ns, path.stat().st_nlink)
        for path in files
    }


def start(digits: Digits) -> subprocess.Popen:
    """`perennial run` in the background, its lines readable."""
    return subprocess.Popen(
        [PERENNIAL, "run", str(digits.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_when_done(digits: Digits, step: str, repetition: int = 0) -> None:
    """Starts a run and kills it -9 when the line of `step` appears.

    It has ended, and the next step begins.
    """
    process, seen = start(digits), 0
    for line in process.stdout:
        seen += "; repetition " in line
        if f" {step} " in line and seen == repetition:
            time.sleep(0.15)
            break
        assert "promoted" not in line, f"the run ended before {step} was seen"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not workers_of(digits))


def workers_of(digits: Digits) -> list[str]:
    """Processes that still have this project's files open or named.

    Steps that outlived their run.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                files = [os.readlink(handle) for handle in (entry / "fd").iterdir()]
            except OSError:
                continue
            found += [file for file in files if file.startswith(str(digits.folder))]
    return found


def wait_for(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
