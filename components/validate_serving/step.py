"""Loads the model into the real server and compares its answers with what evaluation computed."""

from __future__ import annotations

import json
import multiprocessing
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.evaluate_model.predictions import KEY, SPAN
from components.evaluate_model.step import TABLE_FILE, read_evaluation
from components.train_model.step import SAVED_MODEL
from perennial.errors import ServingError
from perennial.examples import decode_records, read_records, serving_features, split_files
from perennial.processes import die_with_parent
from perennial.project import Project
from perennial.publishing import publish_text
from schemas.records import ModelVersion, ServingCheck

RECORD_FILE = "serving_check.json"
# The server computes the same graph on batches of another size; float32 sums differ in the last digits.
TOLERANCE = 1e-4
_EXAMPLES = 16
_READY_SECONDS = 120.0


def validate_serving(
    project: Project, version: ModelVersion, window: Path, evaluation: Path, model: Path, output: Path
) -> ServingCheck:
    """Starts the server on the candidate, sends test examples over HTTP, and writes `output/serving_check.json`.

    Raises:
        ServingError: The server does not become ready, or does not answer as evaluation did.
    """
    port = _free_port()
    folder, name = model / SAVED_MODEL, project.settings.name
    # Forked before this process runs any TensorFlow: the child starts with everything imported.
    server = multiprocessing.get_context("fork").Process(
        target=_serve, args=(name, version.version, folder, version.digest, port), daemon=True
    )
    started = time.monotonic()
    server.start()
    try:
        _wait_until_ready(server, f"http://127.0.0.1:{port}/v2/models/{name}/ready")
        ready = time.monotonic() - started
        instances, expected = _load_examples(project, window, evaluation)
        answered = _predict(f"http://127.0.0.1:{port}/v1/models/{name}:predict", instances)
    finally:
        server.terminate()
        server.join(10)
        server.kill()
    check = compare_answers(answered, expected, ready)
    publish_text(check.model_dump_json(indent=2), output / RECORD_FILE)
    if not check.passed:
        remedy = "The export and the evaluation disagree: report this with the model."
        raise ServingError(f"version {version.version}", "must answer as evaluation did", check.message, remedy)
    return check


def compare_answers(
    answered: Sequence[Sequence[float]], expected: Sequence[Sequence[float]], seconds_to_ready: float
) -> ServingCheck:
    """Compares served with evaluated class probabilities, row by row."""
    gaps = [
        abs(a - e) for a_row, e_row in zip(answered, expected, strict=True) for a, e in zip(a_row, e_row, strict=True)
    ]
    # A NaN is not within the tolerance, and an answer to nothing is no answer.
    passed = bool(gaps) and all(gap <= TOLERANCE for gap in gaps)
    largest = max(gaps, default=0.0)
    return ServingCheck(
        passed=passed,
        requests=len(answered),
        largest_difference=largest,
        seconds_to_ready=seconds_to_ready,
        message=f"{len(answered)} examples over HTTP, probabilities within {largest:.1e} of evaluation's",
    )


def read_serving_check(folder: Path) -> ServingCheck:
    """The record that `validate_serving` left in a folder."""
    return ServingCheck.model_validate_json((folder / RECORD_FILE).read_text(encoding="utf-8"))


def _serve(name: str, version: str, folder: Path, digest: str, port: int) -> None:
    die_with_parent()
    from serving.server import serve_folder

    serve_folder(name, version, folder, digest, port)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(server: Any, url: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if not server.is_alive():
            raise ServingError("model server", "must start", f"it ended with code {server.exitcode}", "See the log.")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise ServingError("model server", f"must be ready within {_READY_SECONDS:.0f} s", "no answer", "See the log.")


def _load_examples(project: Project, window: Path, evaluation: Path) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """Some test examples as a client would send them, and the candidate's evaluated probabilities for them."""
    import pandas as pd

    candidate = read_evaluation(evaluation).candidate
    table = pd.read_parquet(evaluation / TABLE_FILE).head(_EXAMPLES)
    names, key = serving_features(project.schema), project.settings.data.key
    raw: dict[tuple[str, str], dict[str, Any]] = {}
    for span in sorted(set(table[SPAN])):
        batch = decode_records(list(read_records(split_files(window / span, "test"))))
        columns = {name: column.to_pylist() for name, column in zip(batch.schema.names, batch.columns, strict=True)}
        for row in range(batch.num_rows):
            identity = (span, _plain(columns[key][row][0]))
            raw[identity] = {name: _payload(project, name, columns[name][row]) for name in names}
    instances = [raw[span, str(example)] for span, example in zip(table[SPAN], table[KEY], strict=True)]
    return instances, [[float(score) for score in scores] for scores in table[candidate]]


def _payload(project: Project, name: str, values: list[Any]) -> Any:
    """A feature's values as JSON: nested as the schema's shape, a plain value where the shape is empty."""
    import numpy as np

    shape = [dim.size for f in project.schema.feature if f.name == name for dim in f.shape.dim]
    plain = [_plain(value) if isinstance(value, bytes) else value for value in values]
    return np.array(plain, dtype=object).reshape(shape).tolist() if shape else plain[0]


def _plain(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _predict(url: str, instances: list[dict[str, Any]]) -> list[list[float]]:
    body = json.dumps({"instances": instances}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            predictions = json.load(response)["predictions"]
    except urllib.error.HTTPError as error:
        received = f"HTTP {error.code}: {error.read().decode(errors='replace')[:500]}"
        raise ServingError("model server", "must answer test examples", received, "See the log.") from error
    return [row["probabilities"] for row in predictions]
