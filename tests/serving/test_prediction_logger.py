"""The prediction log as the server writes it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.export.served_model import ServedModel
from perennial.ledger.events import Ledger
from perennial.production.log_files import LogFiles
from perennial.project import Project, load_project
from schemas.records import ModelContract
from serving.observer import Answered
from serving.prediction_logger import COUNTS, PredictionLogger, take_lost_rows
from serving.runtime import LoadedModel
from tests.chain import span_of
from tests.perennial.records import judged
from tests.serving.conftest import FAVOURITE, IMAGE, Server, World

MODEL = LoadedModel(
    "tiny",
    "1",
    "d" * 64,
    (),
    ServedModel("tiny", ModelContract(features=[IMAGE], tasks=[FAVOURITE]), {}, None),
)


def answered(number: int, rows: int = 1) -> Answered:
    return Answered(
        request_id=f"r{number}",
        arm="champion",
        assigned="champion",
        test=None,
        model=MODEL,
        features={"image": np.zeros((rows, 4), np.float32)},
        predictions={
            "class": np.zeros(rows, np.int64),
            "probabilities": np.full((rows, 3), 1 / 3, np.float32),
            "latent": np.zeros((rows, 9), np.float32),
        },
        keys=[f"k{number}"] * rows,
        time=datetime.now(UTC),
        latency_ms=1.0,
    )


def with_log(project: Project, **changes: Any) -> Project:
    log = project.settings.serving.log.model_copy(update={"enabled": True, **changes})
    serving = project.settings.serving.model_copy(update={"log": log})
    return replace(project, settings=project.settings.model_copy(update={"serving": serving}))


def rows(project: Project) -> int:
    log = LogFiles.of_project(project)
    return sum(table.num_rows for table in log.read(None, lambda name: name == "key"))


def wait_until(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def project(make_project: Callable[[str], Project]) -> Project:
    return make_project("logged")


@pytest.fixture
def start() -> Iterator[Callable[[Project], PredictionLogger]]:
    """Starts loggers that end with the test."""
    loggers: list[PredictionLogger] = []

    def begin(project: Project) -> PredictionLogger:
        loggers.append(PredictionLogger(project))
        return loggers[-1]

    yield begin
    for logger in loggers:
        logger.close()


def test_rows_are_written_in_time_or_when_many_wait(project: Project) -> None:
    logger = PredictionLogger(with_log(project, seconds=0.1))
    logger.observe(answered(1))
    wait_until(lambda: rows(project) == 1)
    logger.close()
    many = PredictionLogger(with_log(project, seconds=3600, rows=5))
    for number in range(5):
        many.observe(answered(number))
    wait_until(lambda: rows(project) == 6)
    many.observe(answered(9))
    many.close()
    assert rows(project) == 7, "the last rows are written when the server stops"
    assert (many.written, many.dropped, many.lost) == (6, 0, 0)
    assert not list((project.state / COUNTS).iterdir())
    table = next(LogFiles.of_project(project).read(None, lambda _: True))
    assert "output:latent" not in table.column_names


def test_what_finds_the_memory_full_is_dropped_and_counted(
    project: Project, start: Callable[[Project], PredictionLogger], caplog: pytest.LogCaptureFixture
) -> None:
    logger = start(with_log(project, seconds=3600, memory_mb=0.001))
    for number in range(20):
        logger.observe(answered(number))
    samples = {
        sample.labels["outcome"]: sample.value
        for metric in logger.collect()
        for sample in metric.samples
        if sample.name == "perennial_prediction_log_rows_total"
    }
    assert 0 < samples["dropped"] < 20
    logger.observe(answered(99, rows=3))
    assert logger.dropped == samples["dropped"] + 3
    assert len([line for line in caplog.messages if "drops rows" in line]) == 1


def test_a_root_that_takes_nothing_is_told_and_tried_again(
    project: Project, start: Callable[[Project], PredictionLogger], caplog: pytest.LogCaptureFixture
) -> None:
    folder = project.folder / ".perennial" / "predictions"
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file where the folder is to be")
    logger = start(with_log(project, seconds=0.05))
    logger.observe(answered(1))
    wait_until(lambda: any("cannot be written" in line for line in caplog.messages))
    logger.observe(answered(2))
    folder.unlink()
    wait_until(lambda: logger.written == 2)
    assert rows(project) == 2


def test_rows_that_cannot_be_written_until_the_end_are_told_to_be_lost(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    logger = PredictionLogger(with_log(project, seconds=3600))
    logger.observe(answered(1, rows=4))
    shutil.rmtree(project.state / "predictions", ignore_errors=True)
    (project.state / "predictions").write_text("a file where the folder is to be")
    logger.close()
    assert logger.lost == 4
    assert "4 rows of the prediction log are lost" in caplog.text


def test_a_start_after_a_kill_says_how_many_rows_were_lost(
    project: Project, start: Callable[[Project], PredictionLogger], caplog: pytest.LogCaptureFixture
) -> None:
    child = os.fork()
    if not child:
        logger = PredictionLogger(with_log(project, seconds=3600, rows=3))
        for number in range(3):
            logger.observe(answered(number))
        while logger.written < 3:
            time.sleep(0.01)
        logger.observe(answered(3))
        logger.observe(answered(4))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    running = start(with_log(project, seconds=3600))
    assert running.lost == 2
    assert "lost 2 rows of the prediction log" in caplog.text
    running.observe(answered(5))
    assert take_lost_rows(project.state / COUNTS) == 0, "the counter of one that runs is its own"


def test_only_a_sample_is_logged(
    project: Project,
) -> None:
    logger = PredictionLogger(with_log(project, seconds=3600, sample=0.2))
    for number in range(1000):
        logger.observe(answered(number))
    logger.close()
    assert 120 < logger.written < 280
    (table,) = LogFiles.of_project(project).read(None, lambda name: name == "chance")
    assert set(table["chance"].to_pylist()) == {0.2}


_SCHEMA = """
feature { name: "id" type: BYTES shape { dim { size: 1 } } presence { min_fraction: 1 } }
feature { name: "label" type: INT shape { dim { size: 1 } } }
feature { name: "image" type: FLOAT shape { dim { size: 4 } } }
feature { name: "age" type: INT shape { dim { size: 1 } } }
feature { name: "city" type: BYTES shape { dim { size: 1 } } }
"""
_SETTINGS = """
name: tiny
label: label
state: {state}
root: root
data: {{spans: "data/{{SPAN}}.csv", key: id}}
model: {{tasks: [{{kind: multi_class}}]}}
gate: {{metric: accuracy}}
serving: {{poll_seconds: 0.5, log: {{enabled: true, seconds: 0.2, hashed: [city], secret: PEPPER}}}}
"""


def test_from_requests_to_a_metric_and_to_a_person_who_is_forgotten(
    version_1: World,
    serve_project: Callable[..., Server],
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Version 1 prefers class 0, and nine of twelve labels are that."""
    monkeypatch.setenv("PEPPER", "a secret")
    (tmp_path / "project.yaml").write_text(_SETTINGS.format(state=version_1.project.state))
    (tmp_path / "schema.pbtxt").write_text(_SCHEMA)
    (tmp_path / "data").mkdir()
    project = load_project(tmp_path)
    server = serve_project(project, port)
    server.wait_ready("/v2/models/tiny/ready")
    for number in range(12):
        row = {"id": f"k{number}", "image": [0, 0, 0, 1], "age": 1, "city": "Turin"}
        answer = server.post("/v1/models/tiny:predict", {"instances": [row, row]})
        assert answer.status_code == 200, answer.text
    wait_until(
        lambda: 'rows_total{name="tiny",outcome="written"} 24.0' in server.get("/metrics").text
    )
    (tmp_path / "data" / "1.csv").write_text(
        "id,label\n" + "".join(f"k{number},{int(number >= 9)}\n" for number in range(12))
    )
    ledger = Ledger(project.ledger_url)
    ledger.append(judged(True, span_of(tmp_path / "data" / "1.csv")))
    ledger.close()
    live = perennial("live", tmp_path, "--json")
    (day,) = json.loads(live)["days"]
    assert (day["arm"], day["versions"], day["predictions"]) == ("champion", ["1"], 24)
    assert (day["keys"], day["labelled"], day["value"]) == (12, 12, 0.75)
    assert day["remark"] == "the day is not over"
    first = next(LogFiles.of_project(project).read(None, lambda _: True)).to_pylist()[0]
    assert first["contract"] == answer.headers["x-model-contract"]
    assert first["feature:image"] == [0, 0, 0, 1] and first["output:class"] == 0
    assert "Turin" not in str(first)
    assert "removed 2 rows of the key" in perennial("forget", tmp_path, "k3")
    (day,) = json.loads(perennial("live", tmp_path, "--json"))["days"]
    assert (day["predictions"], day["keys"]) == (22, 11)


def perennial(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout
