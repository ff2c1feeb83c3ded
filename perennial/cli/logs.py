"""`perennial logs`: what the steps of a run printed, from the root."""

from __future__ import annotations

from typing import Annotated

import typer

from perennial.cli.arguments import Folder
from perennial.errors import PerennialError

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="Name of a run, of `perennial status` or `runs`.")
]
Step = Annotated[
    str | None, typer.Argument(metavar="[STEP]", help="A step; without: all, as they began.")
]
Part = Annotated[
    str | None,
    typer.Argument(metavar="[PART]", help="A span or an instance of the step; without: all."),
]


def logs(folder: Folder, run: Run, step: Step = None, part: Part = None) -> None:
    """Print what the steps of a run printed, wherever it ran; secrets are masked.

    Each task, and each of its attempts, has its own heading. A task that goes on is shown as far as
    it has been written, which is once a minute or more often.
    """
    from perennial.project import load_project
    from perennial.results.task_log import list_logs, read_log
    from perennial.storage.files import shown_uri
    from perennial.storage.objects import open_objects

    project = load_project(folder)
    objects = open_objects(project.root)
    kept = list_logs(objects, run)
    chosen = [log for log in kept if step in (None, log.step) and part in (None, log.part)]
    if not chosen:
        tasks = dict.fromkeys(f"{log.step} {log.part}".rstrip() for log in kept)
        raise PerennialError(
            " ".join(["the log of", *filter(None, (step, part)), "run", run]),
            f"must lie in the root {shown_uri(project.root)}",
            f"logs of {', '.join(tasks)}" if tasks else "no log of this run",
            "Take a run from `perennial status` or `perennial runs`, and a step that it reached; "
            "`perennial clean` removes the logs of old runs.",
        )
    for log in chosen:
        task = f"{log.step} {log.part}".rstrip()
        typer.secho(f"== {task}, begun {log.began:%Y-%m-%d %H:%M:%S} UTC", bold=True)
        typer.echo(read_log(objects, log))
