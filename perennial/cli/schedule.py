"""`perennial schedule`: when Kubeflow Pipelines runs the loop by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.cli.arguments import AsJson, Folder, Retrain, Tune
from perennial.errors import AbsentError

if TYPE_CHECKING:
    from perennial.cli.cluster_access import ClusterProject
    from perennial.cluster.schedules import Schedule

app = typer.Typer(no_args_is_help=True, help="Run the loop daily or weekly on Kubeflow Pipelines.")
CronText = Annotated[
    str,
    typer.Argument(
        metavar="CRON",
        help='Minute, hour, day of the month, month and day of the week, such as "30 3 * * *".',
    ),
]
Name = Annotated[
    str | None,
    typer.Option("--name", help="Name of the schedule; default: the project's."),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        "--time-zone", help="Time zone of CRON, such as Asia/Tokyo; default: kubeflow.time_zone."
    ),
]


@app.command("set")
def set_schedule(
    folder: Folder,
    cron: CronText,
    name: Name = None,
    time_zone: TimeZone = None,
    retrain: Retrain = False,
    tune: Tune = False,
) -> None:
    """Set when the loop runs; the schedule of this name is replaced where it differs.

    The pipeline is uploaded where it changed, and the schedule runs that version of it with the
    project as it is now, from its package in the root: set it again after each change. Of its runs
    there is one at a time, and those that were missed are not made up for. A schedule that is
    paused stays paused.
    """
    from perennial.cli.cluster_access import open_cluster
    from perennial.cluster import schedules
    from perennial.cluster.cron import convert_cron, parse_cron
    from perennial.cluster.runs import get_experiment

    cluster = open_cluster(folder)
    zone = cluster.project.settings.kubeflow.time_zone
    given = parse_cron(cron)
    converted = convert_cron(given, time_zone or zone, zone)
    parameters = cluster.parameters("schedule", retrain, tune)
    wanted = schedules.WantedSchedule(
        name=name or cluster.project.settings.name,
        experiment=get_experiment(cluster.connection, cluster.experiment_name),
        cron=converted,
        version=cluster.upload(),
        parameters=parameters,
        service_account=cluster.service_account,
    )
    change = schedules.set_schedule(cluster.connection, wanted)
    if converted != given:
        typer.echo(f"{cron} in {time_zone} is {_in_words(str(converted), zone)}")
    done = "set" if change.created else "is as it was"
    typer.echo(f"schedule {wanted.name} {done}: {_in_words(str(converted), zone)}")
    if change.deleted:
        typer.echo(f"deleted {change.deleted} that it replaces; runs that they began go on")
    if change.paused:
        typer.echo("it stays paused: `perennial schedule resume`")


@app.command("list")
def list_schedules(folder: Folder, as_json: AsJson = False) -> None:
    """Show the project's schedules."""
    from perennial.cli.cluster_access import open_cluster
    from perennial.cluster import schedules

    cluster = open_cluster(folder)
    zone = cluster.project.settings.kubeflow.time_zone
    pipeline = cluster.find_pipeline()
    listed = list(schedules.list_schedules(cluster.connection, pipeline)) if pipeline else []
    if as_json:
        typer.echo(json.dumps([_as_values(schedule) for schedule in listed], indent=2))
        return
    if not listed:
        typer.echo("no schedules yet: `perennial schedule set`")
    for schedule in listed:
        state = "runs" if schedule.enabled else "paused"
        options = "".join(
            f"  {name}" for name, chosen in schedule.parameters.items() if chosen is True
        )
        typer.echo(f"{schedule.name}  {state}  {_in_words(schedule.cron, zone)}{options}")


@app.command()
def pause(folder: Folder, name: Name = None) -> None:
    """Begin no more runs until the schedule is resumed; a run that goes on is left alone."""
    _enable(folder, name, enabled=False)


@app.command()
def resume(folder: Folder, name: Name = None) -> None:
    """Begin runs again; those that were missed are not made up for."""
    _enable(folder, name, enabled=True)


@app.command()
def delete(folder: Folder, name: Name = None) -> None:
    """Delete the schedule; a run that it began goes on."""
    from perennial.cli.cluster_access import open_cluster
    from perennial.cluster import schedules

    cluster = open_cluster(folder)
    name = name or cluster.project.settings.name
    of_name = _named(cluster, name)
    for schedule in of_name:
        schedules.delete_schedule(cluster.connection, schedule)
    typer.echo(f"schedule {name} deleted" if of_name else f"there is no schedule {name}")


def _enable(folder: Path, name: str | None, enabled: bool) -> None:
    """Resumes or pauses all schedules of a name.

    Raises:
        AbsentError: There is none.
    """
    from perennial.cli.cluster_access import open_cluster
    from perennial.cluster import schedules

    cluster = open_cluster(folder)
    name = name or cluster.project.settings.name
    of_name = _named(cluster, name)
    if not of_name:
        remedy = "Set it by `perennial schedule set`; `perennial schedule list` shows all."
        raise AbsentError(f"schedule {name}", "must exist", "no such schedule", remedy)
    for schedule in of_name:
        if schedule.enabled != enabled:
            schedules.enable_schedule(cluster.connection, schedule, enabled)
    typer.echo(f"schedule {name} {'runs' if enabled else 'is paused'}")


def _named(cluster: ClusterProject, name: str) -> list[Schedule]:
    from perennial.cluster import schedules

    pipeline = cluster.find_pipeline()
    return schedules.named(cluster.connection, pipeline, name) if pipeline else []


def _in_words(cron: str, zone: str) -> str:
    from perennial.cluster.cron import describe_cron

    return f"{describe_cron(cron)} {zone}" if cron else "at an interval"


def _as_values(schedule: Schedule) -> dict[str, Any]:
    return {
        "schedule": schedule.id,
        "name": schedule.name,
        "cron": schedule.cron,
        "enabled": schedule.enabled,
        "parameters": dict(schedule.parameters),
        "version": schedule.version,
        "created": schedule.created.isoformat(),
    }
