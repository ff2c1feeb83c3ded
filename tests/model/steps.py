"""The steps of a run as the pipeline calls them, in one process, with training made up.

Real are the wrappers of the steps that touch the ledger, the registry or spans, and the root under
all of them. Made up is what needs TensorFlow: what a span's examples are, how a model trains and
compares, and whether it can be served. The report is a line, because it decides nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.conclude_run.component import conclude_run
from components.prepare_span.component import prepare_span
from components.push_model.component import push_model
from components.register_model.component import register_model
from components.select_spans.component import select_spans
from components.stored_step import StoredStep
from components.validate_data.component import validate_data
from perennial.ledger.task_lease import RUN_VARIABLE
from perennial.project import Project, load_project
from perennial.results.store import Results
from perennial.runner.task import TaskFailure
from perennial.storage.digests import digest_folder
from perennial.training.artifacts import SAVED_MODEL
from perennial.training.stages import choose_stages
from schemas.records import (
    Champion,
    Check,
    CheckedSpan,
    Criterion,
    Decision,
    Evaluation,
    Reference,
    ServingCheck,
    Span,
    SpanValidation,
    Validation,
)
from tests.model.workers import task_here, worker_here
from tests.perennial.judged import PASSED, evaluation, saved_model

_CONTENTS = "contents"  # file with the bytes that a span was ingested from
# What becomes of a span, by the word that it holds.
VERDICTS: dict[str, list[Check]] = {
    "good": [],
    "odd": [Check(kind="drift", subject="value", verdict="failed", message="it drifted")],
    "stop": [
        Check(
            kind="drift", subject="value", verdict="failed", message="it drifted", severity="stop"
        )
    ],
    "torn": [Check(kind="readable", subject="data", verdict="failed", message="it is torn")],
}
GATE = ("promote", "keep", "again")  # `again`: other draws could decide otherwise


@dataclass
class Trained:
    """What a run gave to training: names and fingerprints of the spans that were new to it.

    `judged` are the verdicts on all its new spans, by which their states change at its end.
    """

    new: set[tuple[str, str]] = field(default_factory=set)
    judged: list[SpanValidation] = field(default_factory=list)


@dataclass
class MadeUp:
    """What the made-up steps were told and did, of all runs."""

    gate: str = "promote"  # what the gate decides the next time that it is asked
    runs: dict[str, Trained] = field(default_factory=dict)


class FileArtifact:
    """What wrappers use of a Kubeflow artifact."""

    def __init__(self, path: Path) -> None:
        self.path, self.metadata = str(path), dict[str, Any]()


class SteppedRun:
    """Takes the place of `perennial.runner.local_run.LocalRun`: the steps, one after the other.

    Attributes:
        failures: What ended the steps that failed.
        error: The last of the errors.
    """

    made_up: MadeUp  # of the test that goes on
    places: itertools.count[int] = itertools.count()

    def __init__(self, folder: Path, environment: Mapping[str, str], **_: Any) -> None:
        self._folder = folder / "files"
        self._step = "select_spans"
        self._run_name = environment[RUN_VARIABLE]
        self.failures: list[TaskFailure] = []
        self.error: Exception | None = None

    def kill(self) -> None:
        """Ends the steps that go on, of which there are none while another thread calls."""

    def execute(self, arguments: dict[str, Any]) -> bool:
        """Runs the pipeline to its end, and its exit task; tells whether every step succeeded."""
        worker = worker_here()
        assert worker is not None
        worker.task_of = self._run_name
        try:
            for part in (lambda: self._run(**arguments), lambda: self._conclude(**arguments)):
                try:
                    part()
                except Exception as error:  # whatever it is, the step's process ends by it
                    self.error = error.with_traceback(None)
                    self.failures.append(TaskFailure(str(error), 1, self._step))
        finally:
            worker.task_of = None
        return not self.failures

    def _run(self, project: str, **arguments: Any) -> None:
        selection = self._artifact()
        stages = choose_stages(load_project(project)).names
        chosen: tuple[Any, ...] = self._do(
            select_spans, project=project, selection=selection, stages=stages, **arguments
        )
        work, pending, champion, *_ = chosen
        if work != "train":
            return
        for span in pending:
            made = {"checked": self._artifact(), "statistics": self._artifact()}
            self._do(prepare_span, project=project, span=span, selection=selection, **made)
        window, measured, validation = (self._artifact() for _ in range(3))
        outputs = {"window": window, "measured": measured, "validation": validation}
        digest = load_project(project).digest_of("validate_data")
        accepted = self._do(
            validate_data, project=project, digest=digest, selection=selection, **outputs
        )
        self._note_validation(project, validation)
        if accepted != "accepted":
            return
        evaluated, model, decision, check = (self._artifact() for _ in range(4))
        self._step = "evaluate_model"
        train(project, selection, champion, window, validation, evaluated, model)
        self._step = "decide_promotion"
        answer = decide(project, self.made_up.gate, evaluated, decision)
        made = {"evaluation": evaluated, "decision": decision, "model": model}
        version = self._do(register_model, project=project, selection=selection, **made)
        if answer != "promote":
            return
        self._step = "validate_serving"
        answer_requests(project, version, check)
        pushed = {"version": version, "serving_check": check}
        self._do(push_model, project=project, selection=selection, **pushed)

    def _conclude(self, project: str, **_: Any) -> None:
        self._do(conclude_run, project=project, report=self._artifact())

    def _note_validation(self, project: str, validation: FileArtifact) -> None:
        """Notes what the run gives to training as new."""
        reference = Reference.read(Path(validation.path))
        opened = load_project(project)
        results = Results(opened.root, opened.state)
        folder = self._folder / f"{next(self.places)}-validation"
        results.stage(reference, folder)
        trained = self.made_up.runs.setdefault(self._run_name, Trained())
        trained.judged = [span for span in Validation.read(folder).spans if span.new]
        trained.new = {
            (span.span.name, span.span.fingerprint) for span in trained.judged if span.in_window
        }

    def _do(self, component: Any, **arguments: Any) -> Any:
        self._step = component.python_func.__name__
        return component.python_func(**arguments)

    def _artifact(self) -> FileArtifact:
        self._folder.mkdir(parents=True, exist_ok=True)
        return FileArtifact(self._folder / f"{next(self.places)}")


def train(
    project: str,
    selection: FileArtifact,
    champion: dict[str, Any],
    window: FileArtifact,
    validation: FileArtifact,
    evaluated: FileArtifact,
    model: FileArtifact,
) -> None:
    """Trains and compares; two trainings on the same give other bytes, as on a GPU."""
    digest = load_project(project).digest_of("evaluate_model")
    outputs = {"evaluation": evaluated, "model": model}
    with StoredStep(project, "evaluate_model", digest, **outputs) as step:
        chosen = step.selection(selection)
        if step.is_kept(champion, chosen.seed, window, validation):
            return
        spans = [span.span for span in Validation.read(step.input(validation)).spans]
        contents = f"{digest_folder(step.input(window))} {chosen.seed} {chosen.run}"
        folder = saved_model(step.output("model"), contents)
        serving = Champion.model_validate(champion) if champion else None
        made = evaluation(digest_folder(folder / SAVED_MODEL), serving, window=spans)
        made.write(step.output("evaluation"))
        step.publish()


def decide(project: str, gate: str, evaluated: FileArtifact, decision: FileArtifact) -> str:
    """Decides as it was told, once for each evaluation."""
    digest = load_project(project).digest_of("decide_promotion")
    with StoredStep(project, "decide_promotion", digest, decision=decision) as step:
        if not step.is_kept(evaluated):
            Evaluation.read(step.input(evaluated))
            failed = Criterion(name="gain", passed=False, explanation="it is not better")
            if gate == "keep":
                failed = failed.model_copy(update={"compared": False})
            promotes = gate == "promote"
            Decision(
                promote=promotes,
                criteria=[] if promotes else [failed],
                reasons=["as it was told"],
                not_compared=[],
            ).write(step.output("decision"))
            step.publish("promote" if promotes else "keep")
        answer: str = step.value
        return answer


def answer_requests(project: str, version: dict[str, Any], check: FileArtifact) -> None:
    """Finds that a version can be served."""
    digest = load_project(project).digest_of("validate_serving")
    with StoredStep(project, "validate_serving", digest, serving_check=check) as step:
        if not step.is_kept(version):
            ServingCheck.model_validate(PASSED.model_dump()).write(step.output("serving_check"))
            step.publish()


def ingest_examples(project: Project, span: Span, folder: Path) -> None:
    """Takes the place of the step: the bytes that landed are the examples."""
    (folder / _CONTENTS).write_bytes(Path(span.uri).read_bytes())
    (folder / "span.json").write_text(span.model_dump_json(), encoding="utf-8")


def check_examples(project: Project, examples: Path, folder: Path) -> CheckedSpan:
    """Takes the place of the step: a span is what its first word says."""
    span = Span.model_validate_json((examples / "span.json").read_text(encoding="utf-8"))
    contents = (examples / _CONTENTS).read_text(encoding="utf-8")
    (folder / _CONTENTS).write_text(contents, encoding="utf-8")
    record = CheckedSpan(
        span=span,
        columns=["value"],
        rows={"train": 6, "eval": 2, "test": 2},
        labels={},
        set_aside=0,
        checks=VERDICTS[contents.split()[0]],
        content="",
    )
    record.write(folder)
    return record


def measure_span(project: Project, checked: Path, folder: Path) -> None:
    """Takes the place of the step: a span's statistics are its size."""
    size = len((checked / _CONTENTS).read_bytes())
    (folder / "size").write_text(f"{CheckedSpan.read(checked).span.name} {size}", encoding="utf-8")


def validate_window(
    project: Project,
    new: list[str],
    released: list[str],
    checked: list[Path],
    statistics: list[Path],
    window: Path,
    measured: Path,
    validation: Path,
    known_rows: dict[str, str],
) -> Validation:
    """Takes the place of `validate_data`: its real verdict on a window, of made-up checks."""
    from components.validate_data.step import conclude

    spans = []
    for folder in checked:
        record = CheckedSpan.read(folder)
        name = record.span.name
        is_new = name in new
        judged = SpanValidation(
            span=record.span,
            new=is_new,
            rows=record.rows,
            labels={},
            checks=record.checks if is_new else [],
            released=name in released,
            rows_digest=None,
        )
        spans.append(judged)
        if judged.in_window:
            (window / f"{name}.txt").write_bytes((folder / _CONTENTS).read_bytes())
    result = conclude(spans)
    (measured / "spans").write_text(f"{len(spans)}", encoding="utf-8")
    result.write(validation)
    return result


def replacements() -> list[tuple[str, str, Callable[..., Any]]]:
    """Lists what takes the place of what: module, name, function."""
    return [
        ("components.ingest_examples.step", "ingest_examples", ingest_examples),
        ("components.check_examples.step", "check_examples", check_examples),
        ("components.compute_statistics.step", "measure_span", measure_span),
        ("components.validate_data.step", "validate_data", validate_window),
        ("components.conclude_run.step", "render_report", lambda facts: "a report"),
        ("pipelines.compile", "compile_pipeline", lambda *args, **kwargs: None),
        ("perennial.runner.local_run", "LocalRun", SteppedRun),
        ("components.stored_step", "current_run", task_here),
        ("components.conclude_run.ending", "current_run", task_here),
    ]
