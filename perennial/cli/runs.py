"""`perennial runs` and `perennial cancel`: runs of a project on Kubeflow Pipelines."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.cli.arguments import AsJson, Folder

if TYPE_CHECKING:
    from perennial.cluster.runs import ClusterRun
    from schemas.records import RunEnded

Last = Annotated[int, typer.Option("--last", min=1, help="How many runs, the newest first.")]
_AT_ONCE = 8  # runs whose ends are read from the root
Run = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, of `perennial runs`.")]


def runs(folder: Folder, last: Last = 10, as_json: AsJson = False) -> None:
    """Show the project's runs on Kubeflow Pipelines, and what each came to."""
    from perennial.cli.cluster_access import open_cluster
    from perennial.cli.formats import plain_console
    from perennial.cluster.runs import find_experiment, list_runs

    cluster = open_cluster(folder)
    pipeline = cluster.find_pipeline()
    experiment = find_experiment(cluster.connection, cluster.experiment_name)
    listed: list[ClusterRun] = []
    if pipeline and experiment:
        listed = list(itertools.islice(list_runs(cluster.connection, experiment, pipeline), last))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ends = list(pool.map(cluster.find_end, [run.id for run in listed]))
    described = list(zip(listed, ends, strict=True))
    if as_json:
        typer.echo(json.dumps([_as_values(*each) for each in described], indent=2))
        return
    console = plain_console()
    if not listed:
        console.print("no runs yet: `perennial submit`", highlight=False)
    for each in described:
        console.print(_describe(*each), highlight=False, markup=False)


def cancel(folder: Folder, run: Run) -> None:
    """End a run on Kubeflow Pipelines before it has done its work."""
    from perennial.cli.cluster_access import open_cluster
    from perennial.cluster.runs import cancel_run, get_run

    cluster = open_cluster(folder)
    current = get_run(cluster.connection, run, cluster.find_pipeline())
    if cancel_run(cluster.connection, current):
        typer.echo(f"run {run} is being cancelled; what it had finished is not done again")
    else:
        typer.echo(f"run {run} was cancelled already")


def _describe(run: ClusterRun, ended: RunEnded | None) -> str:
    from perennial.cli.formats import format_duration, format_time

    seconds = ((run.finished or datetime.now(UTC)) - run.created).total_seconds()
    took = f"{'took' if run.finished else 'for'} {format_duration(seconds)}"
    outcome = ended.outcome if ended else run.state.lower()
    begun = format_time(run.created)
    return f"{run.id}  {outcome:13}  {begun}  {took:15}  {run.trigger:8}  {run.name}"


def _as_values(run: ClusterRun, ended: RunEnded | None) -> dict[str, Any]:
    return {
        "run": run.id,
        "name": run.name,
        "state": run.state,
        "outcome": ended.outcome if ended else None,
        "trigger": run.trigger,
        "created": run.created.isoformat(),
        "finished": run.finished.isoformat() if run.finished else None,
    }
