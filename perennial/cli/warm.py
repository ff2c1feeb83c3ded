"""`perennial warm`: the processes that are kept ready with all libraries imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import typer

from perennial.errors import PerennialError

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    help="Show and end the process that is kept ready with all libraries imported.",
)


@app.command()
def status() -> None:
    """Show the warm processes of this user."""
    from perennial.runner.warm import statuses

    running = _ask(statuses)
    if not running:
        typer.echo("no warm process: the next command that needs one starts it")
    for each in running:
        if each.importing:
            state = "importing"
        elif each.idle_left is None:
            state = f"in use, {each.children} running"
        else:
            state = f"idle, ends in {each.idle_left / 60:.0f} min"
        memory = f"{each.memory / 1e6:.0f} MB"
        typer.echo(f"process {each.process} since {each.since}, {state}, {memory}, key {each.key}")


@app.command()
def stop() -> None:
    """End the warm processes of this user; tasks that they have forked go on."""
    from perennial.runner.warm import stop as stop_all

    for process in _ask(stop_all):
        typer.echo(f"ended process {process}")


def _ask(question: Callable[[], list[T]]) -> list[T]:
    from perennial.runner.warm_place import WarmUnavailableError

    try:
        return question()
    except WarmUnavailableError as error:
        where, remedy = "the folder of the warm process", "Remove it, or set XDG_RUNTIME_DIR."
        raise PerennialError(where, "must be usable", error, remedy) from error
