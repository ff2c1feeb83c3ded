"""`perennial history`, `explain` and `compare`: the commands; what they tell stands in modules of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from perennial.project import Project

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

    tell_history(load_repaired(folder), at, as_json)


def explain(
    folder: Folder,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Registry version, such as 3.")],
    as_json: AsJson = False,
) -> None:
    """Tell a version's whole story, from the spans to how long it served."""
    from perennial.cli.explain import tell_story

    tell_story(load_repaired(folder), version, as_json)


def compare(
    folder: Folder,
    first: Annotated[str, typer.Argument(metavar="V1", help="Registry version.")],
    second: Annotated[str, typer.Argument(metavar="V2", help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Show two versions side by side: spans, parameters, metrics."""
    from perennial.cli.compare import tell_comparison

    tell_comparison(load_repaired(folder), first, second, as_json)


def load_repaired(folder: Path) -> Project:
    """The project, after what an earlier command left unfinished was completed; tells on stderr what that was.

    Raises:
        ProjectError: The folder holds no project, or one with a mistake in its settings.
    """
    from perennial.project import load_project
    from perennial.registry.repair import reconcile_or_tell

    project = load_project(folder)
    for line in reconcile_or_tell(project):
        typer.echo(f"note: {line}", err=True)
    return project
