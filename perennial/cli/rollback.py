"""`perennial rollback`: a person returns to the version that served before."""

from __future__ import annotations

import typer

from perennial.cli.arguments import Folder, Why


def rollback(folder: Folder, why: Why = "a person decided") -> None:
    """Make the version that served before the champion again."""
    from perennial.project import load_project
    from perennial.registry.deployments import roll_back

    deployed = roll_back(load_project(folder), why)
    typer.echo(f"version {deployed.version} is the champion again")
