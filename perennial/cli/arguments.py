"""Arguments and options that several commands share, and the project that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.triggers import Trigger

if TYPE_CHECKING:
    from perennial.project import Project


def _check_why(why: str) -> str:
    if not why.strip():
        raise typer.BadParameter("must say why; it is kept in the ledger")
    return why


Folder = Annotated[Path, typer.Argument(metavar="PROJECT", help="Project folder.")]
Retrain = Annotated[
    bool, typer.Option("--retrain", help="Train even though nothing new has landed.")
]
TriggerOption = Annotated[
    Trigger,
    typer.Option(
        "--trigger", help="What begins the run; it is kept in the ledger and shown with the run."
    ),
]
Tune = Annotated[bool, typer.Option("--tune", help="Train, and search for hyperparameters anew.")]
JsonLine = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]
Why = Annotated[str, typer.Option(help="Why; it is kept in the ledger.", callback=_check_why)]


def load_repaired(folder: Path) -> Project:
    """Loads a project after completing what an earlier command left unfinished.

    Prints on standard error what was completed.

    Raises:
        ProjectError: The folder holds no project, or one with a mistake in its settings.
    """
    from perennial.project import load_project
    from perennial.registry.repair import reconcile_or_tell

    project = load_project(folder)
    for line in reconcile_or_tell(project):
        typer.echo(f"note: {line}", err=True)
    return project
