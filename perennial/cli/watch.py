"""`perennial watch`: begins runs of projects when they are due."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from perennial.cli.arguments import Folder

if TYPE_CHECKING:
    from perennial.runner.watch import WatchEvent

_DEFAULT = "start"


class _WatchGroup(TyperGroup):
    """Takes `perennial watch PROJECT…` for `perennial watch start PROJECT…`."""

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_WatchGroup,
    no_args_is_help=True,
    help="Begin runs when they are due, and send messages; `perennial watch PROJECT…` starts it.",
)
Folders = Annotated[list[Path], typer.Argument(metavar="PROJECT...", help="Project folders.")]
AsJsonLines = Annotated[bool, typer.Option("--json", help="Print each line as a JSON object.")]


@app.command()
def start(folders: Folders, as_json: AsJsonLines = False) -> None:
    """Watch projects until SIGTERM or Ctrl-C: one line for each thing that happens.

    A run is due by schedule, when data has landed, or when enough of it has (`retrain` of the
    settings). Of several projects one runs at a time.
    """
    from perennial.project import load_project
    from perennial.runner.watch import watch_projects

    projects = [load_project(folder) for folder in dict.fromkeys(map(Path.resolve, folders))]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watch_projects(projects, _print_json if as_json else _print_line, stop)


@app.command()
def pause(folder: Folder) -> None:
    """Begin no more runs until they are resumed; one that goes on is left alone."""
    _change(folder, "paused")


@app.command()
def resume(folder: Folder) -> None:
    """Begin runs again; moments of the schedule that were missed are not made up for."""
    _change(folder, "on")


def _change(folder: Path, state: str) -> None:
    from perennial.project import load_project
    from perennial.runner.watch import change_watch

    project = load_project(folder)
    changed = change_watch(project, "paused" if state == "paused" else "on")
    words = "is paused" if state == "paused" else "goes on"
    was = "" if changed else ", as before"
    typer.echo(f"the watch of {project.settings.name} {words}{was}")


def _print_line(event: WatchEvent) -> None:
    """Prints the time (of this machine), the project, and what happened."""
    at = event.at.astimezone()
    typer.echo(f"{at:%Y-%m-%d %H:%M:%S}  {event.project}  {event.kind:<8}  {event.text}")


def _print_json(event: WatchEvent) -> None:
    line = {
        "at": event.at.isoformat(timespec="milliseconds"),
        "project": event.project,
        "event": event.kind,
        "text": event.text,
        "run": event.run,
        "outcome": event.outcome,
    }
    typer.echo(json.dumps(line))
