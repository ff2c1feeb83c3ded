"""Which repetition of a rejected run is due: a run that is not good enough may be tried again with other draws."""

from __future__ import annotations

from perennial.ledger.events import Event, Ledger, body_of
from perennial.project import Project
from schemas.records import Decision, DecisionMade, RunEnded, RunStarted


def find_due_attempt(project: Project) -> int | None:
    """The number of the repetition that `perennial run` goes on with, or None: what has landed since goes first.

    Raises:
        DataError: Spans cannot be found or read.
    """
    from components.select_spans.step import find_window

    if not project.settings.gate.repeats:
        return None
    ledger = Ledger(project.ledger_url)
    newest = ledger.newest_run()
    if newest is None:
        return None
    made = [body_of(event, DecisionMade) for event in ledger.events("decision", run=newest[0].run)]
    decision = made[-1].decision if made else None
    due = due_attempt(newest, decision, project.settings.gate.repeats, project.project_digest())
    return None if due is None or find_window(project, ledger.judged_spans()).new else due


def due_attempt(
    newest: tuple[Event, RunStarted, Event | None], decision: Decision | None, repeats: int, project_digest: str
) -> int | None:
    """The number of the repetition that follows the newest run, or None where none does.

    It is the next one where the gate kept the champion for a reason that other draws may change; the same one where a
    repetition was killed or failed. After a change of the project nothing is due: that run is not the one it was.

    Args:
        newest: The newest run's start, what it selected, and its end, as `Ledger.newest_run` gives them.
        decision: Of the newest run; None: it came to none.
        repeats: How often a run may be repeated.
        project_digest: Of the project as it is now.
    """
    _, start, end = newest
    done = start.selection.attempt
    if start.selection.project_digest != project_digest:
        return None
    if end is None or body_of(end, RunEnded).outcome == "failed":
        return done if 0 < done <= repeats else None
    return done + 1 if decision is not None and decision.worth_repeating and done < repeats else None
