"""`perennial submit`: runs the loop once on Kubeflow Pipelines."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.arguments import Folder, JsonLine, Retrain, TriggerOption, Tune
from perennial.cli.cluster_access import ClusterProject, open_cluster
from perennial.errors import PerennialError, RunCancelledError

if TYPE_CHECKING:
    from rich.console import Console

    from perennial.cluster.runs import ClusterRun
    from perennial.project import Project
    from schemas.records import RunEnded
    from schemas.triggers import Trigger

Wait = Annotated[
    bool,
    typer.Option(
        "--wait", help="Wait for the run's end, and end with the exit code of its outcome."
    ),
]
Minutes = Annotated[
    float,
    typer.Option("--minutes", min=0, help="How long to wait; the run goes on, exit code 7."),
]


def submit(
    folder: Folder,
    wait: Wait = False,
    minutes: Minutes = 1440,
    trigger: TriggerOption = "hand",
    retrain: Retrain = False,
    tune: Tune = False,
    as_json: JsonLine = False,
) -> None:
    """Run the loop once on Kubeflow Pipelines; the pipeline is uploaded where it changed.

    The run reads the project as it is now, from its package in the root. With `--wait` it ends as
    `perennial run` does, by the outcome in the root, and with 6 where the run was cancelled.
    """
    from rich.console import Console

    from perennial.cli.run import no_result_json

    console = Console(file=sys.stderr if as_json else sys.stdout, soft_wrap=True)
    try:
        cluster = open_cluster(folder)
        run = _submit(cluster, trigger, retrain, tune, console)
        ended = _wait_for_outcome(cluster, run, minutes, console) if wait else None
    except PerennialError as error:
        if as_json:  # programs read why there is no result
            typer.echo(no_result_json(str(error)))
        raise
    if ended is not None:
        _show_outcome(cluster.project, run, ended, console, as_json)
    elif as_json:
        typer.echo(json.dumps({"run": run.id, "name": run.name}))


def _submit(
    cluster: ClusterProject, trigger: Trigger, retrain: bool, tune: bool, console: Console
) -> ClusterRun:
    """Stores the package, uploads the pipeline and submits a run; prints where that is."""
    from perennial.cluster.runs import get_experiment, submit_run
    from perennial.runner.project_run import new_run_name

    parameters = cluster.parameters(trigger, retrain, tune)
    version = cluster.upload()
    run = submit_run(
        cluster.connection,
        version,
        get_experiment(cluster.connection, cluster.experiment_name),
        f"{cluster.project.settings.name}-{trigger}-{new_run_name()}",
        parameters,
        cluster.service_account,
    )
    uploaded = "uploaded now" if version.uploaded else "uploaded before"
    console.print(f"submitted {run.name}, run {run.id}", highlight=False)
    console.print(f"pipeline version {version.name}, {uploaded}", highlight=False)
    console.print(f"[dim]{cluster.run_link(run.id)}[/]", highlight=False)
    return run


def _wait_for_outcome(
    cluster: ClusterProject, run: ClusterRun, minutes: float, console: Console
) -> RunEnded:
    """Waits for a run, and prints its states; gives how it ended."""
    from perennial.cluster.runs import wait_for_run

    def show_state(current: ClusterRun) -> None:
        console.print(f"  {current.state.lower()}", highlight=False)

    try:
        run = wait_for_run(cluster.connection, run, minutes, show_state)
    except KeyboardInterrupt:
        typer.secho(f"interrupted: run {run.id} goes on; `perennial cancel` ends it", err=True)
        raise typer.Exit(130) from None
    return read_outcome(cluster, run)


def _show_outcome(
    project: Project, run: ClusterRun, ended: RunEnded, console: Console, as_json: bool
) -> None:
    """Prints how a run ended, and ends with the exit code for it."""
    from perennial.cli.run import result_json, show_result
    from perennial.runner.project_run import RunResult, exit_code_of

    result = RunResult(ended, {}, exit_code_of(ended))
    if as_json:
        typer.echo(json.dumps({"run": run.id, **json.loads(result_json(result, project))}))
    show_result(ended, project, console)
    raise typer.Exit(result.exit_code)


def read_outcome(cluster: ClusterProject, run: ClusterRun) -> RunEnded:
    """Reads from the root how a run on the cluster ended; its own state does not tell.

    Raises:
        RunCancelledError: It was cancelled before it had an outcome.
        PerennialError: Neither the root nor the ledger has its end.
    """
    from perennial.cluster.runs import CANCELLED
    from perennial.ledger.database import public_url
    from perennial.storage.files import shown_uri

    project = cluster.project
    ended = cluster.find_end(run.id)
    if run.state == CANCELLED and (ended is None or ended.outcome == "failed"):
        remedy = "Submit it again: what it had finished is not done again."
        raise RunCancelledError(f"run {run.id}", "must come to its end", "cancelled", remedy)
    if ended is None:
        raise PerennialError(
            f"run {run.id}",
            f"must have recorded its end in the root {shown_uri(project.root)}, or in the ledger "
            f"at {public_url(project.ledger_url)}",
            f"{run.state} on the cluster, and no end in either",
            f"`perennial logs PROJECT {run.id}` shows what its steps printed, and the dashboard "
            "what became of its pods; check that the cluster's root and ledger are these "
            "(PERENNIAL_ROOT, PERENNIAL_LEDGER_URL).",
        )
    return ended
