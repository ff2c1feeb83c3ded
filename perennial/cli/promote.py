"""`perennial promote`: a person makes a version the champion."""

from __future__ import annotations

from typing import Annotated

import typer

from perennial.cli.arguments import Folder, Why

Version = Annotated[str | None, typer.Argument(help="Registry version; default: the newest.")]


def promote(folder: Folder, version: Version = None, why: Why = "a person decided") -> None:
    """Make a registered version the champion."""
    from perennial.project import load_project
    from perennial.registry.deployments import promote_version

    deployed = promote_version(load_project(folder), version, why)
    typer.echo(f"version {deployed.version} is the champion now")
