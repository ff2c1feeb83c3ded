"""Calls from commands to the warm process, and the messages and exit codes of their errors."""

from __future__ import annotations

import io
import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from perennial.errors import PerennialError, describe_error, is_full_disk

if TYPE_CHECKING:
    from schemas.project import RunnerSettings

Argument = str | int | list[str] | None
NEEDS_MODEL = ("pipeline", "data", "features", "training", "registry", "serving")
NEEDS_DATA = ("pipeline", "data", "checks", "statistics")


def call_warm(
    settings: RunnerSettings,
    needs: tuple[str, ...],
    function: str,
    *arguments: Argument,
) -> None:
    """Calls a function in a process forked from the warm process; ends this process as it ended.

    Where the warm process is off or cannot be used, the function is called in this process.

    Args:
        settings: Whether there is a warm process, and how long it stays.
        needs: Groups of imports that the function needs, of `perennial.runner.warm_imports`.
        function: MODULE:NAME.
        arguments: JSON values.
    """
    from perennial.runner.warm import CallLostError, WarmProcess, call_with, is_off
    from perennial.runner.warm_place import WarmUnavailableError

    if is_off(settings.warm) or not _prints_to_own_output():
        pkgutil.resolve_name(function)(*arguments)
        return
    try:
        with WarmProcess(settings.warm_minutes, needs) as process:
            reporting = "perennial.cli.warm_call:call_reporting"
            code = call_with(process, reporting, [function, *arguments], needs)
    except WarmUnavailableError as error:
        typer.echo(f"note: the warm process cannot be used ({error}); importing anew", err=True)
        pkgutil.resolve_name(function)(*arguments)
        return
    except CallLostError as error:
        where, remedy = "the process of this command", "Run the command again."
        raise PerennialError(where, "must end by itself", error, remedy) from None
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    if code:
        sys.exit(code)


def call_reporting(function: str, *arguments: Argument) -> int:
    """Calls a function in the forked process; prints errors as the command itself would."""
    try:
        return report_errors(lambda: pkgutil.resolve_name(function)(*arguments))
    except KeyboardInterrupt:
        typer.echo("Aborted!", err=True)
        return 130


def report_errors(body: Callable[[], Any]) -> int:
    """Calls `body`; prints an error as one message, and gives the exit code."""
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


def _prints_to_own_output() -> bool:
    """Tells whether `sys.stdout` is this process's standard output, which a fork shares."""
    try:
        return sys.stdout.fileno() == 1 and sys.stderr.fileno() == 2
    except (io.UnsupportedOperation, OSError, AttributeError, ValueError):
        return False
