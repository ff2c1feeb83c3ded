"""`perennial ab`: a test between the champion and another version, in production."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from perennial.cli.ab_judge import judge
from perennial.cli.arguments import AsJson, Folder, Why

app = typer.Typer(no_args_is_help=True, help="Compare a version with the champion in production.")
Version = Annotated[str, typer.Argument(help="Registry version that challenges the champion.")]
_SHARE = "Its part of the traffic, above 0 and at most 1."


def _check_share(share: float) -> float:
    if not 0 < share <= 1:
        raise typer.BadParameter("must be above 0 and at most 1")
    return share


@app.command()
def start(
    folder: Folder,
    version: Version,
    share: Annotated[float, typer.Option(help=_SHARE, callback=_check_share)] = 0.1,
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow",
            help="It answers copies of all requests, and its answers are never returned; --share "
            "does not count.",
        ),
    ] = False,
    days: Annotated[
        float | None,
        typer.Option(min=0.01, help="The longest that it may go on; default: ab.max_days."),
    ] = None,
) -> None:
    """Start a test: servers load the version aside, and then it takes its share of the traffic."""
    from perennial.production.ab_control import begin_test
    from perennial.project import load_project

    project = load_project(folder)
    days = project.settings.ab.max_days if days is None else days
    challenger = begin_test(project, version, share, shadow, days)
    takes = "shadows all requests" if shadow else f"takes {challenger.share:.1%} of the traffic"
    typer.echo(f"version {challenger.version} {takes} (test {challenger.test})")


@app.command("share")
def change(
    folder: Folder,
    share: Annotated[float, typer.Argument(help=_SHARE, callback=_check_share)],
    why: Why = "a person decided",
) -> None:
    """Change the challenger's part of the traffic; a larger one keeps the keys that it had."""
    from perennial.ledger.events import Ledger
    from perennial.production.arms import change_share
    from perennial.project import load_project

    challenger = change_share(Ledger(load_project(folder).ledger_url), share, why)
    typer.echo(f"version {challenger.version} takes {challenger.share:.1%} of the traffic now")


@app.command()
def stop(folder: Folder, why: Why = "a person decided") -> None:
    """End the test: the champion answers everything again."""
    from perennial.ledger.events import Ledger
    from perennial.production.arms import end_test, require_challenger
    from perennial.project import load_project

    ledger = Ledger(load_project(folder).ledger_url)
    challenger = require_challenger(ledger)
    end_test(ledger, challenger.test, "stopped", [why])
    typer.echo(f"test {challenger.test} has ended; version {challenger.version} answers nothing")


@app.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """Show the arms, their parts of the traffic, and since when."""
    from perennial.ledger.events import Ledger
    from perennial.production.arms import read_arms
    from perennial.project import load_project

    arms = read_arms(Ledger(load_project(folder).ledger_url))
    challenger = arms.challenger
    if as_json:
        values: dict[str, Any] = {"champion": arms.champion.model_dump(), "challenger": None}
        if challenger is not None:
            values["challenger"] = {"arm": challenger.arm, **asdict(challenger)}
        typer.echo(json.dumps(values))
        return
    taken = 0.0 if challenger is None else challenger.share
    typer.echo(f"champion    version {arms.champion.version}, {1 - taken:.1%} of the traffic")
    if challenger is None:
        typer.echo("no test is running")
        return
    share = "copies of all requests" if challenger.shadow else f"{taken:.1%} of the traffic"
    typer.echo(f"{challenger.arm:<11} version {challenger.version}, {share}")
    typer.echo(
        f"test {challenger.test} since {challenger.since[:16].replace('T', ' ')} UTC, for at most "
        f"{challenger.max_days:g} days"
    )


app.command()(judge)
