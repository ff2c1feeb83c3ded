"""`perennial rollback`: a person returns to the version that served before."""

from __future__ import annotations

import typer

from perennial.cli.arguments import Folder, Why


def rollback(folder: Folder, why: Why = "a person decided") -> None:
    """Make the version that served before the champion again."""
    from perennial.production.messages import send_or_tell
    from perennial.project import load_project
    from perennial.registry.deployments import roll_back

    project = load_project(folder)
    deployed = roll_back(project, why)
    typer.echo(f"version {deployed.version} is the champion again")
    for line in send_or_tell(project):
        typer.secho(f"note: {line}", err=True)
