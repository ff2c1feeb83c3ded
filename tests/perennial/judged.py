"""Whole runs as ledger and registry see them, in seconds.

Real steps from registration on, made-up trainings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.push_model.step import push_model
from components.register_model.step import register_model
from perennial.export.contract import write_contract
from perennial.ledger.events import Ledger, NewEvent
from perennial.project import Project
from perennial.storage.digests import digest_folder
from perennial.training.artifacts import SAVED_MODEL
from schemas.records import (
    Champion,
    Criterion,
    Decision,
    Difference,
    Epoch,
    EvaluatedTask,
    Evaluation,
    Hyperparameters,
    Instance,
    ModelContract,
    ModelVersion,
    Probing,
    RunEnded,
    RunStarted,
    RunWarning,
    Selection,
    ServedFeature,
    ServedTask,
    ServingCheck,
    SliceMetrics,
    Span,
    SpanJudged,
    Training,
)
from tests.perennial.records import selection, span

PASSED = ServingCheck(
    passed=True, requests=16, largest_difference=0, seconds_to_ready=1, message=""
)
WINDOW = [span("2026-01-01", "a" * 64), span("2026-01-02", "b" * 64)]


def saved_model(folder: Path, contents: str) -> Path:
    """A folder as `evaluate_model` leaves it, with the files of a SavedModel that nothing reads."""
    variables = folder / SAVED_MODEL / "variables"
    variables.mkdir(parents=True)
    (folder / SAVED_MODEL / "saved_model.pb").write_text(contents)
    (variables / "variables.index").write_text(f"weights of {contents}")
    task = ServedTask(name="digit", kind="multi_class", classes=10)
    features = [ServedFeature(name=name, dtype="float32", shape=[]) for name in ("age", "image")]
    write_contract(ModelContract(features=features, tasks=[task]), folder / SAVED_MODEL)
    return folder


def training(name: str, digest: str, seed: int = 1, loss: float = 0.1) -> Training:
    return Training(
        instance=Instance(name=name, seed=seed),
        strategy="one_device",
        replicas=1,
        parameters=100,
        train_examples=300,
        eval_examples=100,
        hyperparameters=Hyperparameters(
            learning_rate=0.003, batch_size=32, model={"units": 16}, source="tuner"
        ),
        metric="accuracy",
        epochs=[
            Epoch(train_loss=each, eval_loss=each, eval_metric=1 - each)
            for each in (2 * loss, loss)
        ],
        best_epoch=1,
        digest=digest,
    )


def evaluation(
    digest: str, champion: Champion | None = None, accuracy: float = 0.9, **changes: Any
) -> Evaluation:
    """An evaluation of two instances, the second of which is the candidate."""
    measured = {
        "candidate": accuracy,
        "instance-1": accuracy - 0.1,
        **({"champion": 0.8} if champion else {}),
    }
    values = {
        "candidate": "instance-2",
        "digest": digest,
        "champion": champion,
        "window": WINDOW,
        "tasks": [EvaluatedTask(name="digit", kind="multi_class")],
        "trainings": [
            training("instance-1", f"other of {digest}"[:64]),
            training("instance-2", digest, seed=2),
        ],
        "examples": 200,
        "slices": [_metrics(model, value) for model, value in measured.items()]
        + [_metrics("candidate", 0.7, "label=3")],
        "differences": [_difference(accuracy - 0.8), _difference(-0.01, "label=3")]
        if champion
        else [],
        "confusion": [],
        "mistakes": [],
        "not_compared": [] if champion else ["there is no champion yet"],
    }
    return Evaluation(**(values | changes))


def decision(promote: bool = True, **changes: Any) -> Decision:
    floor = Criterion(
        name="candidate's accuracy",
        passed=True,
        kind="floor",
        explanation="accuracy is 0.9",
        value=0.9,
    )
    gain = Criterion(
        name="against the champion", passed=promote, explanation="gain of 0.1, from 0.05 to 0.15"
    )
    slow = Criterion(
        name="group sex=1",
        passed=False,
        blocking=False,
        kind="fairness",
        explanation="a gap of 0.2",
    )
    values = {
        "promote": promote,
        "criteria": [floor, gain, slow],
        "reasons": ["it is judged"],
        "not_compared": [],
    }
    return Decision(**(values | changes))


@dataclass(frozen=True)
class Judged:
    """All that registration is given."""

    selection: Selection
    evaluation: Evaluation
    decision: Decision
    model: Path
    probing: Probing | None = None

    def register(self, project: Project) -> ModelVersion:
        return register_model(
            project, self.selection, self.evaluation, self.decision, self.model, self.probing
        )


def judged(
    project: Project,
    run: str,
    contents: str,
    promote: bool = True,
    stages: list[str] | None = None,
    **changes: Any,
) -> Judged:
    """A run that was decided on, against the champion of now.

    `changes` are those of the evaluation.
    """
    folder = project.folder.parent / "candidates" / contents
    if not folder.exists():
        saved_model(folder, contents)
    ledger = Ledger(project.ledger_url)
    champion = ledger.champion()
    digest = digest_folder(folder / SAVED_MODEL)
    found = evaluation(digest, champion, **changes)
    chosen = selection(run, found.window, champion, git_commit="c0ffee", attempt=0, stages=stages)
    ledger.append_once(
        NewEvent("run_started", RunStarted(selection=chosen), run, key=f"run-started:{run}")
    )
    ledger.close()
    return Judged(chosen, found, decision(promote), folder)


def whole_run(
    project: Project,
    run: str,
    contents: str,
    promote: bool = True,
    warnings: Sequence[RunWarning] = (),
    **changes: Any,
) -> ModelVersion:
    """A run from its start to its end, with a deployment if it is promoted."""
    ready = judged(project, run, contents, promote, **changes)
    version = ready.register(project)
    if promote:
        push_model(project, run, version, ready.selection.champion, PASSED)
    end_run(project, ready.selection, version, promote, warnings)
    return version


def end_run(
    project: Project,
    chosen: Selection,
    version: ModelVersion,
    promote: bool,
    warnings: Sequence[RunWarning] = (),
) -> None:
    ledger = Ledger(project.ledger_url)
    champion = ledger.champion()
    ended = RunEnded(
        outcome="promoted" if promote else "kept_champion",
        reasons=["it is judged"],
        window=[each.name for each in chosen.window],
        new_spans=chosen.new_spans,
        version=version.version,
        champion=champion.version if champion else None,
        report=f".perennial/runs/{chosen.run}/report.html",
        warned=len(warnings),
        warnings=list(warnings[:3]),
    )
    for each in chosen.window:
        accept(ledger, each, chosen.run)
    ledger.append_once(NewEvent("run_ended", ended, chosen.run, key=f"run-ended:{chosen.run}"))
    ledger.close()


def accept(ledger: Ledger, about: Span, run: str) -> None:
    said = SpanJudged(span=about, rows=300, reasons=[], set_aside=2)
    ledger.append_once(
        NewEvent("span_accepted", said, run, key=f"span:{about.name}@{about.fingerprint}")
    )


def _metrics(model: str, value: float, where: str = "overall") -> SliceMetrics:
    return SliceMetrics(
        model=model,
        task="digit",
        slice=where,
        examples=200 if where == "overall" else 20,
        values={"accuracy": value},
    )


def _difference(value: float, where: str = "overall") -> Difference:
    return Difference(
        metric="accuracy",
        task="digit",
        slice=where,
        examples=200 if where == "overall" else 20,
        value=value,
        low=value - 0.05,
        high=value + 0.05,
        confidence=0.95,
    )
