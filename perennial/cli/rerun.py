"""`perennial rerun`: one step of a run once more, here, with the inputs that it had."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.arguments import Folder
from perennial.cli.logs import Run

if TYPE_CHECKING:
    from perennial.runner.rerun import MadeAgain

_NAMED = 5  # files that are named

Step = Annotated[str, typer.Argument(metavar="STEP", help="A step, such as train_model.")]
Part = Annotated[
    str | None,
    typer.Argument(metavar="PART", help="A span or an instance of the step, where it has several."),
]
Debug = Annotated[bool, typer.Option("--pdb", help="Start Python's debugger where the step fails.")]


def rerun(folder: Folder, run: Run, step: Step, part: Part = None, debug: Debug = False) -> None:
    """Run one step of a run again, here, with the inputs that it had; nothing else changes.

    What the step prints comes to the terminal, and the exit code is the step's. A new folder holds
    copies of its inputs and what it makes, and stays. The ledger, the registry and the root are as
    they were.
    """
    from perennial.cli.warm_call import call_warm
    from perennial.project import load_project
    from perennial.runner.rerun import prepare_rerun, read_outputs, read_returned, run_again

    project = load_project(folder)
    prepared = prepare_rerun(project, run, step, part)
    typer.echo(f"{prepared.task} of run {run}, in {prepared.folder}, which stays")
    began = time.monotonic()
    text = prepared.model_dump_json()
    if debug:  # in this process, which has the terminal
        run_again(text, debug=True)
    else:
        function = "perennial.runner.rerun:run_again"
        call_warm(project.settings.runner, prepared.needs, function, text)
    typer.echo(f"{prepared.task} ended after {time.monotonic() - began:.1f} s")
    if (returned := read_returned(prepared)) is not None:
        typer.echo(f"returned  {returned}")
    for made in read_outputs(project, prepared):
        for line in describe(made):
            typer.echo(line)


def describe(made: MadeAgain) -> Iterator[str]:
    """Describes one output in a line, and the files that differ in another."""
    if made.differs is None:
        compared = "nothing to compare with: the root has none of the run"
    elif not made.differs:
        compared = "as in the run"
    else:
        compared = f"{len(made.differs)} of {made.files} files differ from the run's"
    yield f"{made.name}  {made.folder}  {compared}"
    if made.differs:
        more = ", …" if len(made.differs) > _NAMED else ""
        yield f"  {', '.join(made.differs[:_NAMED])}{more}"
