"""`perennial token`: the bearer tokens that the model server accepts."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from perennial.cli.arguments import AsJson, Folder
from schemas.purposes import Purpose

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the model server's tokens.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the client that holds the token.")]
For = Annotated[
    Purpose,
    typer.Option(
        "--for",
        help="What it opens: `predicting` predictions and metadata, `administration` metrics and "
        "pages.",
    ),
]


@app.command()
def add(folder: Folder, name: Name, purpose: For = "predicting") -> None:
    """Make a token and print it: it is kept nowhere, and never shown again.

    Servers accept it within a second. With the first token a server asks every client for one.
    """
    from perennial.production.tokens import add_token, token_file
    from perennial.project import load_project

    path = token_file(load_project(folder))
    secret = add_token(path, name, purpose)
    typer.echo(f"token {name} for {purpose} is in {path}, as its SHA-256", err=True)
    typer.echo(secret)


@app.command("list")
def list_tokens(folder: Folder, as_json: AsJson = False) -> None:
    """Show the tokens: names, purposes and since when, but nothing that opens the server."""
    from perennial.production.tokens import read_tokens, token_file
    from perennial.project import load_project

    tokens = read_tokens(token_file(load_project(folder)))
    if as_json:
        rows = [token.model_dump(mode="json", exclude={"digest"}) for token in tokens]
        typer.echo(json.dumps(rows, indent=2))
        return
    if not tokens:
        typer.echo("there are no tokens: the server listens on loopback only")
    for token in tokens:
        typer.echo(f"{token.name} for {token.purpose}, since {token.created:%Y-%m-%d %H:%M} UTC")


@app.command()
def revoke(folder: Folder, name: Name) -> None:
    """Take a token back: servers refuse it within a second."""
    from perennial.production.tokens import revoke_token, token_file
    from perennial.project import load_project

    revoke_token(token_file(load_project(folder)), name)
    typer.echo(f"token {name} opens nothing any more")
