"""`perennial init`: writes a project to start from."""

from __future__ import annotations

from pathlib import Path

import typer

from perennial.cli.arguments import Folder
from perennial.errors import ProjectError

TEMPLATE = "perennial.cli.template"
FILES = ("project.yaml", "model.py", "schema.pbtxt", "expectations.json", "README.md")


def init(folder: Folder) -> None:
    """Write a project to start from; files that exist stay."""
    for path in init_project(folder):
        typer.echo(f"wrote {path}")


def init_project(folder: Path) -> list[Path]:
    """Writes those of the template's files that a folder lacks; gives their paths.

    Raises:
        ProjectError: Every file exists already, or the path is not a folder.
    """
    from importlib import resources

    from perennial.storage.atomic import publish_text

    if folder.exists() and not folder.is_dir():
        expected, remedy = "must be a folder, or not exist yet", "Choose another name."
        raise ProjectError(str(folder), expected, "a file", remedy)
    missing = [name for name in FILES if not (folder / name).exists()]
    if not missing:
        expected, remedy = "must lack a project's files", "`perennial validate` checks them."
        raise ProjectError(str(folder), expected, "a project that has them all", remedy)
    for name in missing:
        text = resources.files(TEMPLATE).joinpath(f"{name}.txt").read_text(encoding="utf-8")
        publish_text(text, folder / name)
    return [folder / name for name in missing]
