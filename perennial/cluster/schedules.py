"""Schedules: recurring runs of a project's pipeline, each set as often as one likes.

Kubeflow Pipelines cannot change a recurring run, and takes several of one name. So a schedule is
set by listing, comparing, creating the new one and only then deleting the old: whatever is cut
short in between is made good when it is set again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perennial.cluster.connection import Connection
from perennial.cluster.cron import Cron
from perennial.cluster.runs import equals
from perennial.cluster.versions import PipelineVersion
from perennial.errors import AbsentError

_AT_ONCE = 1
_ENABLED = "ENABLED"
_KEEP_RUNS = "ORPHAN"  # the run that a schedule began is not ended with it


@dataclass(frozen=True)
class WantedSchedule:
    """A schedule as it is to be.

    `experiment` is the id of the experiment of its runs, `cron` is in the installation's time zone;
    `service_account` None: the installation's own.
    """

    name: str
    experiment: str
    cron: Cron
    version: PipelineVersion
    parameters: Mapping[str, Any]
    service_account: str | None = None


@dataclass(frozen=True)
class Schedule:
    """A recurring run as Kubeflow Pipelines has it.

    Attributes:
        id: Its id.
        name: Its name for people; several may have the same.
        experiment: Id of the experiment of its runs.
        cron: Six fields, in the installation's time zone; empty where it has an interval.
        version: Id of the pipeline's version; empty: whichever is the newest.
        parameters: The pipeline's arguments.
        enabled: Whether it begins runs.
        at_once: How many of its runs may go on at the same time.
        catches_up: Whether runs that were missed are made up for, one by one.
        service_account: Of its runs.
        created: When it was created.
    """

    id: str
    name: str
    experiment: str
    cron: str
    version: str
    parameters: Mapping[str, Any]
    enabled: bool
    at_once: int
    catches_up: bool
    service_account: str
    created: datetime

    def is_same(self, other: WantedSchedule) -> bool:
        """Tells whether the schedule begins just the runs that are wanted."""
        account = other.service_account
        return (
            (self.cron, self.version) == (str(other.cron), other.version.id)
            and self.experiment == other.experiment
            and self.parameters == other.parameters
            and (self.at_once, self.catches_up) == (_AT_ONCE, False)
            and account in (None, self.service_account)
        )


@dataclass(frozen=True)
class ScheduleChange:
    """Result of setting a schedule.

    Attributes:
        created: Whether a recurring run was created; otherwise there was one that is the same.
        deleted: How many were deleted.
        paused: Whether it begins no runs, as the one before it began none.
    """

    created: bool
    deleted: int
    paused: bool


def list_schedules(connection: Connection, pipeline: str) -> Iterator[Schedule]:
    """Lists the schedules of a pipeline, the newest first, whatever experiment their runs are in.

    Raises:
        ClusterError: Kubeflow Pipelines does not answer, or refuses.
    """
    return (
        _read_schedule(answer)
        for answer in _list_answers(connection)
        if answer.pipeline_version_reference
        and answer.pipeline_version_reference.pipeline_id == pipeline
    )


def set_schedule(connection: Connection, wanted: WantedSchedule) -> ScheduleChange:
    """Sets the schedule of a name, whether there was none, another one, or several.

    One that was paused stays paused.

    Raises:
        ClusterError: Kubeflow Pipelines does not answer, or refuses.
    """
    before = named(connection, wanted.version.pipeline, wanted.name)
    paused = bool(before) and not any(schedule.enabled for schedule in before)
    same = next((each for each in before if each.is_same(wanted) and each.enabled != paused), None)
    if same is None:
        _create_schedule(connection, wanted, enabled=not paused)
    old = [schedule for schedule in before if schedule is not same]
    for schedule in old:
        delete_schedule(connection, schedule)
    return ScheduleChange(created=same is None, deleted=len(old), paused=paused)


def named(connection: Connection, pipeline: str, name: str) -> list[Schedule]:
    """Lists the schedules of one name, of which there is one where nothing was cut short.

    Raises:
        ClusterError: Kubeflow Pipelines does not answer, or refuses.
    """
    return [each for each in list_schedules(connection, pipeline) if each.name == name]


def delete_schedule(connection: Connection, schedule: Schedule) -> None:
    """Deletes a schedule, whose runs go on; one that is gone already counts as deleted.

    Raises:
        ClusterError: Kubeflow Pipelines does not answer, or refuses.
    """
    operation = connection.client.recurring_runs.recurring_run_service_delete_recurring_run
    with suppress(AbsentError):
        connection.call(operation, recurring_run_id=schedule.id, propagation_policy=_KEEP_RUNS)


def enable_schedule(connection: Connection, schedule: Schedule, enabled: bool) -> None:
    """Resumes or pauses a schedule.

    Raises:
        ClusterError: Kubeflow Pipelines does not answer, or refuses.
    """
    service = connection.client.recurring_runs
    operation = (
        service.recurring_run_service_enable_recurring_run
        if enabled
        else service.recurring_run_service_disable_recurring_run
    )
    connection.call(operation, recurring_run_id=schedule.id)


def _create_schedule(connection: Connection, wanted: WantedSchedule, enabled: bool) -> None:
    import kfp_server_api as api

    known = {answer.recurring_run_id for answer in _list_answers(connection)}
    schedule = api.V2beta1RecurringRun(
        display_name=wanted.name,
        experiment_id=wanted.experiment,
        pipeline_version_reference=api.V2beta1PipelineVersionReference(
            pipeline_id=wanted.version.pipeline, pipeline_version_id=wanted.version.id
        ),
        runtime_config=api.V2beta1RuntimeConfig(parameters=dict(wanted.parameters)),
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=str(wanted.cron))),
        mode=api.RecurringRunMode.ENABLE if enabled else api.RecurringRunMode.DISABLE,
        max_concurrency=_AT_ONCE,
        no_catchup=True,
        service_account=wanted.service_account,
    )

    def find() -> Any:
        answers = _list_answers(connection, equals(display_name=wanted.name))
        return next((each for each in answers if each.recurring_run_id not in known), None)

    operation = connection.client.recurring_runs.recurring_run_service_create_recurring_run
    connection.call(operation, done=find, recurring_run=schedule)


def _list_answers(connection: Connection, matching: str | None = None) -> Iterator[Any]:
    operation = connection.client.recurring_runs.recurring_run_service_list_recurring_runs
    return connection.list(
        operation,
        "recurring_runs",
        namespace=connection.namespace,
        sort_by="created_at desc",
        filter=matching,
    )


def _read_schedule(answer: Any) -> Schedule:
    cron = answer.trigger.cron_schedule if answer.trigger else None
    config = answer.runtime_config
    return Schedule(
        id=answer.recurring_run_id,
        name=answer.display_name,
        experiment=answer.experiment_id,
        cron=(cron.cron if cron else None) or "",
        version=answer.pipeline_version_reference.pipeline_version_id or "",
        parameters=dict((config.parameters if config else None) or {}),
        enabled=answer.status == _ENABLED,
        at_once=int(answer.max_concurrency or 0),
        catches_up=not answer.no_catchup,
        service_account=answer.service_account or "",
        created=answer.created_at,
    )
