"""`perennial status`: the champion, since when, trained on what, and how the last runs ended."""

from __future__ import annotations

from rich.console import Console

from perennial.cli.console import COLOURS
from perennial.ledger.events import Event, Ledger, body_of
from perennial.project import Project
from schemas.records import Champion, DecisionMade, Deployment, RunEnded, RunStarted

RUNS_SHOWN = 10


def show_status(project: Project, console: Console) -> None:
    """Prints the state of a project as the ledger has it."""
    ledger = Ledger(project.ledger_url)
    champion = ledger.champion()
    console.print(f"[bold]{project.settings.name}[/]", highlight=False)
    if champion is None:
        console.print("nothing serves yet: land data, then `perennial run`")
    else:
        for line in describe_champion(ledger, champion):
            console.print(line, highlight=False, markup=False)
    for run in reversed(ledger.runs()[-RUNS_SHOWN:]):
        headline, why = _run_lines(*run)
        console.print(f"\n{headline}", highlight=False)
        console.print(why, highlight=False, markup=False)


def describe_champion(ledger: Ledger, champion: Champion) -> list[str]:
    """Which version serves, since when and why, what it was trained on, and its digest."""
    event, deployment = ledger.deployments()[-1]
    lines = [f"champion  version {champion.version}, since {_when(event.at)}: {_act(deployment)}"]
    origin = _trained_by(ledger, champion.version)
    if origin is not None:
        spans = [span.name for span in origin.selection.window]
        reach = spans[0] if len(spans) == 1 else f"{spans[0]} to {spans[-1]}"
        lines.append(f"trained   by run {origin.selection.run} on {len(spans)} span{'s' * (len(spans) > 1)}, {reach}")
    return [*lines, f"digest    {champion.digest}"]


def _trained_by(ledger: Ledger, version: str) -> RunStarted | None:
    """The run that first registered a version."""
    made = [e.run for e in ledger.events("decision") if body_of(e, DecisionMade).version == version]
    starts = {start.selection.run: start for _, start, _ in ledger.runs()}
    return starts.get(made[0] or "") if made else None


def _act(deployment: Deployment) -> str:
    verb = {"push": "pushed", "promote": "promoted", "rollback": "rolled back to"}[deployment.action]
    return f"{verb} by {deployment.by} ({deployment.why})"


def _run_lines(event: Event, start: RunStarted, end: Event | None) -> tuple[str, str]:
    """A run in two lines: when it was and how it ended (with markup), and why (plain)."""
    ended = body_of(end, RunEnded) if end else None
    outcome = f"[{COLOURS[ended.outcome]}]{ended.outcome}[/]" if ended else "[dim]not ended[/]"
    spans = f"{len(start.selection.window)} in the window, {len(start.selection.new_spans)} new"
    why = _why(ended) if ended and ended.reasons else "goes on, or was cut short; then the next run goes on with it"
    return f"{start.selection.run}  {_when(event.at)}  {outcome} [dim]({spans})[/]", f"  {why}"


def _why(ended: RunEnded) -> str:
    """The reason that says most: the first about refused data, the last of a decision, which is its result."""
    return ended.reasons[0 if ended.outcome == "data_rejected" else -1]


def _when(at: str) -> str:
    return f"{at[:10]} {at[11:16]} UTC"
