"""`perennial tensorboard`: the installed TensorBoard over what runs logged while they trained."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.warm_call import call_warm
from perennial.errors import PerennialError

if TYPE_CHECKING:
    from perennial.project import Project

# Where the end of a run leaves the logs of its instances, beside the report.
LOGS = "tensorboard"
_EXAMPLES = 3  # runs that a message names
_LOOPBACK = "127.0.0.1"

OptionalFolder = Annotated[
    Path,
    typer.Argument(metavar="[PROJECT]", help="Project folder.", show_default=False),
]
Run = Annotated[str | None, typer.Option("--run", help="Only this run; default: all runs.")]
Port = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="HTTP port, 0: any that is free; default: 6006 or the next.",
    ),
]


def tensorboard(
    folder: OptionalFolder = Path(),
    run: Run = None,
    port: Port = None,
) -> None:
    """Show the curves of training in TensorBoard, until Ctrl-C."""
    from perennial.project import load_project

    project = load_project(folder)
    fetch_logs(project, run)
    find_logs(project, run)
    function = "perennial.cli.tensorboard:show_curves"
    call_warm(project.settings.runner, ("report",), function, str(folder), run, port)


def show_curves(folder: str, run: str | None, port: int | None) -> None:
    """Does the work of `perennial tensorboard`, in a process that has the libraries imported."""
    from perennial.project import load_project
    from perennial.runner.quiet import libraries_log_to

    project = load_project(Path(folder))
    logs = find_logs(project, run)
    with libraries_log_to(project.state / "tensorboard.log"):
        address = start_tensorboard(logs, port)
    typer.echo(f"TensorBoard on {address} (Ctrl-C ends it)")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        typer.echo("\nTensorBoard ended")


def fetch_logs(project: Project, run: str | None) -> None:
    """Copies the logs of one run, or of all, from a root on a server into the state folder.

    They are not changed once a run has ended, so those that lie here are not fetched again.

    Raises:
        StoreError: The root cannot be read.
    """
    from perennial.cli.formats import format_bytes
    from perennial.results.run_records import RUNS
    from perennial.results.store import Results
    from perennial.storage.files import is_url
    from perennial.storage.objects import FolderObjects

    if not is_url(project.root):
        return
    results, here = Results(project.root, project.state), FolderObjects(project.state)
    listed = results.objects.list(RUNS if run is None else f"{RUNS}/{run}/{LOGS}")
    lacking = [
        each
        for each in listed
        if each.name.split("/")[2] == LOGS and here.size(each.name) != each.size
    ]

    def fetch(name: str) -> None:
        here.delete(name)  # one that was cut off
        here.write_file_once(name, lambda file: results.objects.fetch(name, file))

    results.in_parallel(fetch, [each.name for each in lacking])
    if lacking:
        size = format_bytes(sum(each.size for each in lacking))
        files = f"{len(lacking)} file{'s' * (len(lacking) != 1)}, {size}"
        typer.echo(f"fetched {files}, from {results.objects.location}")


def find_logs(project: Project, run: str | None) -> Path:
    """Finds the folder to show: that of one run, or the one that holds all runs.

    Raises:
        PerennialError: There are no logs, or the run has none.
    """
    import difflib

    runs = project.state / "runs"
    logged = sorted(path.parent.name for path in runs.glob(f"*/{LOGS}") if path.is_dir())
    if not logged:
        where = f"project {project.settings.name}"
        expected = "must have a run that trained to its end"
        remedy = "`perennial run` writes logs while it trains, and shows them when it has ended."
        raise PerennialError(where, expected, "no logs for TensorBoard", remedy)
    if run is None:
        return runs
    if run not in logged:
        expected = f"must be a run with logs, such as {', '.join(logged[-_EXAMPLES:])}"
        near = difflib.get_close_matches(run, logged, 1)
        remedy = "`perennial status` lists the runs; leave --run out for all."
        if near:
            remedy = f"Did you mean `{near[0]}`?"
        raise PerennialError("--run", expected, run, remedy)
    return runs / run / LOGS


def start_tensorboard(logs: Path, port: int | None) -> str:
    """Starts TensorBoard on loopback in threads of this process; gives its address.

    Raises:
        PerennialError: It cannot listen on that port.
    """
    from tensorboard import default, program

    board = program.TensorBoard(plugins=default.get_plugins())
    board.configure(logdir=str(logs), host=_LOOPBACK, port=port)
    try:
        return str(board.launch())
    except program.TensorBoardServerException as error:
        expected, remedy = (
            "must be free on this machine",
            "Name another with --port; --port 0 takes any that is free.",
        )
        raise PerennialError("--port", expected, port or error, remedy) from error
