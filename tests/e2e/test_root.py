"""Two machines that share nothing but servers: results on S3, ledger and registry on PostgreSQL.

A machine is a project folder with a state folder of its own; the data lie where both see them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from s3fs import S3FileSystem

from perennial.ledger.events import Ledger
from perennial.ledger.lease import hold_lease
from perennial.results.store import Results
from perennial.storage.objects import ListedObject
from schemas.records import RunEnded, Training
from tests.e2e.conftest import PERENNIAL, ROOT, Digits, make_digits, wait_for, workers_of
from tests.perennial.registry import mlflow_server
from tests.s3 import ACCOUNT, PASSWORD
from tests.session import Server, serve_once

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def places(s3, postgres) -> dict[str, str]:
    """The variables that name the servers, as a machine of a cluster gets them."""
    registry: Server = serve_once(
        "mlflow-s3", lambda folder: mlflow_server.start(postgres.new_database(), folder, s3)
    )
    return {
        **s3.environment,
        "PERENNIAL_ROOT": s3.new_root(),
        "PERENNIAL_LEDGER_URL": postgres.new_ledger(),
        "PERENNIAL_REGISTRY_URI": registry.address,
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory, places) -> Digits:
    """A machine whose first run promoted a champion."""
    folder = tmp_path_factory.mktemp("machines")
    digits = make_digits(
        folder / "first",
        data={"spans": str(folder / "landed" / "{YYYY}-{MM}-{DD}.parquet")},
        train={"instances": 1, "epochs": 4},
        evaluate={"explain": {}},  # with the step that probes
        gate={"floors": {}, "trivial": "warn"},
    )
    land(digits, 1)
    assert run(digits, places)["outcome"] == "promoted"
    return digits


@pytest.fixture(scope="module")
def second(first) -> Digits:
    """Another machine: the same project, nothing of the first one's state, and its own elsewhere."""
    folder = first.folder.with_name("second")
    shutil.copytree(first.folder, folder, ignore=shutil.ignore_patterns(".perennial"))
    return Digits(folder)


def land(digits: Digits, day: int) -> None:
    """Lands a day where the settings say."""
    digits.land("--days", str(day))
    settings = yaml.safe_load((digits.folder / "project.yaml").read_text())
    landed = Path(settings["data"]["spans"]).parent
    landed.mkdir(exist_ok=True)
    for file in (digits.folder / "data").iterdir():
        if not (landed / file.name).exists():
            shutil.copy(file, landed)


def environment_of(digits: Digits, places: dict[str, str]) -> dict[str, str]:
    """The variables of a machine's commands; the second one's state is not in the project."""
    own = {"PERENNIAL_STATE": str(state_of(digits))} if digits.folder.name == "second" else {}
    return {**os.environ, **places, **own}


def state_of(digits: Digits) -> Path:
    return digits.folder.with_name("state")


def run(digits: Digits, places: dict[str, str]) -> dict:
    """Runs the command on a machine; gives its answer."""
    command = [PERENNIAL, "run", digits.folder, "--json"]
    environment = environment_of(digits, places)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def made(places: dict[str, str], step: str, local: Path) -> int:
    """How many results of a step lie in the root."""
    with root(places, local) as results:
        return len(results.of_step(step))


@contextmanager
def root(places: dict[str, str], local: Path) -> Iterator[Results]:
    """The root of the project, opened with the account of its machines."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in places.items():
            patched.setenv(name, value)
        yield Results(f"{places['PERENNIAL_ROOT']}/digits", local)  # the project's name


def everything(places: dict[str, str], local: Path) -> list[ListedObject]:
    """All objects of the root, with their sizes and when they were written."""
    folders = ("memos", "objects", "packages", "results", "runs", "unfinished")
    with root(places, local) as results:
        return [each for folder in folders for each in results.objects.list(folder)]


def checkpoints(places: dict[str, str], local: Path) -> list[str]:
    """The checkpoints of unfinished trainings that lie in the root."""
    with root(places, local) as results:
        return [each.name for each in results.objects.list("unfinished/train_model")]


def trainings(places: dict[str, str], local: Path) -> list[Training]:
    """The records of all trainings that lie in the root."""
    with root(places, local) as results:
        files = [
            file
            for result in results.of_step("train_model")
            for file in result.outputs["model"].files
            if file.path == Training.FILE
        ]
        return [Training.model_validate_json(results.read_file(file)) for file in files]


def test_another_machine_finds_what_the_first_one_did(second, places, tmp_path):
    assert run(second, places)["outcome"] == "nothing_new"
    assert made(places, "prepare_span", tmp_path) == 1


def test_another_machine_reads_what_the_steps_printed(first, second, places):
    run_name = Ledger(places["PERENNIAL_LEDGER_URL"]).runs()[0][1].selection.run
    environment = environment_of(second, places)
    command = [PERENNIAL, "logs", second.folder, run_name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = [line.split()[1].rstrip(",") for line in done.stdout.splitlines() if line[:3] == "== "]
    assert steps[0] == "select_spans" and {"prepare_span", "train_model"} < set(steps)
    assert "train_model ended after" in done.stdout and PASSWORD not in done.stdout
    one = subprocess.run(
        [*command, "train_model", "instance-1"], env=environment, capture_output=True, text=True
    )
    assert one.stdout.startswith("== train_model instance-1, begun ") and one.stdout in done.stdout


def test_the_registry_keeps_models_on_s3(first, s3):
    store = S3FileSystem(
        key=ACCOUNT, secret=PASSWORD, endpoint_url=s3.endpoint, skip_instance_cache=True
    )
    assert [path for path in store.find(mlflow_server.MODELS) if path.endswith("saved_model.pb")]


def test_machines_run_one_at_a_time(second, places):
    """The state folders hold nothing in common that could be locked."""
    ledger = Ledger(places["PERENNIAL_LEDGER_URL"])
    with hold_lease(ledger, "digits", "on-the-first", 600):
        refused = run(second, places)
    assert refused["outcome"] == "failed"
    assert "one run at a time. Received: run on-the-first by process" in refused["reasons"][0]
    assert run(second, places)["outcome"] == "nothing_new"


def test_it_goes_on_from_there(first, second, places, tmp_path):
    land(second, 2)
    result = run(second, places)
    assert result["outcome"] in ("promoted", "kept_champion"), result
    assert result["new_spans"] == ["2026-01-02"]
    assert result["window"] == ["2026-01-01", "2026-01-02"]
    assert made(places, "ingest_examples", tmp_path) == 2  # each day once, wherever
    assert (state_of(second) / "runs").is_dir() and not (second.folder / ".perennial").exists()
    assert run(first, places)["outcome"] == "nothing_new"
    place = result["report"].removeprefix(f"{places['PERENNIAL_ROOT']}/digits/").rpartition("/")[0]
    with root(places, tmp_path) as results:  # any machine reads how it ended, and why
        assert b"</html>" in results.objects.read(f"{place}/report.html")
        ended = RunEnded.model_validate_json(results.objects.read(f"{place}/outcome.json"))
    assert (ended.outcome, ended.report) == (result["outcome"], result["report"])
    assert len(result["warnings"]) == ended.warned + ended.not_compared


def test_a_machine_runs_a_task_again_that_another_one_ran(first, places, tmp_path):
    """It has the inputs from the root, and changes neither that nor the ledger."""
    ledger = Ledger(places["PERENNIAL_LEDGER_URL"])
    selections = [start.selection for _, start, _ in ledger.runs()]
    run_name = next(each.run for each in selections if each.new_spans == ["2026-01-02"])
    head, before = ledger.head(), everything(places, tmp_path)
    command = [PERENNIAL, "rerun", first.folder, run_name, "evaluate_model"]
    environment = {**os.environ, **places, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  as in the run\n") == 2
    assert (ledger.head(), everything(places, tmp_path)) == (head, before)


def test_a_run_that_was_killed_on_one_machine_is_finished_by_the_other(
    first, second, places, tmp_path
):
    land(first, 3)
    environment = {**os.environ, **places}
    command = [PERENNIAL, "run", str(first.folder)]
    killed = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in killed.stdout:
        if " stabilise_weights " in line:
            break
    wait_for(lambda: checkpoints(places, tmp_path), 120)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    wait_for(lambda: not workers_of(first))
    assert checkpoints(places, tmp_path) and made(places, "train_model", tmp_path) == 2
    trained = made(places, "transform_features", tmp_path)
    result = run(second, places)
    assert result["outcome"] in ("promoted", "kept_champion"), result
    assert made(places, "transform_features", tmp_path) == trained
    assert made(places, "ingest_examples", tmp_path) == 3
    records = trainings(places, tmp_path)
    assert len(records) == 3 and sum(each.resumed_from is not None for each in records) == 1
    assert not checkpoints(places, tmp_path), "they go with the result"
    accepted = Ledger(places["PERENNIAL_LEDGER_URL"]).events("span_accepted")
    assert [event.body.span.name for event in accepted] == [
        "2026-01-01",
        "2026-01-02",
        "2026-01-03",
    ]


def test_a_machine_without_the_project_folder_does_a_step_of_its_package(first, places, tmp_path):
    """It has the root, the ledger and the registry, and the name of the package."""
    land(first, 4)
    started = [start.selection for _, start, _ in Ledger(places["PERENNIAL_LEDGER_URL"]).runs()]
    package = next(each.package for each in started if each.package)  # a run without work has none
    reference = f"{places['PERENNIAL_ROOT']}/digits/packages/{package}.tar"
    before = made(places, "ingest_examples", tmp_path / "local")
    own = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.e2e.elsewhere", reference]
    done = subprocess.run(
        command, env={**os.environ, **places, **own}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(str(tmp_path))
    assert made(places, "ingest_examples", tmp_path / "local") == before + 1


def test_a_store_that_is_gone_is_one_message(first, places):
    nowhere = {**places, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    land(first, 4)
    result = run(first, nowhere)
    assert result["outcome"] == "failed"
    (reason,) = result["reasons"]
    assert places["PERENNIAL_ROOT"] in reason and "Traceback" not in reason and len(reason) < 500
