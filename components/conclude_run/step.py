"""Ends a run: the report, the verdict on each new span, and the outcome, the last three words in the ledger."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from components.conclude_run.report import Links, RunFacts, SpanLinks, render_report
from components.decide_promotion.step import read_decision
from components.evaluate_model.step import read_evaluation
from components.stabilise_weights.step import read_stabilisation
from components.validate_data.step import read_validation
from components.validate_serving.step import read_serving_check
from perennial.ledger import Ledger, NewEvent
from perennial.project import Project
from perennial.publishing import publish_folder, publish_text
from schemas.records import (
    Decision,
    ModelVersion,
    Outcome,
    RunEnded,
    Selection,
    SpanJudged,
    SpanValidation,
    Validation,
)

REPORT_FILE = "report.html"
LOG_FILE = "kubeflow.log"
PIPELINE_FILE = "pipeline.yaml"
# What validation left of each new span, beside the report.
SPAN_FOLDERS = ("data_docs", "statistics", "set_aside")


@dataclass(frozen=True)
class Findings:
    """What the steps of a run left; None where a run did not get that far."""

    selection: Selection | None = None
    validation: Path | None = None
    stabilisation: Path | None = None
    evaluation: Path | None = None
    decision: Path | None = None
    version: ModelVersion | None = None
    serving_check: Path | None = None
    reasons: list[str] = field(default_factory=list)


def conclude_run(project: Project, run: str, outcome: Outcome, findings: Findings) -> RunEnded:
    """Writes the report, then records the verdicts and the end of the run in one transaction.

    Only the ledger's entry makes a span judged: a run that is killed before it is done again, and finds its
    finished steps in the cache.
    """
    ledger = Ledger(project.ledger_url)
    recorded = ledger.run_end(run)
    if recorded is not None:
        return recorded
    folder = run_folder(project, run)
    facts = gather_facts(project, ledger, run, outcome, findings)
    for name in SPAN_FOLDERS:
        if findings.validation is not None and (findings.validation / name).is_dir():
            publish_folder(findings.validation / name, folder / name)
    publish_text(render_report(facts), folder / REPORT_FILE)
    selection = findings.selection
    ended = RunEnded(
        outcome=outcome,
        reasons=facts.reasons,
        window=_window(facts),
        new_spans=selection.new_spans if selection else [],
        version=findings.version.version if findings.version else None,
        champion=facts.champion_after,
        report=os.path.relpath(folder / REPORT_FILE, project.folder),  # the state may be kept elsewhere
    )
    verdicts = judge_spans(outcome, facts.validation, run)
    ledger.append(*verdicts, NewEvent("run_ended", ended, run, key=f"run-ended:{run}"))
    return ended


def run_folder(project: Project, run: str) -> Path:
    """Where a run leaves its report, its log and its pipeline."""
    return project.state / "runs" / run


def judge_spans(outcome: Outcome, validation: Validation | None, run: str) -> list[NewEvent]:
    """The verdicts that a run's end records on its new spans.

    What is to be quarantined is, as long as the run got to an outcome. The others are accepted when the run trained
    on them; when its data were rejected they stay new.
    """
    if validation is None or outcome == "failed":
        return []
    trained = outcome in ("promoted", "kept_champion")
    new = [span for span in validation.spans if span.new]
    return [_verdict(span, run) for span in new if span.quarantined or trained]


def _verdict(span: SpanValidation, run: str) -> NewEvent:
    """Quarantined or accepted, once for each version of a span: this is what trains on a span exactly once."""
    judged = SpanJudged(
        span=span.span,
        rows=sum(span.rows.values()),
        reasons=[f"{check.subject}: {check.message}" for check in span.failures],
        set_aside=span.set_aside,
        readable=not any(check.kind == "readable" for check in span.failures),
    )
    version = f"{span.span.name}@{span.span.fingerprint}"
    if not span.quarantined:
        return NewEvent("span_accepted", judged, run, f"span:{version}")
    # One that was released, and then cannot be read any more, is quarantined a second time.
    again = f" by {run}" if span.released else ""
    return NewEvent("span_quarantined", judged, run, f"span-quarantined:{version}{again}")


def _window(facts: RunFacts) -> list[str]:
    """Names of the spans that the run could train on; of those that it selected where none was validated."""
    if facts.validation is not None:
        return [span.span.name for span in facts.validation.spans if not span.quarantined]
    return [span.name for span in facts.selection.window] if facts.selection else []


def gather_facts(project: Project, ledger: Ledger, run: str, outcome: Outcome, findings: Findings) -> RunFacts:
    """Everything that the report shows."""
    validation = read_validation(findings.validation) if findings.validation else None
    decision = read_decision(findings.decision) if findings.decision else None
    started = next((event.at for event, start, _ in ledger.runs() if start.selection.run == run), _now())
    now = ledger.champion()
    before = findings.selection.champion if findings.selection else now
    return RunFacts(
        project=project.settings.name,
        run=run,
        outcome=outcome,
        reasons=findings.reasons or explain(project, outcome, validation, decision),
        started_at=started,
        ended_at=_now(),
        git_commit=findings.selection.git_commit if findings.selection else None,
        selection=findings.selection,
        validation=validation,
        stabilisation=read_stabilisation(findings.stabilisation) if findings.stabilisation else None,
        evaluation=read_evaluation(findings.evaluation) if findings.evaluation else None,
        decision=decision,
        version=findings.version,
        serving_check=read_serving_check(findings.serving_check) if findings.serving_check else None,
        deployed=outcome == "promoted",
        champion_before=before.version if before else None,
        champion_after=now.version if now else None,
        gate=project.settings.gate,
        links=_links(project, run, findings.validation, validation),
    )


def explain(
    project: Project, outcome: Outcome, validation: Validation | None, decision: Decision | None
) -> Sequence[str]:
    """Why a run ended as it did."""
    if outcome == "nothing_new":
        data = project.settings.data
        source = data.spans or (data.table.table or "the query" if data.table else "")
        return [f"no span of {source} has landed that was not judged before"]
    refused = validation.reasons if validation is not None else []
    return [*refused, *(decision.reasons if decision is not None else [])]


def _links(project: Project, run: str, folder: Path | None, validation: Validation | None) -> Links:
    reported = run_folder(project, run)
    embedded = project.settings.registry.uri is None
    new = [span.span.name for span in validation.spans if span.new] if validation else []
    return Links(
        log=LOG_FILE if (reported / LOG_FILE).exists() else None,
        pipeline=PIPELINE_FILE if (reported / PIPELINE_FILE).exists() else None,
        registry=os.path.relpath(project.state / "registry", reported) if embedded else None,
        spans={name: _span_links(folder, name) for name in new} if folder else {},
    )


def _span_links(folder: Path, span: str) -> SpanLinks:
    """Links to what validation left of a span; what it did not leave is not linked."""
    hrefs = {
        "data_docs": f"data_docs/{span}/index.html",
        "statistics": f"statistics/{span}.html",
        "set_aside": f"set_aside/{span}.jsonl",
    }
    return SpanLinks(**{name: quote(href) for name, href in hrefs.items() if (folder / href).is_file()})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
