"""Begins a run where no process is around the pipeline: checks, repairs, due repetitions."""

from __future__ import annotations

import sys

from components.select_spans.repetitions import find_due_attempt
from perennial.project import Project
from perennial.project_checks import check_definition
from perennial.registry.repair import reconcile_or_tell
from perennial.schema.proposal import finish_acceptance


def begin_run(project: Project, attempt: int, asked: bool) -> int:
    """Does what `perennial run` does before the pipeline; gives the number of the repetition.

    A run that nobody asked for anything is the repetition that is due, if one is. So a schedule
    repeats a run whose candidate was not good enough, one repetition a run.

    Args:
        project: The project.
        attempt: The repetition that was asked for; 0: none.
        asked: Whether a person asked to train or to search.

    Raises:
        ProjectError: The project has a mistake.
        DataError: Spans cannot be found or read.
    """
    finish_acceptance(project)  # of a schema, where that command was killed
    check_definition(project)
    for line in reconcile_or_tell(project):
        print(f"note: {line}", file=sys.stderr, flush=True)
    if attempt or asked:
        return attempt
    return find_due_attempt(project) or 0
