"""`perennial forget`: removes a person's rows from the prediction log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.arguments import Folder

if TYPE_CHECKING:
    from perennial.production.forget import Remaining
    from schemas.records import Span

_MOMENT = 1.0  # seconds that a server takes to write a file


def forget(
    folder: Folder,
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="The value of data.key, as requests have it.")
    ],
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for what servers have in hand.")
    ] = False,
) -> None:
    """Remove the rows of a key from the prediction log, and say what else knows of it."""
    from perennial.production.forget import find_remaining, forget_key
    from perennial.project import load_project

    project = load_project(folder)
    log = project.settings.serving.log
    removed = forget_key(project, key)
    if log.enabled and not now:
        wait = log.seconds + _MOMENT
        typer.echo(f"waiting {wait:.0f} s for rows that servers have in hand", err=True)
        time.sleep(wait)
        removed += forget_key(project, key)
    typer.echo(f"removed {removed} row{'s' * (removed != 1)} of the key from the prediction log")
    if log.enabled and now:
        typer.echo(
            f"servers that run write what they have in hand within {log.seconds:g} s: run this "
            "again then"
        )
    for line in describe_remaining(find_remaining(project, key)):
        typer.echo(line)


def describe_remaining(remaining: Remaining) -> Iterator[str]:
    """Describes by lines what could not be removed."""
    if remaining.spans:
        yield f"not removed: the key is in {_names(remaining.spans)}"
        yield "  land these spans again without its rows; `perennial clean` removes old results"
    if remaining.versions:
        yield (
            f"not removed: model version{'s' * (len(remaining.versions) != 1)} "
            f"{', '.join(remaining.versions)} of the registry were trained on these spans"
        )
    if remaining.unknown:
        yield f"not looked into, as its keys are not kept any more: {_names(remaining.unknown)}"
    if not remaining.spans and not remaining.unknown:
        yield "no ingested span holds the key, so no model was trained on it"


def _names(spans: list[Span]) -> str:
    return ", ".join(f"version {span.version} of span {span.name}" for span in spans)
