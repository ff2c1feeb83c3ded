"""Failures of a run's steps, as the ledger records them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from perennial.errors import DataError, PerennialError, describe_error, log_place, may_pass
from perennial.ledger.events import Ledger, NewEvent, body_of
from schemas.records import StepFailed

Task = tuple[str, str]
"""A step and its part: the name of a span or an instance, of the tasks of a loop."""


def describe_failure(step: str, error: BaseException, part: str = "") -> StepFailed:
    """Describes an error: by its own message where that is made for people, else by its kind.

    To be called before the error is printed, as the message names the log's next line.
    """
    message, exit_code = str(error), 1
    if isinstance(error, PerennialError):
        exit_code = error.exit_code
    else:
        message = f"{step} failed: {describe_error(error)} (all of it: {log_place()})"
    outcome: Literal["failed", "data_rejected"] = "failed"
    if exit_code == DataError.exit_code:
        outcome = "data_rejected"
    return StepFailed(
        step=step,
        part=part,
        outcome=outcome,
        message=message,
        exit_code=exit_code,
        final=not may_pass(error),
    )


def record_failure(ledger: Ledger, run: str, failure: StepFailed, fence: int | None) -> None:
    """Records that a step of a run failed; a final failure of a task once.

    Raises:
        LeaseLostError: Another run has taken the project over.
        LedgerError: The ledger cannot be written.
    """
    key = f"step-failed:{run}:{failure.step}:{failure.part}" if failure.final else None
    ledger.append_once(NewEvent("step_failed", failure, run, key, fence))


def final_failure(ledger: Ledger, run: str, task: Task) -> StepFailed | None:
    """Finds the failure of an earlier attempt of a task that another attempt would repeat."""
    failures = _failures(ledger, run)
    return next((one for one in failures if one.final and (one.step, one.part) == task), None)


def decisive_failure(ledger: Ledger, run: str, done: Collection[Task]) -> StepFailed | None:
    """Gives the failure that a run ended by: the first of a task that is not done.

    Of several attempts of a task the last one counts.
    """
    last = {(one.step, one.part): one for one in _failures(ledger, run)}
    return next((failure for task, failure in last.items() if task not in done), None)


def _failures(ledger: Ledger, run: str) -> list[StepFailed]:
    return [body_of(event, StepFailed) for event in ledger.events("step_failed", run=run)]
