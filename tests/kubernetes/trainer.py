"""What Kubeflow Trainer, JobSet and a node make of a TrainJob: pods, which are processes here.

The rules are those of Trainer 2.3 (pkg/runtime/framework/plugins) and of a Job with `backoffLimit: 0`:
a worker that fails ends the others and the job.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.kubernetes.crd import Refusal

_STATES = ("Complete", "Failed")


@dataclass
class Pod:
    """A worker's pod: its process, and the lines that this printed."""

    name: str
    index: int
    command: list[str]
    environment: dict[str, str]
    spec: dict[str, Any]
    job: str
    uid: str = field(default_factory=lambda: secrets.token_hex(8))
    process: subprocess.Popen[bytes] | None = None
    lines: list[str] = field(default_factory=list)
    code: int | None = None
    finished: str = ""

    def described(self) -> dict[str, Any]:
        """The pod as the API server lists it."""
        labels = {
            "jobset.sigs.k8s.io/jobset-name": self.job,
            "batch.kubernetes.io/job-completion-index": str(self.index),
        }
        state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
        phase = "Pending"
        if self.code is not None:
            phase = "Failed" if self.code else "Succeeded"
            reason = "Error" if self.code else "Completed"
            ended = {"exitCode": self.code, "reason": reason, "finishedAt": self.finished}
            state = {"terminated": ended}
        elif self.process is not None:
            state, phase = {"running": {"startedAt": now()}}, "Running"
        return {
            "metadata": {"name": self.name, "uid": self.uid, "labels": labels},
            "spec": self.spec,
            "status": {"phase": phase, "containerStatuses": [{"name": "node", "state": state}]},
        }


Node = Callable[[Pod], "subprocess.Popen[bytes] | None"]
"""Starts the process of a pod, in a session of its own; None: there is no room for it yet."""


class Trainer:
    """The controllers, over the runtimes that a namespace has.

    Args:
        runtimes: By name.
        node: Starts processes.
        lock: Of the server's state.
    """

    def __init__(self, runtimes: dict[str, Any], node: Node, lock: threading.RLock) -> None:
        self.runtimes, self.node, self.lock = runtimes, node, lock
        self.pods: list[Pod] = []

    def make_pods(self, job: dict[str, Any]) -> None:
        """Does what happens when a TrainJob was created."""
        runtime = self._runtime(job)
        trainer, name = job["spec"]["trainer"], job["metadata"]["name"]
        (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
        spec = replicated["template"]["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        patched = _patch_of(job, replicated["name"], container["name"])
        values = {each["name"]: each.get("value", "") for each in trainer["env"]}
        for index in range(trainer["numNodes"]):
            environment = {**values, "JOB_COMPLETION_INDEX": str(index)}
            command = [*trainer["command"], *trainer["args"]]
            suffix = secrets.token_hex(3)
            pod = Pod(f"{name}-node-0-{index}-{suffix}", index, command, environment, patched, name)
            self.pods.append(pod)
            pod.process = self.node(pod)
            if pod.process is not None:
                threading.Thread(target=self._watch, args=(pod, job), daemon=True).start()

    def end_pods(self, name: str) -> None:
        """Ends the processes of a job, and waits for them."""
        for pod in self.pods_of(name):
            _kill(pod)

    def remove_pods(self, name: str) -> None:
        """Does what happens when a TrainJob was deleted."""
        self.end_pods(name)
        self.pods = [pod for pod in self.pods if pod.job != name]

    def pods_of(self, name: str) -> list[Pod]:
        """The pods of a job."""
        return [pod for pod in self.pods if pod.job == name]

    def _runtime(self, job: dict[str, Any]) -> dict[str, Any]:
        reference = job["spec"]["runtimeRef"]
        runtime: dict[str, Any] | None = self.runtimes.get(reference["name"])
        if reference.get("kind") != "TrainingRuntime" or runtime is None:
            raise Refusal(
                403, f"admission webhook denied the request: TrainingRuntime {reference['name']}"
            )
        return runtime

    def _watch(self, pod: Pod, job: dict[str, Any]) -> None:
        assert pod.process is not None and pod.process.stdout is not None
        for line in pod.process.stdout:
            pod.lines.append(f"{now()} {line.decode().rstrip()}")
        code = pod.process.wait()
        with self.lock:
            pod.code = 128 - code if code < 0 else code
            pod.finished = now()
            pods = self.pods_of(pod.job)
            if pod.code and not _ended(job):
                condition(
                    job, "Failed", "FailedJobs", "jobset failed due to one or more job failures"
                )
                for other in pods:
                    _kill(other)
            elif pods and all(each.code == 0 for each in pods) and not _ended(job):
                condition(job, "Complete", "AllJobsCompleted", "jobset completed successfully")


def condition(job: dict[str, Any], kind: str, reason: str, message: str) -> None:
    """Sets a condition of a job."""
    condition = {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": now(),
    }
    job.setdefault("status", {}).setdefault("conditions", []).append(condition)
    job["metadata"]["resourceVersion"] = secrets.token_hex(4)


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _ended(job: dict[str, Any]) -> bool:
    return any(each["type"] in _STATES for each in job.get("status", {}).get("conditions", []))


def _kill(pod: Pod) -> None:
    if pod.process is not None and pod.process.poll() is None:
        os.killpg(pod.process.pid, signal.SIGKILL)


def _patch_of(job: dict[str, Any], replicated: str, container: str) -> dict[str, Any]:
    """What a TrainJob adds to the pods; it may name only what the runtime has."""
    specs = list(_patches(job, replicated))
    for spec in specs:
        for each in spec.get("containers", []):
            if each["name"] != container or each.get("env"):
                raise Refusal(422, "must not have container that doesn't exist, or envs for node")
    return specs[0] if specs else {}


def _patches(job: dict[str, Any], replicated: str) -> Iterator[dict[str, Any]]:
    for patch in job["spec"].get("runtimePatches", []):
        if "/" not in patch["manager"]:
            raise Refusal(422, "runtimePatches.manager must be a domain-prefixed path")
        for each in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            if each["name"] != replicated:
                raise Refusal(422, "must not have replicated job that doesn't exist in the runtime")
            yield each["template"]["spec"]["template"]["spec"]
