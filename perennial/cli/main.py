"""The command line: one module for each command.

`perennial --help` imports all of them, so they import what is heavy inside their functions.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from perennial.cli import (
    ab,
    labels,
    ledger,
    messages,
    schedule,
    schema,
    spans,
    token,
    warm,
    watch,
)
from perennial.cli.clean import clean
from perennial.cli.compare import compare
from perennial.cli.compile import compile
from perennial.cli.explain import explain
from perennial.cli.forget import forget
from perennial.cli.history import history
from perennial.cli.init import init
from perennial.cli.live import live
from perennial.cli.logs import logs
from perennial.cli.package import package
from perennial.cli.predict import predict
from perennial.cli.promote import promote
from perennial.cli.rerun import rerun
from perennial.cli.rollback import rollback
from perennial.cli.run import run
from perennial.cli.runs import cancel, runs
from perennial.cli.serve import serve
from perennial.cli.status import status
from perennial.cli.submit import submit
from perennial.cli.tensorboard import tensorboard
from perennial.cli.validate import validate
from perennial.cli.warm_call import report_errors
from perennial.tfx_compat import prepare_process

COMMANDS = (
    *(init, validate, run, package, compile, status, serve, predict, tensorboard),
    *(submit, runs, logs, rerun, cancel),
    *(history, explain, compare, promote, rollback, live, forget, clean),
)

Root = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="Folder or URL where results lie, in place of `root` of the settings.",
        show_default=False,
    ),
]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Continuous training: from landed labels to a served model.",
)


@app.callback()
def choose_root(context: typer.Context, root: Root = None) -> None:
    """Sets what all commands share."""
    if root is not None:
        context.with_resource(_variable("PERENNIAL_ROOT", root))


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Sets an environment variable, for this process and those that it starts."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


for command in COMMANDS:
    app.command()(command)
app.add_typer(ab.app, name="ab")
app.add_typer(schedule.app, name="schedule")
app.add_typer(schema.app, name="schema")
app.add_typer(spans.app, name="spans")
app.add_typer(labels.app, name="labels")
app.add_typer(ledger.app, name="ledger")
app.add_typer(token.app, name="token")
app.add_typer(warm.app, name="warm")
app.add_typer(watch.app, name="watch")
app.add_typer(messages.app, name="messages")


def main() -> None:
    """Runs a command; errors made for people end as one message and their exit code."""
    prepare_process()
    sys.exit(report_errors(app))


if __name__ == "__main__":
    main()
