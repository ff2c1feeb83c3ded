"""`perennial run`: runs the loop once on this machine and prints how it ended."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.arguments import Folder, JsonLine, Retrain, TriggerOption, Tune
from perennial.cli.formats import OUTCOME_COLOURS, describe_warnings
from perennial.errors import PerennialError, describe_error
from perennial.storage.files import is_url

if TYPE_CHECKING:
    from rich.console import Console

    from perennial.project import Project
    from perennial.runner.project_run import RunResult
    from schemas.records import Outcome, RunEnded, RunWarning

Isolated = Annotated[
    bool,
    typer.Option(
        "--isolated", help="Run each step as a pod would run: it shares the network only."
    ),
]

Image = Annotated[
    str | None,
    typer.Option(
        help="Run each step in a container of this image, by podman: as --isolated, with the "
        "image's own packages (docs/image.md).",
        show_default=False,
    ),
]


def run(
    folder: Folder,
    retrain: Retrain = False,
    tune: Tune = False,
    isolated: Isolated = False,
    image: Image = None,
    trigger: TriggerOption = "hand",
    as_json: JsonLine = False,
) -> None:
    """Run the loop once: validate, train, compare, register, push."""
    from rich.console import Console

    from perennial.production.messages import send_or_tell
    from perennial.project import load_project
    from perennial.runner.project_run import RunOptions, run_project

    # The stream, not its name: while the pipeline runs, the name stands for kfp.local's log.
    console = Console(file=sys.stderr if as_json else sys.stdout, soft_wrap=True)
    try:
        project = load_project(folder)
        options = RunOptions(retrain, tune, isolated=isolated, image=image, trigger=trigger)
        result = run_project(project, options, console)
    except KeyboardInterrupt:
        message = "interrupted: run again to go on where it stopped"
        if as_json:
            typer.echo(no_result_json(message))
        typer.secho(message, err=True)
        raise typer.Exit(130) from None
    except Exception as error:
        if as_json:  # programs read why there is no result, whatever it was: a full disk, too
            typer.echo(no_result_json(describe_error(error)))
        raise
    if as_json:
        typer.echo(result_json(result, project))
    show_result(result.ended, project, console)
    for line in send_or_tell(project):
        typer.secho(f"note: {line}", err=True)
    raise typer.Exit(result.exit_code)


def show_result(ended: RunEnded, project: Project, console: Console) -> None:
    """Prints the outcome, its reasons, the first warnings, and the report that has the rest."""
    colour = OUTCOME_COLOURS[ended.outcome]
    console.print(f"\n[bold {colour}]{ended.outcome}[/]  {summarise(ended)}", highlight=False)
    for reason in ended.reasons:
        console.print("  • ", end="")
        console.print(reason, highlight=False, markup=False)
    path = ended.report
    if path and not is_url(path):
        path = os.path.relpath(project.folder / path)
    for line in describe_warnings(ended, path):
        style = None if line.startswith(" ") else "yellow"
        console.print(line, style=style, highlight=False, markup=False)
    if path:
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
    """Writes a run's result as one line of JSON, with all of its warnings."""
    ended = result.ended
    report = ended.report
    if report and not is_url(report):
        report = str(project.folder / report)
    changed = {"warnings": read_warnings(ended, project), "report": report}
    record = ended.model_copy(update=changed).model_dump(mode="json", exclude={"exit_code"})
    return json.dumps({**record, "seconds": result.seconds})


def read_warnings(ended: RunEnded, project: Project) -> list[RunWarning]:
    """Reads all warnings of a run from beside its report; the first ones where that is gone."""
    from perennial.storage.objects import open_objects
    from schemas.records import RunWarnings

    if ended.report is None or ended.warned + ended.not_compared <= len(ended.warnings):
        return ended.warnings
    place = ended.report.rpartition("/")[0]
    folder = open_objects(place if is_url(place) else str(project.folder / place))
    try:
        data = folder.read(RunWarnings.FILE)
        return RunWarnings.model_validate_json(data or b"").warnings
    except (PerennialError, OSError, ValueError):
        return ended.warnings


def no_result_json(reason: str) -> str:
    """Writes the same line for a run without a result: it did not begin, or could not end."""
    return json.dumps(
        {
            "outcome": "failed",
            "reasons": [reason],
            "window": [],
            "new_spans": [],
            "version": None,
            "champion": None,
            "report": None,
            "warned": 0,
            "not_compared": 0,
            "warnings": [],
            "seconds": {},
        }
    )
