"""`perennial ledger`: verifies that no event was changed, and migrates the tables."""

from __future__ import annotations

from typing import Annotated

import typer

from perennial.cli.arguments import Folder

app = typer.Typer(no_args_is_help=True, help="Verify and migrate the ledger.")
Head = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER:DIGEST",
        help="An earlier head, from a report or from this command, that must still be there.",
    ),
]


@app.command()
def verify(folder: Folder, head: Head = None) -> None:
    """Check that every event is as it was appended, and print the head."""
    from perennial.ledger.events import Ledger
    from perennial.ledger.verification import parse_head, verify_ledger
    from perennial.project import load_project

    noted = parse_head(head) if head is not None else None
    if head is not None and noted is None:
        raise typer.BadParameter("must be NUMBER:DIGEST, as a report shows it", param_hint="--head")
    newest = verify_ledger(Ledger(load_project(folder).ledger_url), noted)
    if newest.number == 0:
        typer.echo("the ledger holds no events")
        return
    typer.echo(f"all events up to {newest.number} are as they were appended")
    if noted is not None:
        typer.echo(f"event {noted.number} is the one of the head that was given")
    typer.echo(f"head {newest}")


@app.command()
def migrate(folder: Folder) -> None:
    """Make the ledger's tables, or bring them to the format of this version.

    A ledger in a file of SQLite is migrated by every command that opens it.
    """
    from perennial.ledger.migration import migrate_ledger
    from perennial.ledger.table import FORMAT
    from perennial.project import load_project

    before = migrate_ledger(load_project(folder).ledger_url)
    if before == FORMAT:
        typer.echo(f"the ledger has format {FORMAT} already")
    elif before == 0:
        typer.echo(f"made the ledger's tables, in format {FORMAT}")
    else:
        typer.echo(f"migrated the ledger from format {before} to format {FORMAT}")
