"""Runs on the cluster: submitted, listed, waited for, cancelled."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perennial.cluster.connection import Connection
from perennial.cluster.versions import PipelineVersion
from perennial.errors import AbsentError, ClusterError, ExistsError, WaitTimeoutError

# States of a run that do not change any more. Source: Kubeflow Pipelines' API, RuntimeState, 2.17.
ENDED = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
CANCELLED = "CANCELED"
_CANCELLING = frozenset({"CANCELING", CANCELLED})
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0


@dataclass(frozen=True)
class ClusterRun:
    """A run as Kubeflow Pipelines has it.

    Attributes:
        id: Its id, which is also its name in the ledger.
        name: Its name for people.
        state: Of `RuntimeState`; what a run with work came to is in the ledger.
        pipeline: Id of its pipeline; empty where it runs none that was uploaded.
        trigger: What began it; a run of the dashboard is begun by hand unless it says otherwise.
        parameters: The pipeline's arguments.
        created: When it was created.
        finished: When it ended; None while it goes on.
    """

    id: str
    name: str
    state: str
    pipeline: str
    trigger: str
    parameters: Mapping[str, Any]
    created: datetime
    finished: datetime | None


def find_experiment(connection: Connection, name: str) -> str | None:
    """Gives the id of the experiment of this name, or None where there is none.

    Raises:
        ClusterError: Kubeflow Pipelines does not answer, or refuses.
    """
    operation = connection.client.experiments.experiment_service_list_experiments
    experiments = connection.list(
        operation, "experiments", filter=equals(display_name=name), namespace=connection.namespace
    )
    return next(
        (str(each.experiment_id) for each in experiments if each.display_name == name), None
    )


def get_experiment(connection: Connection, name: str) -> str:
    """Gives the id of the experiment of this name, which is created where there is none.

    Raises:
        ClusterError: Kubeflow Pipelines does not answer, or refuses.
    """
    from kfp_server_api import V2beta1Experiment

    if existing := find_experiment(connection, name):
        return existing
    experiment = V2beta1Experiment(display_name=name, namespace=connection.namespace or None)
    operation = connection.client.experiments.experiment_service_create_experiment
    with suppress(ExistsError):  # another process was faster
        connection.call(
            operation, done=lambda: find_experiment(connection, name), experiment=experiment
        )
    return str(find_experiment(connection, name))


def submit_run(
    connection: Connection,
    version: PipelineVersion,
    experiment: str,
    name: str,
    parameters: Mapping[str, Any],
    service_account: str | None = None,
) -> ClusterRun:
    """Submits one run of a version of the pipeline.

    A call whose answer is lost is not repeated blindly: the run is looked for by its name, which no
    other run must have.

    Raises:
        ClusterError: Kubeflow Pipelines does not answer, or refuses.
    """
    import kfp_server_api as api

    run = api.V2beta1Run(
        experiment_id=experiment,
        display_name=name,
        pipeline_version_reference=api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline, pipeline_version_id=version.id
        ),
        runtime_config=api.V2beta1RuntimeConfig(parameters=dict(parameters)),
        service_account=service_account,
    )

    def find() -> Any:
        return next(_list_runs(connection, experiment, equals(display_name=name)), None)

    return _read_run(connection.call(connection.client.runs.run_service_create_run, find, run=run))


def get_run(connection: Connection, run: str, pipeline: str | None) -> ClusterRun:
    """Gives a run of a pipeline.

    Raises:
        AbsentError: There is none of this id, or it is another pipeline's.
        ClusterError: Kubeflow Pipelines does not answer, or refuses.
    """
    remedy = "Take an id from `perennial runs PROJECT`."
    try:
        answer = connection.call(connection.client.runs.run_service_get_run, run_id=run)
    except AbsentError:
        raise AbsentError(f"run {run}", "must exist", "no such run", remedy) from None
    found = _read_run(answer)
    if found.pipeline != pipeline:
        raise AbsentError(
            f"run {run}", "must be of this project", "a run of another pipeline", remedy
        )
    return found


def list_runs(connection: Connection, experiment: str, pipeline: str) -> Iterator[ClusterRun]:
    """Lists the runs of a pipeline in an experiment, the newest first.

    Raises:
        ClusterError: Kubeflow Pipelines does not answer, or refuses.
    """
    runs = map(_read_run, _list_runs(connection, experiment))
    return (run for run in runs if run.pipeline == pipeline)


def wait_for_run(
    connection: Connection,
    run: ClusterRun,
    minutes: float,
    on_change: Callable[[ClusterRun], None],
) -> ClusterRun:
    """Waits until a run has ended, in whatever way; gives it as it ended.

    kfp.Client's own waiting does not end for a run that was cancelled.

    Args:
        connection: Kubeflow Pipelines.
        run: The run.
        minutes: How long to wait.
        on_change: Is called with the run whenever its state is another.

    Raises:
        WaitTimeoutError: The run goes on.
        ClusterError: Kubeflow Pipelines does not answer for longer than the connection's patience.
    """
    until, pause = time.monotonic() + 60 * minutes, _FIRST_PAUSE
    state = ""
    while True:
        answer = connection.call(connection.client.runs.run_service_get_run, run_id=run.id)
        run = _read_run(answer)
        if run.state != state:
            state = run.state
            on_change(run)
        if run.state in ENDED:
            return run
        if time.monotonic() + pause > until:
            raise WaitTimeoutError(
                f"run {run.id}",
                f"must end within {minutes:g} minutes",
                run.state,
                "It goes on: see `perennial runs`, or end it by `perennial cancel`.",
            )
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def cancel_run(connection: Connection, run: ClusterRun) -> bool:
    """Asks for the end of a run; tells whether that was still to be asked for.

    Raises:
        ClusterError: The run has ended, Kubeflow Pipelines does not answer, or it refuses.
    """
    if run.state in _CANCELLING:
        return False
    if run.state in ENDED:
        remedy = "What it did stays done; `perennial rollback` takes a promotion back."
        raise ClusterError(f"run {run.id}", "must be under way", run.state, remedy)

    def find() -> ClusterRun | None:
        now = get_run(connection, run.id, run.pipeline)
        return now if now.state in _CANCELLING else None

    connection.call(connection.client.runs.run_service_terminate_run, find, run_id=run.id)
    return True


def equals(**fields: str) -> str:
    """Writes a filter for fields that have these values."""
    predicates = [
        {"operation": "EQUALS", "key": key, "string_value": value} for key, value in fields.items()
    ]
    return json.dumps({"predicates": predicates})


def _list_runs(
    connection: Connection, experiment: str, matching: str | None = None
) -> Iterator[Any]:
    operation = connection.client.runs.run_service_list_runs
    return connection.list(
        operation, "runs", experiment_id=experiment, sort_by="created_at desc", filter=matching
    )


def _read_run(answer: Any) -> ClusterRun:
    reference, config = answer.pipeline_version_reference, answer.runtime_config
    parameters = dict((config.parameters if config else None) or {})
    return ClusterRun(
        id=answer.run_id,
        name=answer.display_name,
        state=answer.state or "PENDING",
        pipeline=(reference.pipeline_id if reference else None) or "",
        trigger="schedule" if answer.recurring_run_id else str(parameters.get("trigger", "hand")),
        parameters=parameters,
        created=answer.created_at,
        finished=answer.finished_at if answer.state in ENDED else None,
    )
