"""`perennial spans`: what landed, how it was judged, and what a person decides about it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.arguments import Folder, Why

if TYPE_CHECKING:
    from perennial.spans.quarantine import Act

app = typer.Typer(no_args_is_help=True, help="List, explain, release, judge and reject spans.")
Name = Annotated[str, typer.Argument(metavar="SPAN", help="Name of the span, such as 2026-01-31.")]
Version = Annotated[
    int | None,
    typer.Option(
        "--version",
        help="Version of the span; default: the newest that is quarantined.",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON list instead of a table."),
]


@app.command("list")
def list_spans(
    folder: Folder,
    as_json: AsJson = False,
) -> None:
    """Show every version of every span and how it was judged."""
    from perennial.cli.span_views import list_versions, show_versions
    from perennial.project import load_project

    versions = list_versions(load_project(folder))
    if as_json:
        typer.echo(json.dumps([asdict(version) for version in versions], indent=2))
    else:
        show_versions(versions)


@app.command()
def show(folder: Folder, span: Name) -> None:
    """Explain a span: its versions, verdicts and decisions, and which models were trained on it.

    What waits in quarantine is decided by `judge` once the rules, the schema or the settings were
    corrected, by `release` where the data is right as it is, and by `reject` where it is not.
    """
    from perennial.cli.span_views import show_span
    from perennial.project import load_project

    show_span(load_project(folder), span)


@app.command()
def release(folder: Folder, span: Name, why: Why, version: Version = None) -> None:
    """Let a quarantined span into the next window, whatever its checks said.

    After a correction of the rules, the schema or the settings, `judge` has it checked by them.
    """
    _decide(folder, "release", span, version, why)


@app.command()
def judge(folder: Folder, span: Name, why: Why, version: Version = None) -> None:
    """Have the next run judge a quarantined span again, by the rules and the schema as they are.

    `release` lets it in unchecked, and `reject` keeps it out.
    """
    _decide(folder, "judge", span, version, why)


@app.command()
def reject(folder: Folder, span: Name, why: Why, version: Version = None) -> None:
    """Keep a span version out of later windows for good.

    One in quarantine can be checked again with `judge`, or let in with `release`.
    """
    _decide(folder, "reject", span, version, why)


def _decide(folder: Path, act: Act, name: str, version: int | None, why: str) -> None:
    from perennial.project import load_project
    from perennial.spans.quarantine import decide_span

    decision = decide_span(load_project(folder), act, name, version, why)
    state = {"release": "released", "judge": "reopened", "reject": "rejected"}[act]
    number = decision.judged.span.version
    typer.echo(f"span {name} version {number} is {state}: {decision.consequence}")
    if decision.before == "accepted":
        typer.echo("what was trained on it stays recorded: `perennial spans show` names the models")
