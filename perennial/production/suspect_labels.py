"""Suspect labels: examples of a span whose label is probably wrong.

Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in
Dataset Labels", as the library cleanlab has it) compares each label with the answer of a model that
was not trained on it. A model that was would have learned the wrong label, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perennial.data.examples import as_text, decode_records, read_records, split_files
from perennial.errors import DataError
from perennial.evaluation.prediction_table import Array
from perennial.export.served_model import ServedModel
from perennial.ledger.events import Ledger
from perennial.project import Project
from perennial.registry.versions import Registry
from perennial.results.store import Results
from perennial.spans.landed import find_landed
from perennial.spans.prepared import PreparedSpans
from perennial.spans.quarantine import unknown_span
from perennial.spans.window import number_versions
from schemas.records import ModelVersion, Selection, Span

ALL_SPLITS = ("train", "eval", "test")
_UNSEEN_SPLIT = ("test",)


@dataclass(frozen=True)
class Suspect:
    """An example whose label is probably wrong.

    Attributes:
        key: Its key.
        given: The class that it is labelled as, as the model counts classes.
        likelier: The class that the model finds likelier.
        chance_given: The model's probability of the label.
        chance_likelier: Its probability of the other class.
    """

    key: str
    given: int
    likelier: int
    chance_given: float
    chance_likelier: float


@dataclass(frozen=True)
class SuspectLabels:
    """The labels of a span that are probably wrong, the worst first, and what was looked at.

    Attributes:
        span: The span.
        version: The version that was asked.
        task: Its task.
        splits: The splits that it was not trained on.
        examples: How many examples those hold.
        suspects: Those whose label is probably wrong.
    """

    span: str
    version: str
    task: str
    splits: tuple[str, ...]
    examples: int
    suspects: list[Suspect]


def find_suspects(project: Project, name: str, task: str | None = None) -> SuspectLabels:
    """Finds the suspect labels of the newest version of a span.

    The newest model version that was not trained on the span is asked about all of it. Where there
    is none, the newest version of all is asked about the test split.

    Args:
        project: The project.
        name: The span.
        task: A task with classes; None: the first.

    Raises:
        DataError: There is no such span, or no model that could be asked.
        StoreError: The span was not ingested, or the root cannot be read.
        RegistryError: The registry cannot be read.
    """
    span = _newest(project, name)
    registry = Registry(project)
    ledger = Ledger(project.ledger_url)
    runs = [body.selection for _, body, _ in ledger.runs()]
    ledger.close()
    version, splits = _choose_version(project, registry, runs, span)
    results = Results(project.root, project.state)
    (prepared,) = _prepared_spans(project, results, runs, span).read([span])
    model = ServedModel.load(registry.fetch(version), version.digest)
    chosen = _choose_task(model, task)
    project.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=project.scratch) as scratch:
        folder = Path(scratch) / "examples"
        results.stage(prepared.checked, folder)
        records = list(read_records(split_files(folder, *splits)))
    if not records:
        raise DataError(
            f"span {name}", "must hold examples to look at", "none", "Choose another span."
        )
    labels, answers = model.label_examples(records)[chosen], model.predict_examples(records)[chosen]
    keys = decode_records(records).column(project.settings.data.key).to_pylist()
    suspects = [
        Suspect(
            str(as_text(keys[row][0])),
            int(labels[row]),
            int(answers[row].argmax()),
            float(answers[row][labels[row]]),
            float(answers[row].max()),
        )
        for row in rank_suspects(labels, answers)
    ]
    return SuspectLabels(name, version.version, chosen, splits, len(records), suspects)


def rank_suspects(labels: Array, probabilities: Array) -> list[int]:
    """Gives the rows whose label is probably wrong, the least likely label first.

    Args:
        labels: Classes, int [n].
        probabilities: Of a model that did not learn from these labels, float [n, classes].
    """
    from cleanlab.filter import find_label_issues

    present = np.unique(labels)
    if len(present) < 2:
        return []
    # Classes without a label have no threshold: they cannot be what a label is mistaken for.
    numbers, kept = np.searchsorted(present, labels), probabilities[:, present].astype(np.float64)
    kept /= np.maximum(kept.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    rows = find_label_issues(numbers, kept, return_indices_ranked_by="self_confidence", n_jobs=1)
    return [int(row) for row in rows if probabilities[row].argmax() != labels[row]]


def _newest(project: Project, name: str) -> Span:
    ledger = Ledger(project.ledger_url)
    spans = number_versions(find_landed(project), ledger.judged_spans())
    ledger.close()
    versions = [span for span in spans if span.name == name]
    if not versions:
        raise unknown_span(name, {span.name for span in spans})
    return max(versions, key=lambda span: span.version)


def _prepared_spans(
    project: Project, results: Results, runs: Sequence[Selection], span: Span
) -> PreparedSpans:
    """Gives the spans as the newest run had them that read this one, whatever changed since."""
    for run in reversed(runs):
        if any(_same(span, other) for other in run.window):
            return PreparedSpans.of_run(results, run)
    return PreparedSpans.of_project(results, project)


def _choose_version(
    project: Project, registry: Registry, runs: Sequence[Selection], span: Span
) -> tuple[ModelVersion, tuple[str, ...]]:
    """Chooses the version to ask, and the splits that it was not trained on."""
    windows = {run.run: run.window for run in runs}
    versions = sorted(registry.versions(), key=lambda version: -int(version.version))
    if not versions:
        raise DataError(
            f"project {project.settings.name}",
            "must have a model version, whose answers the labels are compared with",
            "none",
            f"`perennial run {project.folder}` trains the first one.",
        )
    for version in versions:
        window = windows.get(registry.lineage(version.version).get("run", ""))
        if window is not None and not any(_same(span, other) for other in window):
            return version, ALL_SPLITS
    return versions[0], _UNSEEN_SPLIT


def _same(span: Span, other: Span) -> bool:
    return (span.name, span.fingerprint) == (other.name, other.fingerprint)


def _choose_task(model: ServedModel, task: str | None) -> str:
    with_classes = [name for name, served in model.tasks.items() if served.kind != "regression"]
    if task is None and with_classes:
        return with_classes[0]
    if task not in with_classes:
        raise DataError(
            "--task",
            "must be a task with classes, as only those are confused",
            task or "tasks with values only",
            f"Choose one of: {', '.join(with_classes) or 'none'}.",
        )
    return task
