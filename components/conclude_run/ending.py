"""Ends a run by what its tasks left: the outcome is asked of the ledger and the root.

Whatever happened, and whichever tasks ran: nothing of it is handed from task to task.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from components.conclude_run.step import REPORT_FILE, Findings, conclude_run, run_folder
from perennial.errors import LeaseLostError, StoreError, describe_error
from perennial.ledger.events import Ledger
from perennial.ledger.failures import Task, decisive_failure
from perennial.ledger.task_lease import current_run
from perennial.project import Project, load_project
from perennial.results.run_records import RunRecords
from perennial.results.store import Results
from schemas.records import (
    ModelVersion,
    Outcome,
    RunEnded,
    Selection,
    StepFailed,
    StepMade,
)

Left = Mapping[Task, StepMade]
# The steps whose outputs the report shows: the field of `Findings`, and the output's name.
_SHOWN = {
    "validate_data": ("validation", "validation"),
    "pretrain_learner": ("pretraining", "pretraining"),
    "stabilise_weights": ("stabilisation", "weights"),
    "tune_model": ("tuning", "hyperparameters"),
    "compare_designs": ("designs", "designs"),
    "evaluate_model": ("evaluation", "evaluation"),
    "probe_model": ("probing", "probing"),
    "decide_promotion": ("decision", "decision"),
    "validate_serving": ("serving_check", "serving_check"),
}


def end_run(project: Project, results: Results, run: str, fence: int | None) -> RunEnded | None:
    """Ends a run; gives None where it never began, as another one was going on.

    Args:
        project: The project.
        results: The root.
        run: Name of the run.
        fence: The number of its lease.

    Raises:
        LeaseLostError: Another run has taken the project over; nothing of this one is recorded.
        LedgerError: The ledger cannot be read or written.
        StoreError: The root cannot be read, and no failure says why, or not written.
    """
    ledger = Ledger(project.ledger_url)
    records = RunRecords(results, run)
    selection = _selection(ledger, run)
    try:
        left = {(made.step, made.part): made for made in records.made()}
    except (StoreError, OSError) as error:
        # It must not hide why the run failed, which is most likely the same.
        failure = decisive_failure(ledger, run, ())
        if failure is None:
            raise
        outcome, reasons = _outcome(ledger, run, {}, failure)
        if not reasons:  # it deployed a model: its verdicts on spans lie in the root
            raise
        if failure.final:
            reasons.append(_lacking(error))
        known = Findings(
            selection,
            reasons=reasons,
            failed_step=failure.step,
            exit_code=failure.exit_code,
            fence=fence,
        )
        return conclude_run(project, run, outcome, known)
    failure = decisive_failure(ledger, run, left)
    if selection is None and failure is None:
        return None
    outcome, reasons = _outcome(ledger, run, left, failure)
    known = Findings(selection, reasons=reasons, fence=fence)
    if failure is not None and reasons:
        known = replace(known, failed_step=failure.step, exit_code=failure.exit_code)
    try:
        scratch = project.scratch
        scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as staged:
            findings = replace(known, **_stage(results, left, Path(staged)))
            return conclude_run(project, run, outcome, findings, records)
    except LeaseLostError:
        raise
    except Exception as error:  # a report that cannot be made must not hide why the run failed
        if not reasons:  # it did not fail: another attempt makes the report
            raise
        # A root that fails is most likely why the run failed, and has been told.
        same = isinstance(error, StoreError | OSError) and failure is not None and not failure.final
        known = replace(known, reasons=reasons if same else [*reasons, _lacking(error)])
    return conclude_run(project, run, outcome, known)


def _lacking(error: Exception) -> str:
    return f"the report lacks what the steps made: {describe_error(error)}"


def has_begun(project: str) -> bool:
    """Tells whether the run of this task ever held the lease: else there is nothing to end."""
    run = current_run()
    return run is not None and Ledger(load_project(project).ledger_url).fence_of(run) is not None


def copy_report(project: str, path: str) -> None:
    """Copies the report for the dashboard; Kubeflow wants a file, also where there is none."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).touch()
    if (run := current_run()) is not None:
        report = run_folder(load_project(project), run) / REPORT_FILE
        if report.is_file():
            shutil.copyfile(report, path)


def _selection(ledger: Ledger, run: str) -> Selection | None:
    starts = (start.selection for _, start, _ in ledger.runs())
    return next((selection for selection in starts if selection.run == run), None)


def _outcome(
    ledger: Ledger, run: str, left: Left, failure: StepFailed | None
) -> tuple[Outcome, list[str]]:
    """Tells how a run ended; with the reasons, where it failed."""
    values = {step: made.value for (step, _), made in left.items()}
    deployed = any(event.run == run for event, _ in ledger.deployments())
    if deployed or "push_model" in values:
        return "promoted", []
    if failure is not None:
        return failure.outcome, [failure.message]
    if values.get("select_spans") == "nothing_new":
        return "nothing_new", []
    if values.get("validate_data") == "rejected":
        return "data_rejected", []
    if "register_model" in values and values.get("decide_promotion") == "keep":
        return "kept_champion", []
    done = ", ".join(sorted(values)) or "no step"
    reason = (
        "a step was ended before it could say why: it was killed, its memory did not suffice, or "
        f"it took longer than kubeflow.task_minutes; its pod tells (done: {done})"
    )
    return "failed", [reason]


def _stage(results: Results, left: Left, folder: Path) -> dict[str, Any]:
    """Stages what the report shows, by the fields of `Findings`."""
    staged: dict[str, Any] = {}
    for (step, _), made in left.items():
        if step in _SHOWN:
            field, output = _SHOWN[step]
            staged[field] = folder / step
            results.stage(made.outputs[output], staged[field])
        if step == "register_model":
            staged["version"] = ModelVersion.model_validate(made.value)
    return staged
