"""Workers that are pods of a cluster: a TrainJob, created or adopted, followed and cancelled.

The job has the name of the training, so a step that is repeated finds the job that its killed
predecessor created. What the workers make lies in the root until the training is published.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from components.train_model.job import Job
from components.train_model.train_job import API, FOLLOWER, NODE, TrainJob, count_workers
from components.train_model.workers import LINES
from perennial.cluster.kubernetes_api import KubernetesApi, Object
from perennial.errors import (
    AbsentError,
    ClusterError,
    ExistsError,
    PerennialError,
    TrainingError,
)
from perennial.ledger.task_lease import RUN_VARIABLE
from perennial.results.unfinished import SavedFolder
from schemas.records import Training

if TYPE_CHECKING:
    from components.train_model.step import References

_POLL_SECONDS = 2.0
_LAST_LINES_SECONDS = 10.0
# Of the half minute that a pod has to end.
_CANCEL_PATIENCE = 15.0
_JOB_SET = "jobset.sigs.k8s.io/jobset-name"
_INDEX = "batch.kubernetes.io/job-completion-index"
_FIRST_SIGNAL = 128  # exit codes of containers above it are signals
# Reasons of a job that fails again in the same way. Source: Trainer 2.3, trainjob_types.go.
_DEADLINE, _UNSUPPORTED = "DeadlineExceeded", "TrainingRuntimeNotSupported"
_ROOT = "PERENNIAL_ROOT"
Phase = Literal["going on", "complete", "failed"]


def train_on_cluster(job: Job, references: References, api: KubernetesApi) -> Training:
    """Trains on the pods of a TrainJob.

    A job that fails is started again up to `train.restarts` times, and goes on from the newest
    checkpoint. A step that is cancelled deletes it; one that is killed leaves it to the next
    attempt, and at the latest to `activeDeadlineSeconds`.

    Raises:
        PerennialError: What a worker says is wrong with the project or its training.
        TrainingError: Workers failed more often than `train.restarts`, with the log's last lines
            of the one that failed; or the training took longer than `kubeflow.task_minutes`.
        ClusterError: The API server refuses, or does not answer.
    """
    began, restarts = time.monotonic(), 0
    work, count = job.open_work(), count_workers(job.settings.train)
    output = SavedFolder(work.parts, job.output)
    uri = work.describe(job.describe(references.features, references.weights, None))
    followed = _FollowedJob(api, _make_train_job(job, uri))
    with _interrupted_by_sigterm(), followed.cancelled_with_step():
        while not _has_output(job, output):
            work.clear_errors(count)
            failure = followed.follow()
            if _has_output(job, output):
                break  # how the other workers then part is of no matter
            if (error := work.read_error(count)) is not None:
                followed.delete()
                raise error
            if failure is None or failure.final or restarts == job.settings.train.restarts:
                raise _gave_up(job, followed.name, failure, restarts)
            restarts += 1
            print(f"{failure.what}; starting again from the newest checkpoint", flush=True)
            followed.delete()
        followed.delete()
    seconds = time.monotonic() - began
    return Training.read(job.output).model_copy(update={"restarts": restarts, "seconds": seconds})


@dataclass(frozen=True)
class _Failure:
    """A TrainJob that failed: what happened, the last lines, and whether it would again."""

    what: str
    lines: tuple[str, ...] = ()
    final: bool = False
    deadline: bool = False


@dataclass
class _WorkerLog:
    """The log of a worker's pod, as the thread that prints it reads it."""

    number: str
    thread: threading.Thread | None = None
    last: str = ""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))


class _FollowedJob:
    """The TrainJob of a training, of which one step at a time is the follower."""

    def __init__(self, api: KubernetesApi, train_job: TrainJob) -> None:
        self._api, self._train_job = api, train_job
        self.name, namespace = train_job.name, api.account.namespace
        self._jobs = f"{API}/namespaces/{namespace}/trainjobs"
        self._path = f"{self._jobs}/{self.name}"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._uid = ""
        self._logs: dict[str, _WorkerLog] = {}
        self._notes: dict[str, str] = {}

    def follow(self) -> _Failure | None:
        """Creates or adopts the job, and prints what its workers print until it ends.

        Gives why it failed; None: it did not.
        """
        current = self._obtain()
        while (phase := _phase(current)) == "going on":
            self._read_pods()
            time.sleep(_POLL_SECONDS)
            current = self._read()
        pods = self._read_pods()
        for log in self._logs.values():
            if log.thread is not None:
                log.thread.join(_LAST_LINES_SECONDS)
        return self._explain(current, pods) if phase == "failed" else None

    def delete(self) -> None:
        """Deletes the job, and waits until its pods are gone."""
        self._api.delete(self._path, self._uid)
        while (current := self._api.get(self._path)) and current["metadata"]["uid"] == self._uid:
            time.sleep(_POLL_SECONDS)

    @contextmanager
    def cancelled_with_step(self) -> Iterator[None]:
        """Deletes the job where the block is interrupted, unless another step has adopted it."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            self._cancel()
            raise

    def _cancel(self) -> None:
        api = KubernetesApi(self._api.account, patience=_CANCEL_PATIENCE)
        until = time.monotonic() + _CANCEL_PATIENCE
        while time.monotonic() < until:
            try:
                current = api.get(self._path)
                if current is None or not self._is_followed(current):
                    return
                metadata = current["metadata"]
                api.delete(self._path, metadata["uid"], metadata["resourceVersion"])
            except ExistsError:  # it has changed meanwhile
                continue
            except ClusterError as error:
                print(f"TrainJob {self.name} was not deleted: {error}", file=sys.stderr)
                return
            print(f"TrainJob {self.name} was deleted, as the step was cancelled", flush=True)
            return

    def _obtain(self) -> Object:
        """Gives the job, with this step as its follower."""
        while True:
            current = self._api.get(self._path)
            if current is None:
                with suppress(ExistsError):  # an answer was lost, or another step was faster
                    current = self._api.create(self._jobs, self._train_job.manifest())
                    print(f"TrainJob {self.name} was created", flush=True)
            elif _phase(current) != "going on" or current["metadata"].get("deletionTimestamp"):
                self._uid = current["metadata"]["uid"]
                self.delete()
                continue
            elif not self._is_followed(current):
                change = {"metadata": {"annotations": {FOLLOWER: self._train_job.follower}}}
                with suppress(AbsentError):
                    current = self._api.merge(self._path, change)
                    print(f"TrainJob {self.name} goes on, and was adopted", flush=True)
            if current is not None and self._is_followed(current):
                self._uid = current["metadata"]["uid"]
                return current

    def _read(self) -> Object:
        current = self._api.get(self._path)
        where = f"TrainJob {self.name}"
        if current is None or current["metadata"]["uid"] != self._uid:
            raise TrainingError(
                where,
                "must stay until it ends",
                "it was deleted",
                "Run again: training goes on from the newest checkpoint.",
            )
        if not self._is_followed(current):
            raise TrainingError(
                where,
                "must be followed by this step",
                "another one has adopted it",
                "Look at that one: it trains the same.",
            )
        return current

    def _is_followed(self, current: Object) -> bool:
        annotations = current["metadata"].get("annotations", {})
        return bool(annotations.get(FOLLOWER) == self._train_job.follower)

    def _read_pods(self) -> list[Object]:
        """Lists the pods; starts to print the logs of those that run or have run."""
        listed = self._api.get(self._pods, labelSelector=f"{_JOB_SET}={self.name}")
        pods: list[Object] = listed["items"] if listed is not None else []
        for pod in pods:
            uid, number = pod["metadata"]["uid"], _number(pod)
            state = _state(pod)
            if {"running", "terminated"} & state.keys() and uid not in self._logs:
                log = self._logs[uid] = _WorkerLog(number)
                path = f"{self._pods}/{pod['metadata']['name']}/log"
                log.thread = threading.Thread(target=self._print, args=(log, path), daemon=True)
                log.thread.start()
            elif (note := _waits_for(pod)) and self._notes.get(uid) != note:
                self._notes[uid] = note
                print(f"[worker {number}] waits: {note}", flush=True)
        return pods

    def _print(self, log: _WorkerLog, path: str) -> None:
        """Prints a log until it ends; from where it was, where the connection is lost."""
        while True:
            query = {"container": NODE, "follow": "true", "timestamps": "true"}
            if log.last:
                query["sinceTime"] = f"{log.last.partition('.')[0]}Z"
            try:
                for line in self._api.follow_lines(path, **query):
                    stamp, _, text = line.partition(" ")
                    stamp = stamp.removesuffix("Z")
                    if stamp > log.last:
                        log.last = stamp
                        log.lines.append(text)
                        print(f"[worker {log.number}] {text}", flush=True)
                return
            except AbsentError:
                return
            except (PerennialError, OSError):
                time.sleep(_POLL_SECONDS)

    def _explain(self, current: Object, pods: list[Object]) -> _Failure:
        condition = _condition(current, "Failed")
        reason, message = condition.get("reason", ""), condition.get("message", "")
        if reason in (_DEADLINE, _UNSUPPORTED):
            return _Failure(f"{reason}: {message}", (), True, reason == _DEADLINE)
        failed = [pod for pod in pods if _has_failed(pod)]
        if not failed:
            return _Failure(f"{reason}: {message}")
        pod = min(failed, key=_order)
        log = self._logs.get(pod["metadata"]["uid"])
        what = f"worker {_number(pod)} (pod {pod['metadata']['name']}) {_end(pod)}"
        return _Failure(what, tuple(log.lines) if log is not None else ())


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Has SIGTERM end the block as an interruption does."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not stop the cancelling
        raise SystemExit(_FIRST_SIGNAL + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _make_train_job(job: Job, uri: str) -> TrainJob:
    kubeflow = job.settings.kubeflow
    referenced = {
        variable
        for reference in (*kubeflow.secrets, *kubeflow.config_maps)
        for variable in reference.variables.values()
    }
    root = os.environ.get(_ROOT)
    return TrainJob(
        project=job.settings.name,
        instance=job.instance.name,
        key=job.key,
        description=uri,
        workers=count_workers(job.settings.train),
        kubeflow=kubeflow,
        variables={_ROOT: root} if root and _ROOT not in referenced else {},
        follower=f"{os.environ.get(RUN_VARIABLE, 'step')}.{socket.gethostname()}."
        f"{secrets.token_hex(4)}",
    )


def _has_output(job: Job, output: SavedFolder) -> bool:
    """Fetches what the workers made, where it is whole."""
    if not (job.output / Training.FILE).is_file():
        output.restore()
    return (job.output / Training.FILE).is_file()


def _gave_up(job: Job, name: str, failure: _Failure | None, restarts: int) -> TrainingError:
    where = f"training of {job.instance.name} (TrainJob {name})"
    if failure is None:
        return TrainingError(
            where, "must leave a model in the root", "it ended without one", "Run again."
        )
    if failure.deadline:
        return TrainingError(
            where,
            f"must end within kubeflow.task_minutes ({job.settings.kubeflow.task_minutes})",
            failure.what,
            "Raise it, or train on more workers; the next run goes on from the newest checkpoint.",
        )
    lines = "".join(f"\n{line}" for line in failure.lines)
    received = f"{failure.what}, after {restarts} restarts{':' if lines else ''}{lines}\n"
    remedy = "Run again when the reason is gone: training goes on from the newest checkpoint."
    return TrainingError(where, "must run on all its workers", received, remedy)


def _condition(current: Object, kind: str) -> Object:
    """Gives a condition that holds; an empty one where it does not."""
    conditions: list[Object] = current.get("status", {}).get("conditions", [])
    true = (each for each in conditions if each["type"] == kind and each["status"] == "True")
    return next(true, {})


def _phase(current: Object) -> Phase:
    if _condition(current, "Complete"):
        return "complete"
    return "failed" if _condition(current, "Failed") else "going on"


def _number(pod: Object) -> str:
    metadata = pod["metadata"]
    value = metadata.get("labels", {}).get(_INDEX, metadata.get("annotations", {}).get(_INDEX, "?"))
    return str(value)


def _state(pod: Object) -> dict[str, Any]:
    """Gives the state of the worker's container, by its kind."""
    for status in pod.get("status", {}).get("containerStatuses", []):
        if status["name"] == NODE:
            state: dict[str, Any] = status.get("state", {})
            return state
    return {}


def _waits_for(pod: Object) -> str:
    """Says why a pod does not run yet, where Kubernetes does."""
    waiting = _state(pod).get("waiting", {})
    if waiting and waiting.get("reason") != "ContainerCreating":
        return ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message", ""))
    return ""


def _has_failed(pod: Object) -> bool:
    ended = _state(pod).get("terminated")
    return pod.get("status", {}).get("phase") == "Failed" or bool(ended and ended["exitCode"])


def _order(pod: Object) -> tuple[bool, str]:
    """Orders pods that failed: one that was killed takes the others with it."""
    ended = _state(pod).get("terminated", {})
    killed = not ended or ended["exitCode"] > _FIRST_SIGNAL
    return not killed, str(ended.get("finishedAt", ""))


def _end(pod: Object) -> str:
    status = pod.get("status", {})
    ended = _state(pod).get("terminated")
    if ended is None:
        return f"failed ({status.get('reason', 'no reason')}: {status.get('message', '')})"
    reason = ended.get("reason", "")
    return f"ended with code {ended['exitCode']}" + (f" ({reason})" if reason else "")
