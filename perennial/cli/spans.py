"""`perennial spans`: what landed, what was judged, and what a person decides about it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from perennial.spans.quarantine import Act

app = typer.Typer(no_args_is_help=True, help="List, explain, release and reject spans.")
Folder = Annotated[Path, typer.Argument(metavar="PROJECT", help="Project folder.")]
Name = Annotated[str, typer.Argument(metavar="SPAN", help="Name of the span, such as 2026-01-31.")]
Version = Annotated[
    int | None, typer.Option("--version", help="Version of the span; default: the newest that is quarantined.")
]


def _said(why: str) -> str:
    if not why.strip():
        raise typer.BadParameter("must say why; it is kept in the ledger")
    return why


Why = Annotated[str, typer.Option(help="Why; it is kept in the ledger.", callback=_said)]


@app.command("list")
def list_spans(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list instead of a table.")] = False,
) -> None:
    """Show every version of every span and what was said of it."""
    from perennial.cli.span_views import list_versions, show_versions
    from perennial.project import load_project

    found = list_versions(load_project(folder))
    if as_json:
        typer.echo(json.dumps([asdict(version) for version in found], indent=2))
    else:
        show_versions(found)


@app.command()
def show(folder: Folder, span: Name) -> None:
    """Explain a span: its versions, verdicts and decisions, and which models were trained on it."""
    from perennial.cli.span_views import show_span
    from perennial.project import load_project

    show_span(load_project(folder), span)


@app.command()
def release(folder: Folder, span: Name, why: Why, version: Version = None) -> None:
    """Let a quarantined span into the next window, whatever its checks said."""
    _decide(folder, "release", span, version, why)


@app.command()
def reject(folder: Folder, span: Name, why: Why, version: Version = None) -> None:
    """Keep a span version out of later windows for good."""
    _decide(folder, "reject", span, version, why)


def _decide(folder: Path, act: Act, name: str, version: int | None, why: str) -> None:
    from perennial.project import load_project
    from perennial.spans.quarantine import decide_span

    decision = decide_span(load_project(folder), act, name, version, why)
    done = {"release": "released", "reject": "rejected"}[act]
    typer.echo(f"span {name} version {decision.judged.span.version} is {done}: {decision.consequence}")
    if decision.before == "accepted":
        typer.echo("what was trained on it stays recorded: `perennial spans show` names the models")
