"""`perennial history`, `explain` and `compare`: the commands; what they tell stands in modules of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(metavar="PROJECT", help="Project folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]


def history(
    folder: Folder,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Tell only what served at this time: ISO date or date-time, UTC unless it has an offset; a date "
            "means its end.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what served when, who or what decided, and why."""
    from perennial.cli.history import tell_history
    from perennial.project import load_project
    from perennial.reconciling import reconcile_or_tell

    project = load_project(folder)
    tell_repairs(reconcile_or_tell(project))
    tell_history(project, at, as_json)


def explain(
    folder: Folder,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Registry version, such as 3.")],
    as_json: AsJson = False,
) -> None:
    """Tell a version's whole story, from the spans to how long it served."""
    from perennial.cli.explaining import tell_story
    from perennial.project import load_project
    from perennial.reconciling import reconcile_or_tell

    project = load_project(folder)
    tell_repairs(reconcile_or_tell(project))
    tell_story(project, version, as_json)


def compare(
    folder: Folder,
    first: Annotated[str, typer.Argument(metavar="V1", help="Registry version.")],
    second: Annotated[str, typer.Argument(metavar="V2", help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Show two versions side by side: spans, parameters, metrics."""
    from perennial.cli.comparing import tell_comparison
    from perennial.project import load_project
    from perennial.reconciling import reconcile_or_tell

    project = load_project(folder)
    tell_repairs(reconcile_or_tell(project))
    tell_comparison(project, first, second, as_json)


def tell_repairs(lines: Sequence[str]) -> None:
    """Tells on stderr what was completed before a command."""
    for line in lines:
        typer.echo(f"note: {line}", err=True)
