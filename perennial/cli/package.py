"""`perennial package`: stores what a run reads of a project in the root, as one archive."""

from __future__ import annotations

import json

import typer

from perennial.cli.arguments import AsJson, Folder


def package(folder: Folder, as_json: AsJson = False) -> None:
    """Store the project's package in the root, and print how a run on any machine names it."""
    from perennial.cli.formats import format_bytes
    from perennial.package.publish import publish_package
    from perennial.project import load_project

    stored = publish_package(load_project(folder))
    manifest = stored.manifest
    reference = stored.reference.anywhere
    if as_json:
        record = manifest.model_dump(mode="json")
        typer.echo(json.dumps({"package": str(reference), "digest": reference.digest, **record}))
        return
    count = len(manifest.files)
    commit = f"commit {manifest.commit[:12]}" if manifest.commit else "no commit"
    changed = ", with changes since then" if manifest.dirty else ""
    typer.echo(
        f"packaged {count} file{'s' * (count != 1)}, {format_bytes(stored.size)}; {commit}{changed}"
    )
    for file in manifest.files:
        typer.echo(f"  {file.path}  {format_bytes(file.size)}")
    typer.echo(reference)
