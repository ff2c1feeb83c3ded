"""The end of a run without new data; imports nothing that only a report needs."""

from __future__ import annotations

from perennial.ledger.events import Ledger
from perennial.project import Project
from perennial.spans.names import span_order
from schemas.records import RunEnded, Selection

# The steps that judge a span, in the order of `_judged_by`.
_JUDGING = ("ingest_examples", "check_examples", "validate_data")
_LISTED = 3  # spans that wait, the newest


def nothing_new_reasons(project: Project, ledger: Ledger) -> list[str]:
    """Says where new spans were looked for, and which wait for a person."""
    data = project.settings.data
    source = data.spans or (data.table.table or "the query" if data.table else "")
    return [
        f"no span of {source} has landed that was not judged before",
        *_waiting_reasons(project, ledger),
    ]


def _waiting_reasons(project: Project, ledger: Ledger) -> list[str]:
    """Names the quarantined spans, and the command that has them judged again."""
    newest = {name: verdicts[-1] for name, verdicts in ledger.judged_spans().items()}
    waiting = sorted(
        (name for name, verdict in newest.items() if verdict.verdict == "quarantined"),
        key=span_order,
    )
    if not waiting:
        return []
    rules = {start.selection.run: _judged_by(start.selection) for _, start, _ in ledger.runs()}
    now = tuple(map(project.digest_of, _JUDGING))
    reasons = []
    for name in waiting[-_LISTED:]:
        changed = rules.get(newest[name].run or "", now) != now
        verdict = newest[name].judged
        waits = f"span {name} waits in quarantine"
        if changed:
            reasons.append(
                f"{waits}; what it is judged by has changed since: `perennial spans judge PROJECT "
                f'{name} --why "…"` has the next run judge it again'
            )
            continue
        remedy = "`perennial spans release|reject` decides"
        if not verdict.readable:
            remedy = "land it again, or `perennial spans reject` it"
        reasons.append(f"{waits}: {'; '.join(verdict.reasons)}; {remedy}")
    if len(waiting) > _LISTED:
        reasons.append(f"{len(waiting) - _LISTED} more wait in quarantine: `perennial spans list`")
    return reasons


def _judged_by(selection: Selection) -> tuple[str, ...]:
    return (selection.data_digest, selection.rules_digest, selection.checks_digest)


def end_without_work(project: Project, ledger: Ledger, selection: Selection) -> RunEnded:
    """Makes the record of such a run's end; it has no report, which would say no more."""
    champion = ledger.champion()
    return RunEnded(
        outcome="nothing_new",
        reasons=nothing_new_reasons(project, ledger),
        window=[span.name for span in selection.window],
        new_spans=[],
        version=None,
        champion=champion.version if champion else None,
        report=None,
    )
