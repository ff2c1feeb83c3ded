"""`perennial status`: the champion, since when, trained on what, and how the last runs ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from perennial.cli.arguments import Folder, load_repaired
from perennial.cli.formats import OUTCOME_COLOURS, describe_warnings, format_minute
from schemas.triggers import TRIGGERS

if TYPE_CHECKING:
    from rich.console import Console

    from perennial.ledger.events import Event, Ledger
    from perennial.project import Project
    from schemas.records import Champion, RunStarted

RUNS_SHOWN = 10
_VERBS = {"push": "pushed", "promote": "promoted", "rollback": "rolled back to"}


def status(folder: Folder) -> None:
    """Show the champion and the last runs."""
    from rich.console import Console

    show_status(load_repaired(folder), Console(soft_wrap=True))


def show_status(project: Project, console: Console) -> None:
    """Prints the state of a project as the ledger has it."""
    from perennial.ledger.events import Ledger

    ledger = Ledger(project.ledger_url)
    champion = ledger.champion()
    console.print(f"[bold]{project.settings.name}[/]", highlight=False)
    if champion is None:
        console.print("nothing serves yet: land data, then `perennial run`")
    else:
        for line in describe_champion(ledger, champion):
            console.print(line, highlight=False, markup=False)
        for line in _describe_test(ledger):
            console.print(line, highlight=False, markup=False)
    held = _holder(ledger)
    for run in reversed(ledger.runs()[-RUNS_SHOWN:]):
        headline, *lines = _run_lines(*run, held)
        console.print(f"\n{headline}", highlight=False)
        for line in lines:
            console.print(f"  {line}", highlight=False, markup=False)


def describe_champion(ledger: Ledger, champion: Champion) -> Iterator[str]:
    """Gives lines: which version serves, since when and why, its training data, its digest."""
    event, deployment = ledger.deployments()[-1]
    since = f"since {format_minute(event.at)}"
    act = f"{_VERBS[deployment.action]} by {deployment.by} ({deployment.why})"
    yield f"champion  version {champion.version}, {since}: {act}"
    start = _training_run(ledger, champion.version)
    if start is not None:
        run, spans = start.selection.run, [span.name for span in start.selection.window]
        reach = spans[0] if len(spans) == 1 else f"{spans[0]} to {spans[-1]}"
        yield f"trained   by run {run} on {len(spans)} span{'s' * (len(spans) > 1)}, {reach}"
    yield f"digest    {champion.digest}"


def _describe_test(ledger: Ledger) -> Iterator[str]:
    """Gives a line where a test between arms is running."""
    from perennial.production.arms import read_arms

    tested = read_arms(ledger).challenger
    if tested is not None:
        takes = "copies of all requests" if tested.shadow else f"{tested.share:.1%} of the traffic"
        since = f"since {format_minute(tested.since)} (test {tested.test})"
        yield f"{tested.arm:<9} version {tested.version}, {takes}, {since}"


def _training_run(ledger: Ledger, version: str) -> RunStarted | None:
    """Finds the run that first registered a version."""
    from perennial.ledger.events import body_of
    from schemas.records import DecisionMade

    decisions = ledger.events("decision")
    runs = [each.run for each in decisions if body_of(each, DecisionMade).version == version]
    starts = {start.selection.run: start for _, start, _ in ledger.runs()}
    return starts.get(runs[0] or "") if runs else None


def _holder(ledger: Ledger) -> tuple[str, str] | None:
    """Names the run that holds the project's lease, and its process; None: no run does."""
    from perennial.ledger.lease import describe_owner

    lease = ledger.lease()
    if lease is None or lease.released:
        return None
    return lease.run, describe_owner(ledger, lease)


def _run_lines(
    event: Event, start: RunStarted, end: Event | None, held: tuple[str, str] | None
) -> Iterator[str]:
    """Describes a run: when it was and how it ended (with markup), then why, and its warnings.

    `held` is the run that holds the project's lease, and its process.
    """
    from perennial.ledger.events import body_of
    from schemas.records import RunEnded

    ended = body_of(end, RunEnded) if end is not None else None
    outcome = "[dim]not ended[/]"
    if ended is not None:
        outcome = f"[{OUTCOME_COLOURS[ended.outcome]}]{ended.outcome}[/]"
    selection = start.selection
    spans = f"{len(selection.window)} in the window, {len(selection.new_spans)} new"
    begun = f"begun by {TRIGGERS[selection.trigger]}, " if selection.trigger else ""
    yield f"{selection.run}  {format_minute(event.at)}  {outcome} [dim]({begun}{spans})[/]"
    if ended is None and held is not None and held[0] == selection.run:
        yield f"it is under way: {held[1]}"
        return
    if ended is None:
        yield "it was cut short: the next run resumes it"
        return
    # Of refused data the first reason, of a decision the last, which is its result.
    if ended.reasons:
        yield ended.reasons[0 if ended.outcome == "data_rejected" else -1]
    yield from describe_warnings(ended)
