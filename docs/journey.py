"""Takes one handwritten digit through every step of the loop, for docs/one-record.md.

The steps are the product's own functions. Each runs in a process of its own, forked from the warm
process, as `perennial run` does it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.analyse_features.step import analyse_features
from components.check_examples.step import check_examples
from components.compute_statistics.step import measure_span
from components.conclude_run.step import Findings, conclude_run
from components.decide_promotion.step import decide_promotion
from components.evaluate_model.step import Outputs, evaluate_model
from components.ingest_examples.step import ingest_examples
from components.push_model.step import push_model
from components.register_model.step import register_model
from components.select_spans.step import select_spans
from components.stabilise_weights.step import stabilise_weights
from components.train_model.step import Inputs, train_model
from components.transform_features.step import transform_features
from components.validate_data.step import validate_data
from components.validate_serving.step import validate_serving
from perennial.data.examples import read_records, split_files
from perennial.data.statistics import read_statistics
from perennial.evaluation.prediction_table import TABLE_FILE
from perennial.ledger.events import Event, Ledger
from perennial.processes import die_with_parent
from perennial.project import Project, load_project
from perennial.training.transformed_features import TransformedFeatures
from schemas.records import Check, Decision, Selection, ServingCheck, SpanValidation, Validation
from tests.forked import forked

DIGIT = "digit-0460"
RUN = "one-record"
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "digits"
FILES = ("project.yaml", "model.py", "schema.pbtxt", "expectations.json", "land.py")
_READY_SECONDS = 120


@dataclass(frozen=True)
class FeatureStatistics:
    """Measures of one feature of the span, by TFDV."""

    name: str
    examples: int
    values: int
    zeros: int
    low: float
    high: float
    mean: float


@dataclass(frozen=True)
class Journey:
    """Results of the steps for the digit."""

    span_file: str
    row: dict[str, Any]
    split_counts: dict[str, int]
    example: dict[str, tuple[str, list[Any]]]
    statistics: list[FeatureStatistics]
    checks: list[Check]
    transformed: dict[str, list[float]]
    judged: dict[str, Any]
    models: list[str]
    candidate: str
    decision: Decision
    serving_check: ServingCheck
    response: dict[str, Any]
    events: list[Event]


def travel(work: Path) -> Journey:
    """Lands day 1 of the digits in a copy of the example, runs the loop and follows one digit."""
    project = _land(work / "digits")
    with _quiet(work / "journey.log"):
        selection = forked(select_spans, project, RUN)
        span = _take_in(project, selection, work)
        candidate, decision, check = _train_and_judge(project, selection, work)
        row = _read_row(Path(selection.window[0].uri))
        return Journey(
            span_file=str(Path(selection.window[0].uri).relative_to(project.folder)),
            row=row,
            split_counts=span.rows,
            example=forked(_read_example, work / "window"),
            statistics=forked(_read_span_statistics, work / "statistics"),
            checks=span.checks,
            transformed=forked(_transform, project, work),
            judged=_read_judged(work / "evaluation" / TABLE_FILE),
            models=[instance.name for instance in selection.instances],
            candidate=candidate,
            decision=decision,
            serving_check=check,
            response=forked(_ask_server, project, {"instances": [{"image": row["image"]}]}),
            events=Ledger(project.ledger_url).events(),
        )


@contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Sends what this process and those that it has forked print to a log."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    kept = [os.dup(stream) for stream in (1, 2)]
    for stream in (1, 2):
        os.dup2(file, stream)
    try:
        yield
    finally:
        for stream, before in zip((1, 2), kept, strict=True):
            os.dup2(before, stream)


def _land(folder: Path) -> Project:
    folder.mkdir(parents=True)
    for name in FILES:
        shutil.copy(EXAMPLE / name, folder / name)
    subprocess.run(
        [sys.executable, str(folder / "land.py"), "--days", "1"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return load_project(folder)


def _take_in(project: Project, selection: Selection, work: Path) -> SpanValidation:
    """From the landed file to the validated window."""
    forked(ingest_examples, project, selection.window[0], work / "examples")
    forked(check_examples, project, work / "examples", work / "checked")
    forked(measure_span, project, work / "checked", work / "statistics")
    folders = (
        [work / "checked"],
        [work / "statistics"],
        work / "window",
        work / "measured",
        work / "validation",
    )
    validation: Validation = forked(
        validate_data, project, selection.new_spans, selection.released, *folders
    )
    assert validation.accepted, validation.reasons
    return validation.spans[0]


def _train_and_judge(
    project: Project, selection: Selection, work: Path
) -> tuple[str, Decision, ServingCheck]:
    """From the window to the recorded deployment.

    Gives the candidate's name and what decided on it.
    """
    features, weights = work / "features", work / "weights"
    forked(analyse_features, project, work / "window", work / "graph")
    forked(transform_features, project, work / "window", work / "graph", features)
    forked(stabilise_weights, project, features, None, None, weights)
    models = [work / instance.name for instance in selection.instances]
    for instance, folder in zip(selection.instances, models, strict=True):
        forked(
            train_model, project, instance, Inputs(features, work / "window", weights), None, folder
        )
    judged, model = work / "evaluation", work / "model"
    evaluation = forked(
        evaluate_model, project, selection.champion, work / "window", models, Outputs(judged, model)
    )
    decision = decide_promotion(evaluation, project.settings.gate)
    decision.write(work / "decision")
    assert decision.promote, decision.reasons
    version = forked(register_model, project, selection, evaluation, decision, model)
    check = forked(
        validate_serving, project, version, work / "window", judged, model, work / "serving_check"
    )
    forked(push_model, project, RUN, version, selection.champion, check)
    findings = Findings(
        selection=selection,
        validation=work / "validation",
        stabilisation=weights,
        evaluation=judged,
        decision=work / "decision",
        version=version,
        serving_check=work / "serving_check",
    )
    forked(conclude_run, project, RUN, "promoted", findings)
    return evaluation.candidate, decision, check


def _read_row(path: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return next(row for row in rows if row["id"] == DIGIT)


def _record(window: Path) -> bytes:
    return next(record for record in read_records(split_files(window)) if DIGIT.encode() in record)


def _read_example(window: Path) -> dict[str, tuple[str, list[Any]]]:
    """Feature -> the list of tf.Example that holds it, and its values."""
    import tensorflow as tf

    features = tf.train.Example.FromString(_record(window)).features.feature
    kinds = {name: features[name].WhichOneof("kind") for name in sorted(features)}
    return {name: (kind, list(getattr(features[name], kind).value)) for name, kind in kinds.items()}


def _read_span_statistics(folder: Path) -> list[FeatureStatistics]:
    features = []
    for feature in read_statistics(folder).datasets[0].features:
        name, numbers = feature.path.step[0], feature.num_stats
        if feature.WhichOneof("stats") == "num_stats":
            common = numbers.common_stats
            counts = (common.num_non_missing, common.tot_num_values, numbers.num_zeros)
            features.append(
                FeatureStatistics(name, *counts, numbers.min, numbers.max, numbers.mean)
            )
    return sorted(features, key=lambda statistics: statistics.name)


def _transform(project: Project, work: Path) -> dict[str, list[float]]:
    """The digit through the transform graph, as the served model has it inside."""
    import tensorflow as tf

    transformed = TransformedFeatures(work / "features", project.tasks)
    layer = transformed.transform_output().transform_features_layer()
    _, image = _read_example(work / "window")["image"]
    outputs = layer({"image": tf.constant([image], tf.float32)})
    return {name: tensor.numpy()[0].tolist() for name, tensor in outputs.items()}


def _read_judged(table: Path) -> dict[str, Any]:
    import pandas as pd

    rows: list[dict[str, Any]] = pd.read_parquet(table).to_dict("records")
    return next(row for row in rows if row["key"] == DIGIT)


def _ask_server(project: Project, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of the server that follows the project's ledger."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = multiprocessing.get_context("fork").Process(target=_serve, args=(project, port))
    server.start()
    url = f"http://127.0.0.1:{port}/v1/models/{project.settings.name}:predict"
    deadline = time.monotonic() + _READY_SECONDS
    try:
        while True:
            try:
                with urllib.request.urlopen(
                    url, json.dumps(request).encode(), timeout=30
                ) as response:
                    answer: dict[str, Any] = json.load(response)
                    return answer
            except urllib.error.URLError:
                if time.monotonic() > deadline or not server.is_alive():
                    raise
                time.sleep(0.2)
    finally:
        server.terminate()
        server.join()


def _serve(project: Project, port: int) -> None:
    die_with_parent()
    from serving.server import serve

    serve(project, port)
