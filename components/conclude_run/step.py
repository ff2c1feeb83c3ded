"""Ends a run: writes its report, and records the verdict on each new span and the outcome."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from components.conclude_run.collect import (
    TENSORBOARD,
    Findings,
    gather_facts,
    now,
    relative_paths,
    run_folder,
)
from components.conclude_run.run_warnings import choose_told, count_warnings, list_warnings
from perennial.ledger.events import Ledger, NewEvent
from perennial.project import Project
from perennial.report.facts import RunFacts
from perennial.report.page import render_report
from perennial.results.run_records import RunRecords
from perennial.spans.artifacts import DATA_DOCS, SET_ASIDE, STATISTICS
from perennial.spans.window import Judgements, state_of
from perennial.storage.atomic import publish_folder, publish_text
from perennial.storage.files import is_url
from perennial.training.artifacts import LOGS
from schemas.records import (
    DesignComparison,
    Outcome,
    RunEnded,
    RunWarnings,
    SpanJudged,
    SpanValidation,
    Tuned,
    Tuning,
    Validation,
)

__all__ = [
    "REPORT_FILE",
    "Findings",
    "conclude_run",
    "judge_spans",
    "remember_search",
    "run_folder",
]

REPORT_FILE = "report.html"
# What validation left of each new span, beside the report.
SPAN_FOLDERS = (DATA_DOCS, STATISTICS, SET_ASIDE)
# What a run publishes of its folder, which also holds what is of this machine.
_PUBLISHED = (
    REPORT_FILE,
    RunWarnings.FILE,
    Tuning.FILE,
    DesignComparison.FILE,
    TENSORBOARD,
    *SPAN_FOLDERS,
)


def conclude_run(
    project: Project,
    run: str,
    outcome: Outcome,
    findings: Findings,
    records: RunRecords | None = None,
) -> RunEnded:
    """Writes the report, then records verdicts and the run's end in one transaction.

    Only the ledger's entry makes a span judged. A run that is killed before it is repeated, with
    its finished steps kept in the root. A run ends once; but a failure does not count any more when
    the same run was tried again and came to its end.

    Args:
        project: The project.
        run: Name of the run.
        outcome: How it ended.
        findings: What its steps left.
        records: Where the report is published, and the outcome after it; None: in the state folder
            alone.

    Raises:
        LeaseLostError: Another run has taken the project over; nothing of this one is recorded.
    """
    ledger = Ledger(project.ledger_url)
    recorded = ledger.run_end(run)
    retried = recorded is not None and recorded.outcome == "failed" and outcome != "failed"
    if recorded is not None and not retried:
        if records is not None:  # an earlier attempt may have ended in between
            records.end(recorded)
        return recorded
    folder = run_folder(project, run)
    facts = gather_facts(project, ledger, run, outcome, findings)
    facts = facts.model_copy(update={"warnings": list_warnings(facts)})
    shown = relative_paths(facts, project.folder)
    _publish(findings, facts, folder)
    RunWarnings(warnings=shown.warnings).write(folder)
    publish_text(render_report(shown), folder / REPORT_FILE)
    if records is not None:
        records.publish(folder, _PUBLISHED)
    selection, (warned, not_compared) = findings.selection, count_warnings(shown.warnings)
    ended = RunEnded(
        outcome=outcome,
        reasons=facts.reasons,
        window=_window(facts),
        new_spans=selection.new_spans if selection else [],
        version=findings.version.version if findings.version else None,
        champion=facts.champion_after,
        report=_place_of_report(project, folder, records),
        warned=warned,
        not_compared=not_compared,
        warnings=choose_told(shown.warnings),
        exit_code=findings.exit_code,
    )
    verdicts = judge_spans(outcome, facts.validation, run, ledger.judged_spans())
    tuned = remember_search(outcome, facts.tuning, run)
    key = f"run-ended:{run}" + (":retried" if retried else "")
    end = NewEvent("run_ended", ended, run, key)
    ledger.append(*(replace(new, fence=findings.fence) for new in (*verdicts, *tuned, end)))
    if records is not None:
        records.end(ended)
    return ended


def _place_of_report(project: Project, folder: Path, records: RunRecords | None) -> str:
    """Gives where the report lies: a URL, or a path from the project folder."""
    place = records.place if records is not None else str(folder)
    report = f"{place}/{REPORT_FILE}"
    return report if is_url(report) else os.path.relpath(report, project.folder)


def judge_spans(
    outcome: Outcome, validation: Validation | None, run: str, judged: Judgements | None = None
) -> list[NewEvent]:
    """Gives the verdicts that a run's end records on its new spans; `judged` are those before it.

    Spans with failures are quarantined, unless the run failed. The others are accepted when the
    run trained on them; when its data were rejected they stay new.
    """
    if validation is None or outcome == "failed":
        return []
    trained = outcome in ("promoted", "kept_champion")
    new = [span for span in validation.spans if span.new]
    return [
        _verdict(span, run, span.released or state_of(span.span, judged or {}) == "reopened")
        for span in new
        if span.quarantined or trained
    ]


def remember_search(outcome: Outcome, tuning: Tuning | None, run: str) -> list[NewEvent]:
    """Gives the result of this run's search, which later runs read; else nothing."""
    if (
        tuning is None
        or tuning.outcome != "searched"
        or outcome not in ("promoted", "kept_champion")
    ):
        return []
    tuned = Tuned(best=tuning.best, space=tuning.space, at=now(), run=run)
    return [NewEvent("hyperparameters_tuned", tuned, run, key=f"tuned:{run}")]


def _publish(findings: Findings, facts: RunFacts, folder: Path) -> None:
    """Publishes beside the report what it links to."""
    folders = [(findings.validation, name, name) for name in SPAN_FOLDERS] + [
        (findings.evaluation, LOGS, TENSORBOARD)
    ]
    for source, name, published in folders:
        if source is not None and (source / name).is_dir():
            publish_folder(source / name, folder / published)
    for source, file in (
        (findings.tuning, facts.links.tuning),
        (findings.designs, facts.links.designs),
    ):
        if source is not None and file is not None:
            publish_text((source / file).read_text(encoding="utf-8"), folder / file)


def _verdict(span: SpanValidation, run: str, again: bool) -> NewEvent:
    """Gives the one verdict on a version of a span, so that it is trained on exactly once.

    `again`: a person released it or had it judged again, so it may be quarantined a second time.
    """
    judged = SpanJudged(
        span=span.span,
        rows=sum(span.rows.values()),
        reasons=[f"{check.subject}: {check.message}" for check in span.failures],
        set_aside=span.set_aside,
        readable=not any(check.kind == "readable" for check in span.failures),
        rows_digest=span.rows_digest,
    )
    version = f"{span.span.name}@{span.span.fingerprint}"
    if not span.quarantined:
        return NewEvent("span_accepted", judged, run, f"span:{version}")
    repeated = f" by {run}" if again else ""
    return NewEvent("span_quarantined", judged, run, f"span-quarantined:{version}{repeated}")


def _window(facts: RunFacts) -> list[str]:
    """Lists the spans that the run could train on, or selected where none was validated."""
    if facts.validation is not None:
        return [span.span.name for span in facts.validation.spans if span.in_window]
    return [span.name for span in facts.selection.window] if facts.selection else []
