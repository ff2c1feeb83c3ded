"""`perennial messages`: what people are told when a night ends badly."""

from __future__ import annotations

import typer

from perennial.cli.arguments import Folder
from perennial.errors import DeliveryError

app = typer.Typer(no_args_is_help=True, help="Send messages when a night ends badly.")


@app.command()
def test(folder: Folder) -> None:
    """Send a test message to each target, and tell what came back.

    Exit code 1: one did not arrive.
    """
    from perennial.production.messages import send_test, targets_of
    from perennial.project import load_project

    project = load_project(folder)
    targets = targets_of(project)
    if not targets:
        typer.echo("there are no targets: set messages.webhooks, messages.slack or messages.mail")
    failed = False
    for target in targets:
        try:
            send_test(project, target)
        except DeliveryError as error:
            failed = True
            typer.secho(f"failed     {error}", fg="red")
        else:
            typer.echo(f"delivered  {target.name}")
    if failed:
        raise typer.Exit(1)


@app.command()
def send(folder: Folder) -> None:
    """Send what is due, as every run does at its end and `perennial watch` all the time.

    Exit code 1: a message waits for another attempt, or was given up.
    """
    from perennial.production.messages import send_due_messages
    from perennial.project import load_project

    deliveries = send_due_messages(load_project(folder))
    for delivery in deliveries:
        typer.echo(str(delivery))
    if any(delivery.outcome != "delivered" for delivery in deliveries):
        raise typer.Exit(1)
