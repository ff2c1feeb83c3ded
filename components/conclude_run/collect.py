"""Gathers what the run report shows, from what the steps of the run left."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from components.conclude_run.nothing_new import nothing_new_reasons
from perennial.ledger.events import Ledger
from perennial.project import Project
from perennial.report.facts import Links, RunFacts, SpanLinks
from perennial.spans.artifacts import DATA_DOCS, SET_ASIDE, STATISTICS
from perennial.training.artifacts import LOGS
from perennial.training.hyperparameters import settings_hyperparameters
from schemas.records import (
    Decision,
    DesignComparison,
    EvaluatedTask,
    Evaluation,
    FileRecord,
    ModelVersion,
    Outcome,
    Pretraining,
    Probing,
    Selection,
    ServingCheck,
    Stabilisation,
    Tuning,
    Validation,
)

LOG_FILE = "kubeflow.log"
PIPELINE_FILE = "pipeline.yaml"
# What training wrote for TensorBoard, by instance, as it is published.
TENSORBOARD = "tensorboard"
R = TypeVar("R", bound=FileRecord)


@dataclass(frozen=True)
class Findings:
    """The folders and records that the steps of a run left; None: the run did not get that far.

    `failed_step` ended a failed run, with the `exit_code` of the command. `fence` is the number of
    the run's lease.
    """

    selection: Selection | None = None
    validation: Path | None = None
    pretraining: Path | None = None
    stabilisation: Path | None = None
    tuning: Path | None = None
    designs: Path | None = None
    evaluation: Path | None = None
    probing: Path | None = None
    decision: Path | None = None
    version: ModelVersion | None = None
    serving_check: Path | None = None
    reasons: list[str] = field(default_factory=list)
    failed_step: str | None = None
    exit_code: int | None = None
    fence: int | None = None


def run_folder(project: Project, run: str) -> Path:
    """Gives the folder of a run's report, log and pipeline."""
    return project.state / "runs" / run


def gather_facts(
    project: Project, ledger: Ledger, run: str, outcome: Outcome, findings: Findings
) -> RunFacts:
    """Gathers everything that the report shows."""
    validation, decision = (
        _read(findings.validation, Validation),
        _read(findings.decision, Decision),
    )
    tuning, designs = _read(findings.tuning, Tuning), _read(findings.designs, DesignComparison)
    started = next(
        (event.at for event, start, _ in ledger.runs() if start.selection.run == run), now()
    )
    reasons = findings.reasons or explain(project, ledger, outcome, validation, decision)
    if findings.reasons and outcome == "data_rejected" and validation:
        reasons = [*findings.reasons, *validation.reasons]  # what is quarantined by this run, too
    selection, serves = findings.selection, ledger.champion()
    before = selection.champion if selection else serves
    return RunFacts(
        project=project.settings.name,
        run=run,
        outcome=outcome,
        reasons=reasons,
        started_at=started,
        ended_at=now(),
        failed_step=findings.failed_step,
        git_commit=selection.git_commit if selection else None,
        tasks=[EvaluatedTask(name=task.name, kind=task.kind) for task in project.tasks],
        settings_own=settings_hyperparameters(project.settings),
        selection=selection,
        validation=validation,
        pretraining=_read(findings.pretraining, Pretraining),
        stabilisation=_read(findings.stabilisation, Stabilisation),
        tuning=tuning,
        designs=designs,
        evaluation=_read(findings.evaluation, Evaluation),
        probing=_read(findings.probing, Probing),
        decision=decision,
        version=findings.version,
        serving_check=_read(findings.serving_check, ServingCheck),
        deployed=outcome == "promoted",
        champion_before=before.version if before else None,
        champion_after=serves.version if serves else None,
        gate=project.settings.gate,
        ledger=ledger.head(),
        links=_links(project, run, findings, validation).model_copy(
            update={
                "tuning": Tuning.FILE if tuning and tuning.outcome == "searched" else None,
                "designs": DesignComparison.FILE if designs else None,
            }
        ),
    )


def relative_paths(facts: RunFacts, folder: Path) -> RunFacts:
    """Gives the facts with paths below a folder relative to it.

    Messages name files of this machine; whoever reads the report knows them by the project's
    folder.
    """
    return RunFacts.model_validate(_without_folder(facts.model_dump(), folder))


def explain(
    project: Project,
    ledger: Ledger,
    outcome: Outcome,
    validation: Validation | None,
    decision: Decision | None,
) -> Sequence[str]:
    """Lists why a run ended as it did."""
    if outcome == "nothing_new":
        return nothing_new_reasons(project, ledger)
    return [*(validation.reasons if validation else []), *(decision.reasons if decision else [])]


def _without_folder(value: Any, folder: Path) -> Any:
    """Makes the paths below a folder relative to it, in every text of records as dictionaries."""
    if isinstance(value, str):
        return value.replace(f"{folder}{os.sep}", "")
    if isinstance(value, dict):
        return {
            _without_folder(key, folder): _without_folder(each, folder)
            for key, each in value.items()
        }
    return [_without_folder(each, folder) for each in value] if isinstance(value, list) else value


def _read(folder: Path | None, kind: type[R]) -> R | None:
    return kind.read(folder) if folder is not None else None


def _links(project: Project, run: str, findings: Findings, validation: Validation | None) -> Links:
    folder, evaluation, reported = (
        findings.validation,
        findings.evaluation,
        run_folder(project, run),
    )
    embedded = project.settings.registry.uri is None
    new = [span.span.name for span in validation.spans if span.new] if validation else []
    return Links(
        log=LOG_FILE if (reported / LOG_FILE).exists() else None,
        pipeline=PIPELINE_FILE if (reported / PIPELINE_FILE).exists() else None,
        registry=os.path.relpath(project.state / "registry", reported) if embedded else None,
        tensorboard=f"{TENSORBOARD}/"
        if evaluation is not None and (evaluation / LOGS).is_dir()
        else None,
        spans={name: _span_links(folder, name) for name in new} if folder else {},
    )


def _span_links(folder: Path, span: str) -> SpanLinks:
    """Links the files that validation left of a span."""
    hrefs = {
        "data_docs": f"{DATA_DOCS}/{span}/index.html",
        "statistics": f"{STATISTICS}/{span}.html",
        "set_aside": f"{SET_ASIDE}/{span}.jsonl",
    }
    return SpanLinks(
        **{name: quote(href) for name, href in hrefs.items() if (folder / href).is_file()}
    )


def now() -> str:
    """Gives the time as records hold it: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
