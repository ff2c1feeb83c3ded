"""`perennial run`: runs the loop once on this machine and prints how it ended."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.arguments import Folder
from perennial.cli.formats import OUTCOME_COLOURS
from perennial.errors import PerennialError

if TYPE_CHECKING:
    from rich.console import Console

    from perennial.project import Project
    from perennial.runner.project_run import RunResult
    from schemas.records import Outcome, RunEnded

Retrain = Annotated[
    bool,
    typer.Option("--retrain", help="Train even though nothing new has landed."),
]
Tune = Annotated[
    bool,
    typer.Option("--tune", help="Train, and search for hyperparameters anew."),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object as the last line."),
]


def run(
    folder: Folder,
    retrain: Retrain = False,
    tune: Tune = False,
    as_json: AsJson = False,
) -> None:
    """Run the loop once: validate, train, compare, register, push."""
    from rich.console import Console

    from perennial.project import load_project
    from perennial.runner.project_run import RunOptions, run_project

    # The stream, not its name: while the pipeline runs, the name stands for kfp.local's log.
    console = Console(file=sys.stderr if as_json else sys.stdout, soft_wrap=True)
    try:
        project = load_project(folder)
        result = run_project(project, RunOptions(retrain, tune), console)
    except PerennialError as error:
        if as_json:  # programs read what kept the run from beginning, too
            typer.echo(not_begun_json(error))
        raise
    except KeyboardInterrupt:
        typer.secho("interrupted: run again to go on where it stopped", err=True)
        raise typer.Exit(130) from None
    show_result(result.ended, project, console)
    if as_json:
        typer.echo(result_json(result, project))
    raise typer.Exit(result.exit_code)


def show_result(ended: RunEnded, project: Project, console: Console) -> None:
    """Prints the outcome, its reasons and where the report is."""
    colour = OUTCOME_COLOURS[ended.outcome]
    console.print(f"\n[bold {colour}]{ended.outcome}[/]  {summarise(ended)}", highlight=False)
    for reason in ended.reasons:
        console.print("  • ", end="")
        console.print(reason, highlight=False, markup=False)
    if ended.report:
        path = os.path.relpath(project.folder / ended.report)
        console.print(f"[dim]report[/]  {path}", highlight=False, soft_wrap=True)


def summarise(ended: RunEnded) -> str:
    """Writes the outcome as one sentence."""
    serving = "nothing serves yet"
    if ended.champion:
        serving = f"champion version {ended.champion} keeps serving"
    sentences: dict[Outcome, str] = {
        "promoted": f"version {ended.version} is the champion now",
        "kept_champion": f"version {ended.version} was registered, {serving}",
        "nothing_new": f"nothing new has landed, {serving}",
        "data_rejected": f"the data was refused, {serving}",
        "failed": f"the run failed, {serving}; run again to go on where it stopped",
    }
    return sentences[ended.outcome]


def result_json(result: RunResult, project: Project) -> str:
    """Writes a run's result as one line of JSON."""
    report = str(project.folder / result.ended.report) if result.ended.report else None
    record = result.ended.model_dump(mode="json")
    return json.dumps({**record, "seconds": result.seconds, "report": report})


def not_begun_json(error: PerennialError) -> str:
    """Writes the same line for a run that an error kept from beginning."""
    return json.dumps(
        {
            "outcome": "failed",
            "version": None,
            "champion": None,
            "report": None,
            "window": [],
            "new_spans": [],
            "reasons": [str(error)],
            "seconds": {},
        }
    )
