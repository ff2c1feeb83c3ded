"""Loads the model into the real server and compares its answers with what evaluation computed."""

from __future__ import annotations

import json
import math
import multiprocessing
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perennial.data.examples import as_text, read_batches, split_files
from perennial.errors import ServingError, log_place
from perennial.evaluation.prediction_table import KEY, SPAN, read_table
from perennial.export.contract import read_contract
from perennial.processes import die_with_parent, find_free_ports
from perennial.project import Project
from perennial.readers.values import to_json
from perennial.training.artifacts import SAVED_MODEL
from schemas.records import (
    Evaluation,
    ModelContract,
    ModelVersion,
    ServedFeature,
    ServedTask,
    ServingCheck,
)

# The server computes the same graph on batches of another size; float32 sums differ in the last
# digits.
TOLERANCE = 1e-4
_EXAMPLES = 16
_READY_SECONDS = 120.0

Instance = dict[str, Any]


def validate_serving(
    project: Project,
    version: ModelVersion,
    window: Path,
    evaluation: Path,
    model: Path,
    output: Path,
) -> ServingCheck:
    """Starts the server on the candidate, sends it test examples over HTTP, writes the check.

    Every task is compared. A feature with a default that an example lacks is left out of what is
    sent.

    Raises:
        ServingError: The server does not become ready, or does not answer as evaluation did.
    """
    (port,) = find_free_ports(1)
    folder, name = model / SAVED_MODEL, project.settings.name
    # Forked before this process runs any TensorFlow: the child starts with everything imported.
    server = multiprocessing.get_context("fork").Process(
        target=_serve, args=(name, version.version, folder, version.digest, port), daemon=True
    )
    started, log = time.monotonic(), log_place()
    server.start()
    try:
        _wait_until_ready(server, f"http://127.0.0.1:{port}/v2/models/{name}/ready", log)
        ready = time.monotonic() - started
        contract = read_contract(folder)
        instances, expected = load_examples(project.settings.data.key, contract, window, evaluation)
        predictions = _predict(f"http://127.0.0.1:{port}/v1/models/{name}:predict", instances, log)
    finally:
        server.terminate()
        server.join(10)
        server.kill()
    answered = [flatten_prediction(prediction, contract.tasks) for prediction in predictions]
    check = compare_answers(answered, expected, ready)
    check.write(output)
    if not check.passed:
        remedy = "The export and the evaluation disagree: report this with the model."
        raise ServingError(
            f"version {version.version}", "must answer as evaluation did", check.message, remedy
        )
    return check


def compare_answers(
    answered: Sequence[Sequence[float]],
    expected: Sequence[Sequence[float]],
    seconds_to_ready: float,
) -> ServingCheck:
    """Compares served with evaluated predictions of all tasks, row by row.

    A difference counts as it is up to an expected 1, and in proportion to it above: float32 has
    seven digits.
    """
    gaps = [
        abs(a - e) / max(1.0, abs(e))
        for a_row, e_row in zip(answered, expected, strict=True)
        for a, e in zip(a_row, e_row, strict=True)
    ]
    # A NaN is not within the tolerance, and an answer to nothing is no answer.
    passed = bool(gaps) and all(gap <= TOLERANCE for gap in gaps)
    largest = max(gaps, default=0.0)
    return ServingCheck(
        passed=passed,
        requests=len(answered),
        largest_difference=largest,
        seconds_to_ready=seconds_to_ready,
        message=f"{len(answered)} examples over HTTP, predictions within {largest:.1e} of "
        "evaluation's",
    )


def flatten_prediction(prediction: dict[str, Any], tasks: Sequence[ServedTask]) -> list[float]:
    """Lists the numbers of one v1 answer: each task's probabilities or value, in their order."""
    answers = [prediction if len(tasks) == 1 else prediction[task.name] for task in tasks]
    parts = [
        answer["probabilities"] if "probabilities" in answer else [answer["value"]]
        for answer in answers
    ]
    return [number for part in parts for number in part]


def load_examples(
    key: str, contract: ModelContract, window: Path, evaluation: Path
) -> tuple[list[Instance], list[list[float]]]:
    """Reads some test examples as a client sends them, and their evaluated numbers.

    An example that JSON cannot hold (NaN or infinity) is passed over. No more of the window is
    read than that takes.
    """
    record = Evaluation.read(evaluation)
    tables = [read_table(evaluation, record, task.name) for task in contract.tasks]
    spans = tables[0][SPAN].to_numpy()
    keys = tables[0][KEY].astype(str).to_numpy()
    instances: list[Instance] = []
    expected: list[list[float]] = []
    for span, held in _read_examples(window, sorted(set(spans))):
        instance = make_instance(contract, held)
        if instance is None:
            continue
        (row,) = np.flatnonzero((spans == span) & (keys == str(as_text(held[key][0]))))
        scores = [np.ravel(table[record.candidate].iloc[row]) for table in tables]
        instances.append(instance)
        expected.append([float(score) for score in np.concatenate(scores)])
        if len(instances) == _EXAMPLES:
            break
    return instances, expected


def make_instance(contract: ModelContract, held: dict[str, list[Any]]) -> Instance | None:
    """Makes of an example what a client would send; None when JSON cannot hold it.

    A feature that the example does not hold is left out: the model's default stands for it.
    """
    sent = [feature for feature in contract.features if feature.name in held]
    try:
        return {feature.name: _payload(feature, held[feature.name]) for feature in sent}
    except ValueError:
        return None


def _read_examples(
    window: Path, spans: Sequence[str]
) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """Yields the features that each test example holds, with its span, span by span."""
    for span in spans:
        for batch in read_batches(split_files(window / span, "test"), rows=_EXAMPLES):
            for row in batch.to_pylist():
                yield span, {name: values for name, values in row.items() if values}


def _payload(feature: ServedFeature, values: list[Any]) -> Any:
    """Turns a feature's values into JSON: nested as its shape, plain where that is empty.

    Raises:
        ValueError: JSON cannot hold them.
    """
    plain = [to_json(value) if isinstance(value, bytes) else value for value in values]
    if not all(math.isfinite(value) for value in plain if isinstance(value, float)):
        raise ValueError("not finite")
    shape = [-1 if size is None else size for size in feature.shape]
    return np.array(plain, dtype=object).reshape(shape).tolist() if shape else plain[0]


def _serve(name: str, version: str, folder: Path, digest: str, port: int) -> None:
    die_with_parent()
    from serving.server import serve_folder

    serve_folder(name, version, folder, digest, port)


def _wait_until_ready(server: Any, url: str, log: str) -> None:
    """Waits for the server; `log` says where its log begins."""
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if not server.is_alive():
            raise ServingError(
                "model server",
                "must start",
                f"it ended with code {server.exitcode}",
                f"Its own words: {log}.",
            )
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise ServingError(
        "model server",
        f"must be ready within {_READY_SECONDS:.0f} s",
        "no answer",
        f"Its own words: {log}.",
    )


def _predict(url: str, instances: list[Instance], log: str) -> list[dict[str, Any]]:
    body = json.dumps({"instances": instances}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            predictions: list[dict[str, Any]] = json.load(response)["predictions"]
    except urllib.error.HTTPError as error:
        received = f"HTTP {error.code}: {error.read().decode(errors='replace')[:500]}"
        raise ServingError(
            "model server", "must answer test examples", received, f"Its own words: {log}."
        ) from error
    return predictions
