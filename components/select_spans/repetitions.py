"""Repetitions of a run whose candidate was not good enough: the same data, other random draws."""

from __future__ import annotations

from components.select_spans.step import find_window
from perennial.ledger.events import Event, Ledger, body_of
from perennial.project import Project
from schemas.records import Decision, DecisionMade, RunEnded, RunStarted


def find_due_attempt(project: Project) -> int | None:
    """Finds the number of the repetition that the next run is.

    Returns:
        The number; None where no repetition is due, or new spans have landed, which go first.

    Raises:
        DataError: Spans cannot be found or read.
    """
    repeats = project.settings.gate.repeats
    if not repeats:
        return None
    ledger = Ledger(project.ledger_url)
    newest = ledger.newest_run()
    if newest is None:
        return None
    decisions = ledger.events("decision", run=newest[0].run)
    decision = body_of(decisions[-1], DecisionMade).decision if decisions else None
    attempt = due_attempt(newest, decision, repeats, project.project_digest())
    if attempt is None or find_window(project, ledger.judged_spans()).new:
        return None
    return attempt


def due_attempt(
    newest: tuple[Event, RunStarted, Event | None],
    decision: Decision | None,
    repeats: int,
    project_digest: str,
) -> int | None:
    """Gives the number of the repetition that follows the newest run, or None where none does.

    It is the next number where the gate kept the champion for a reason that other draws may
    change, and the same number where a repetition was killed or failed. After a change of the
    project nothing is due: a repetition would not repeat that run.

    Args:
        newest: The newest run's start, what it selected, and its end, by `Ledger.newest_run`.
        decision: The newest run's decision; None where it made none.
        repeats: How often a run may be repeated.
        project_digest: The digest of the project as it is now.
    """
    _, start, end = newest
    attempt = start.selection.attempt
    if start.selection.project_digest != project_digest:
        return None
    if end is None or body_of(end, RunEnded).outcome == "failed":
        return attempt if 0 < attempt <= repeats else None
    if decision is None or not decision.worth_repeating or attempt >= repeats:
        return None
    return attempt + 1
