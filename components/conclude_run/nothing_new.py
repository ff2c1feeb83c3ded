"""The end of a run without new data; imports nothing that only a report needs."""

from __future__ import annotations

from perennial.ledger.events import Ledger
from perennial.project import Project
from schemas.records import RunEnded, Selection


def nothing_new_reason(project: Project) -> str:
    """Says where new spans were looked for."""
    data = project.settings.data
    source = data.spans or (data.table.table or "the query" if data.table else "")
    return f"no span of {source} has landed that was not judged before"


def end_without_work(project: Project, ledger: Ledger, selection: Selection) -> RunEnded:
    """Makes the record of such a run's end; it has no report, which would say no more."""
    champion = ledger.champion()
    return RunEnded(
        outcome="nothing_new",
        reasons=[nothing_new_reason(project)],
        window=[span.name for span in selection.window],
        new_spans=[],
        version=None,
        champion=champion.version if champion else None,
        report=None,
    )
