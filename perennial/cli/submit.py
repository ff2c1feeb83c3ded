"""`perennial submit`: runs the loop once on Kubeflow Pipelines."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from perennial.cli.arguments import Folder, JsonLine, Retrain, Tune
from perennial.cli.cluster_access import ClusterProject, open_cluster
from perennial.errors import PerennialError, RunCancelledError

if TYPE_CHECKING:
    from rich.console import Console

    from perennial.cluster.runs import ClusterRun
    from perennial.project import Project
    from schemas.records import RunEnded

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
Trigger = Literal["hand", "ci", "drift"]
TriggerOption = Annotated[
    Trigger,
    typer.Option("--trigger", help="What begins the run; `perennial runs` shows it."),
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

    With `--wait` it ends as `perennial run` does, by the outcome in the ledger, and with 6 where
    the run was cancelled.
    """
    from rich.console import Console

    from perennial.cli.run import no_result_json

    console = Console(file=sys.stderr if as_json else sys.stdout, soft_wrap=True)
    parameters = {name: True for name, chosen in (("retrain", retrain), ("tune", tune)) if chosen}
    try:
        cluster = open_cluster(folder)
        run = _submit(cluster, trigger, parameters, console)
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
    cluster: ClusterProject, trigger: Trigger, parameters: dict[str, Any], console: Console
) -> ClusterRun:
    """Uploads the pipeline and submits a run of it; prints where that is."""
    from perennial.cluster.runs import get_experiment, submit_run
    from perennial.runner.project_run import new_run_name

    version = cluster.upload()
    run = submit_run(
        cluster.connection,
        version,
        get_experiment(cluster.connection, cluster.experiment_name),
        f"{cluster.project.settings.name}-{trigger}-{new_run_name()}",
        trigger,
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
    return read_outcome(cluster.project, run)


def _show_outcome(
    project: Project, run: ClusterRun, ended: RunEnded, console: Console, as_json: bool
) -> None:
    """Prints how a run ended, and ends with the exit code for it."""
    from perennial.cli.run import result_json, show_result
    from perennial.runner.project_run import EXIT_CODES, RunResult

    result = RunResult(ended, {}, EXIT_CODES[ended.outcome])
    if as_json:
        typer.echo(json.dumps({"run": run.id, **json.loads(result_json(result, project))}))
    show_result(ended, project, console)
    raise typer.Exit(result.exit_code)


def read_outcome(project: Project, run: ClusterRun) -> RunEnded:
    """Reads from the ledger how a run on the cluster ended; its own state does not tell.

    Raises:
        RunCancelledError: It was cancelled before it had an outcome.
        PerennialError: The ledger does not have its end.
    """
    from perennial.cluster.runs import CANCELLED
    from perennial.ledger.database import public_url
    from perennial.ledger.events import Ledger

    ended = Ledger(project.ledger_url).run_end(run.id)
    if run.state == CANCELLED and (ended is None or ended.outcome == "failed"):
        remedy = "Submit it again: what it had finished is not done again."
        raise RunCancelledError(f"run {run.id}", "must come to its end", "cancelled", remedy)
    if ended is None:
        raise PerennialError(
            f"run {run.id}",
            f"must have recorded its end in the ledger at {public_url(project.ledger_url)}",
            f"{run.state} on the cluster, and no end in the ledger",
            "See the logs of its steps on the dashboard; check that the pipeline's ledger.url is "
            "this one (PERENNIAL_LEDGER_URL).",
        )
    return ended
