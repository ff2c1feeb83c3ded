"""The TrainJob of Kubeflow Trainer v2 that a distributed training is on a cluster, as an object.

Source: the custom resource definitions of Trainer 2.3, and how it makes a JobSet of them
(pkg/runtime/framework/plugins/jobset).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from components.train_model.worker import COMMAND, HOSTS, PORT
from perennial import __version__
from schemas.project import KubeflowSettings, ResourceSettings, TrainSettings

Object = dict[str, Any]
API = "/apis/trainer.kubeflow.org/v1alpha1"
# The job and the container that a TrainingRuntime calls by this name are the trainer's.
NODE = "node"
# Who follows the job: a step that adopts it writes its own name over that of the one before.
FOLLOWER = "perennial/follower"
_MANAGER = "perennial/train-model"
_NAME_LENGTH, _KEY_LENGTH = 36, 16  # of 63, so that `-node-0-<index>` fits behind


@dataclass(frozen=True)
class TrainJob:
    """A training on workers that are pods.

    Attributes:
        project: Name of the project.
        instance: Name of the instance.
        key: Of the training: one of the same key has the same name.
        description: URI of the workers' job description.
        workers: How many there are.
        kubeflow: Image, resources, secrets and volumes of a step that trains, which workers have,
            too.
        follower: Who follows it.
        variables: Further environment variables of the workers.
    """

    project: str
    instance: str
    key: str
    description: str
    workers: int
    kubeflow: KubeflowSettings
    follower: str
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Gives its name, which is also that of its JobSet and of its workers' subdomain."""
        return f"{self.project[:_NAME_LENGTH]}-{self.key[:_KEY_LENGTH]}"

    @property
    def hosts(self) -> list[str]:
        """Lists the names that JobSet gives the workers in the cluster's DNS, in their order."""
        return [f"{self.name}-{NODE}-0-{index}.{self.name}" for index in range(self.workers)]

    def manifest(self) -> Object:
        """Makes the object."""
        labels = {
            "app.kubernetes.io/managed-by": "perennial",
            "app.kubernetes.io/name": self.project,
            "perennial/instance": self.instance,
        }
        return {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {
                "name": self.name,
                "labels": labels,
                "annotations": {FOLLOWER: self.follower},
            },
            "spec": {
                "runtimeRef": {
                    "apiGroup": "trainer.kubeflow.org",
                    "kind": "TrainingRuntime",
                    "name": self.kubeflow.training_runtime,
                },
                "activeDeadlineSeconds": self.kubeflow.task_minutes * 60,
                "trainer": self._trainer(),
                "runtimePatches": [
                    {"manager": _MANAGER, "trainingRuntimeSpec": {"template": self._job_set()}}
                ],
            },
        }

    def _trainer(self) -> Object:
        addresses = ",".join(f"{host}:{PORT}" for host in self.hosts)
        values = {HOSTS: addresses, **self.variables}
        env = [{"name": name, "value": value} for name, value in values.items()]
        return {
            "image": self.kubeflow.image or f"perennial:{__version__}",
            "command": list(COMMAND),
            "args": [self.description],
            "numNodes": self.workers,
            "env": [*env, *_referenced_variables(self.kubeflow)],
            "resourcesPerNode": _resources(self.kubeflow.training),
        }

    def _job_set(self) -> Object:
        settings, resources = self.kubeflow, self.kubeflow.training
        volumes = list(_volumes(settings))
        mounts = [
            {"name": volume["name"], "mountPath": folder, **_read_only(volume)}
            for volume, folder in volumes
        ]
        pod: Object = {
            "serviceAccountName": settings.service_account,
            "nodeSelector": resources.node_selector,
            "tolerations": [
                {
                    "key": taint.key,
                    "operator": "Exists" if taint.value is None else "Equal",
                    **({"value": taint.value} if taint.value is not None else {}),
                    **({"effect": taint.effect} if taint.effect is not None else {}),
                }
                for taint in resources.tolerations
            ],
            "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets],
            "volumes": [volume for volume, _ in volumes],
            "containers": [{"name": NODE, "volumeMounts": mounts}] if mounts else [],
        }
        template = {"spec": {name: value for name, value in pod.items() if value}}
        return {
            "spec": {
                "replicatedJobs": [{"name": NODE, "template": {"spec": {"template": template}}}]
            }
        }


def count_workers(train: TrainSettings) -> int:
    """Counts the workers of a training on a cluster: one process drives all cores of a TPU."""
    return 1 if train.strategy == "tpu" else train.workers


def _resources(resources: ResourceSettings) -> Object:
    requests, limits = {}, {}
    if resources.cpu is not None:
        requests["cpu"] = resources.cpu
    if resources.memory is not None:
        requests["memory"] = limits["memory"] = resources.memory
    if resources.accelerator is not None:
        count = str(resources.accelerators)
        requests[resources.accelerator] = limits[resources.accelerator] = count
    made = {"requests": requests, "limits": limits}
    return {name: values for name, values in made.items() if values}


def _referenced_variables(settings: KubeflowSettings) -> Iterator[Object]:
    for references, kind in (
        (settings.secrets, "secretKeyRef"),
        (settings.config_maps, "configMapKeyRef"),
    ):
        for reference in references:
            for key, variable in reference.variables.items():
                yield {
                    "name": variable,
                    "valueFrom": {kind: {"name": reference.name, "key": key}},
                }


def _volumes(settings: KubeflowSettings) -> Iterator[tuple[Object, str]]:
    """Gives the volumes of the pods, each with the folder that it is mounted at."""
    for number, secret in enumerate(settings.secrets):
        if secret.folder is not None:
            volume = {"name": f"secret-{number}", "secret": {"secretName": secret.name}}
            yield volume, secret.folder
    for number, config in enumerate(settings.config_maps):
        if config.folder is not None:
            yield {"name": f"config-{number}", "configMap": {"name": config.name}}, config.folder
    for number, claimed in enumerate(settings.volumes):
        claim = {"claimName": claimed.claim}
        yield {"name": f"volume-{number}", "persistentVolumeClaim": claim}, claimed.folder


def _read_only(volume: Object) -> Object:
    return {} if "persistentVolumeClaim" in volume else {"readOnly": True}
