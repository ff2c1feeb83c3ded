"""`perennial warm`, and the commands that are carried out in a process forked from the warm process."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from perennial.errors import PerennialError, describe_error, is_full_disk

if TYPE_CHECKING:
    from schemas.project import RunnerSettings

app = typer.Typer(no_args_is_help=True, help="Show and end the process that is kept ready with all libraries imported.")
Argument = str | int | list[str] | None
NEEDS_MODEL = ("pipeline", "data", "features", "training", "registry", "serving")
NEEDS_DATA = ("pipeline", "data", "checks", "statistics")


@app.command()
def status() -> None:
    """Show the warm processes of this user."""
    from perennial.runner.warm import statuses

    running = _usable(statuses)
    if not running:
        typer.echo("no warm process: the next command that needs one starts it")
    for each in running:
        if each.idle_left is None:
            use = f"in use, {each.children} running"
        else:
            use = f"idle, ends in {each.idle_left / 60:.0f} min"
        state = "importing" if each.importing else use
        memory = f"{each.memory / 1e6:.0f} MB"
        typer.echo(f"process {each.process} since {each.since}, {state}, {memory}, key {each.key}")


@app.command()
def stop() -> None:
    """End the warm processes of this user; tasks that they have forked go on."""
    from perennial.runner.warm import stop as stop_all

    for process in _usable(stop_all):
        typer.echo(f"ended process {process}")


def carry_out(settings: RunnerSettings, needs: tuple[str, ...], function: str, *arguments: Argument) -> None:
    """Calls MODULE:NAME in a process forked from the warm process; in this one where that is off or cannot be used.

    Leaves this process as the call left its own.
    """
    from perennial.runner.warm import CallLostError, WarmProcess, call_with, is_off
    from perennial.runner.warm_place import WarmUnavailableError

    if is_off(settings.warm) or not _writes_to_files():
        _find(function)(*arguments)
        return
    try:
        with WarmProcess(settings.warm_minutes, needs) as process:
            code = call_with(process, "perennial.cli.warm:run_body", [function, *arguments], needs)
    except WarmUnavailableError as error:
        typer.echo(f"note: the warm process cannot be used ({error}); importing anew", err=True)
        _find(function)(*arguments)
        return
    except CallLostError as error:
        where, remedy = "the process of this command", "Run the command again."
        raise PerennialError(where, "must end by itself", error, remedy) from None
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    if code:
        sys.exit(code)


def run_body(function: str, *arguments: Argument) -> int:
    """What the forked process does: the body of a command, its errors told as the command tells them."""
    try:
        return run_reporting(lambda: _find(function)(*arguments))
    except KeyboardInterrupt:
        typer.echo("Aborted!", err=True)
        return 130


def run_reporting(body: Callable[[], Any]) -> int:
    """Runs something; turns errors made for people into one message, and gives the exit code."""
    try:
        body()
    except PerennialError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        return error.exit_code
    except BrokenPipeError:
        return 1
    except Exception as error:
        if os.environ.get("PERENNIAL_TRACEBACK"):
            raise
        hint = "" if is_full_disk(error) else " (PERENNIAL_TRACEBACK=1 shows where)"
        typer.secho(f"error: {describe_error(error)}{hint}", fg="red", err=True)
        return 1
    return 0


def _find(function: str) -> Callable[..., Any]:
    module, name = function.split(":")
    body: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return body


def _usable(ask: Callable[[], list[Any]]) -> list[Any]:
    from perennial.runner.warm_place import WarmUnavailableError

    try:
        return ask()
    except WarmUnavailableError as error:
        where, remedy = "the folder of the warm process", "Remove it, or set XDG_RUNTIME_DIR."
        raise PerennialError(where, "must be usable", error, remedy) from error


def _writes_to_files() -> bool:
    """Whether what this process prints goes to its own standard output, which a forked process shares."""
    try:
        return sys.stdout.fileno() == 1 and sys.stderr.fileno() == 2
    except (io.UnsupportedOperation, OSError, AttributeError, ValueError):
        return False
