"""`perennial labels`: which labels are probably wrong."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.arguments import AsJson, Folder

if TYPE_CHECKING:
    from perennial.production.suspect_labels import SuspectLabels

app = typer.Typer(no_args_is_help=True, help="Find labels that are probably wrong.")
Name = Annotated[str, typer.Argument(metavar="SPAN", help="Name of the span, such as 2026-01-31.")]


@app.callback()
def labels() -> None:
    """Keeps `suspect` a command of its own, though it is the only one."""


@app.command()
def suspect(
    folder: Folder,
    span: Name,
    task: Annotated[
        str | None, typer.Option(help="A task with classes; default: the first.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many to show, the worst first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the examples of a span whose label is probably wrong, the worst first.

    A model version that was not trained on the span is asked; where there is none, the newest
    version is asked about the span's test split only.
    """
    from perennial.cli.warm_call import NEEDS_MODEL, call_warm
    from perennial.project import load_project

    settings = load_project(folder).settings.runner
    form = "json" if as_json else "lines"
    function = "perennial.cli.labels:show_suspects"
    call_warm(settings, NEEDS_MODEL, function, str(folder), span, task, count, form)


def show_suspects(folder: str, span: str, task: str | None, count: int, form: str) -> None:
    """Does the work of `perennial labels suspect`, where the libraries are imported."""
    from perennial.production.suspect_labels import find_suspects
    from perennial.project import load_project
    from perennial.runner.quiet import libraries_log_to

    project = load_project(Path(folder))
    with libraries_log_to(project.state / "labels.log"):
        found = find_suspects(project, span, task)
    if form == "json":
        shown = {**asdict(found), "suspects": [asdict(each) for each in found.suspects[:count]]}
        typer.echo(json.dumps(shown | {"found": len(found.suspects)}, indent=2))
        return
    typer.echo(describe(found))
    for each in found.suspects[:count]:
        typer.echo(
            f"{each.key}  labelled {each.given} ({each.chance_given:.1%}), "
            f"likelier {each.likelier} ({each.chance_likelier:.1%})"
        )
    if len(found.suspects) > count:
        typer.echo(f"and {len(found.suspects) - count} more: --count shows them")


def describe(found: SuspectLabels) -> str:
    """Says in a line what was looked at and how much was found."""
    asked = f"version {found.version}"
    looked = f"{found.examples:,} examples of span {found.span}"
    if len(found.splits) == 1:
        looked = f"{found.examples:,} test examples of span {found.span}"
        asked += ", which was trained on the others, as every version was"
    return f"{len(found.suspects)} labels are probably wrong, of {looked}, by {asked}"
