"""Needs of tasks on a cluster: resources, attempts, time; and how many pods a run has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from perennial.ledger.task_lease import RUN_VARIABLE

if TYPE_CHECKING:
    from kfp.dsl import PipelineConfig, PipelineTask

    from schemas.project import KubeflowSettings, ResourceSettings

# The oldest backend that takes a limit of time for a whole run: older ones refuse the file for it.
BACKEND = "2.17"
CLASSES: Mapping[str, Literal["light", "data", "training"]] = {
    "select_spans": "light",
    "prepare_span": "data",
    "validate_data": "data",
    "analyse_features": "data",
    "transform_features": "data",
    "compare_designs": "training",
    "pretrain_learner": "training",
    "stabilise_weights": "training",
    "tune_model": "training",
    "train_model": "training",
    "evaluate_model": "data",
    "probe_model": "data",
    "decide_promotion": "light",
    "register_model": "light",
    "validate_serving": "data",
    "push_model": "light",
    "conclude_run": "light",
}
# Of every pod of a run: the run's own number, as one of a schedule has it too.
_RUN_LABEL = "metadata.labels['pipeline/runid']"
_GRACE_MINUTES = 30  # for tasks that notice the end of the time, and for the exit task
_WAIT, _LONGEST_WAIT = "30s", "600s"


def pipeline_config(kubeflow: KubeflowSettings) -> PipelineConfig:
    """Has the cluster end a run that its own tasks did not end in time, such as one that waits."""
    from kfp import dsl

    seconds = (kubeflow.run_minutes + _GRACE_MINUTES) * 60
    return dsl.PipelineConfig(active_deadline_seconds=seconds)


def place_tasks(
    tasks: Mapping[str, PipelineTask], kubeflow: KubeflowSettings, on_workers: bool = False
) -> None:
    """Has every task ask for what the settings say of its class of step, and know its run.

    A `train_model` whose instances train on workers only follows them, and is light.
    """
    from kfp import kubernetes

    for name, task in tasks.items():
        step = name.rstrip("-0123456789").replace("-", "_")
        waits = on_workers and step == "train_model"
        _ask(task, getattr(kubeflow, "light" if waits else CLASSES[step]))
        _hand(task, kubeflow)
        if kubeflow.retries:
            task.set_retry(
                kubeflow.retries,
                backoff_duration=_WAIT,
                backoff_factor=2,
                backoff_max_duration=_LONGEST_WAIT,
            )
        kubernetes.use_field_path_as_env(task, RUN_VARIABLE, _RUN_LABEL)
        kubernetes.set_timeout(task, kubeflow.task_minutes * 60)


def count_pods(spec: Mapping[str, Any], spans: int = 1, instances: int = 1) -> int:
    """Counts the pods of a run that trains and promotes.

    A container task has two (a driver and the step), a condition, a loop or what an exit task
    follows one driver, each iteration of a loop another, and the run one.
    Source: Kubeflow Pipelines' compiler to Argo, dag.go, 2.17.

    Args:
        spec: The compiled pipeline.
        spans: Spans that were not prepared before.
        instances: Instances that are trained.
    """
    return 1 + _pods_of(spec, spec["root"], {"pending": spans, "instances": instances})


def _ask(task: PipelineTask, resources: ResourceSettings) -> None:
    from kfp import kubernetes

    if resources.cpu is not None:
        task.set_cpu_request(resources.cpu)
    if resources.memory is not None:
        # A limit too: a step that needs more is ended by itself, not with its neighbours.
        task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
    if resources.accelerator is not None:
        task.set_accelerator_type(resources.accelerator)
        task.set_accelerator_limit(resources.accelerators)
    for label, value in resources.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for taint in resources.tolerations:
        operator = "Exists" if taint.value is None else "Equal"
        kubernetes.add_toleration(task, taint.key, operator, taint.value, taint.effect)


def _hand(task: PipelineTask, kubeflow: KubeflowSettings) -> None:
    """Gives a task the secrets, config maps and volumes that the settings name."""
    from kfp import kubernetes

    for secret in kubeflow.secrets:
        if secret.variables:
            kubernetes.use_secret_as_env(task, secret.name, secret.variables)
        if secret.folder:
            kubernetes.use_secret_as_volume(task, secret.name, secret.folder)
    for config in kubeflow.config_maps:
        if config.variables:
            kubernetes.use_config_map_as_env(task, config.name, config.variables)
        if config.folder:
            kubernetes.use_config_map_as_volume(task, config.name, config.folder)
    for volume in kubeflow.volumes:
        kubernetes.mount_pvc(task, volume.claim, volume.folder)
    if kubeflow.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, kubeflow.image_pull_secrets)


def _pods_of(spec: Mapping[str, Any], graph: Mapping[str, Any], items: Mapping[str, int]) -> int:
    pods = 0
    for task in graph["dag"]["tasks"].values():
        component = spec["components"][task["componentRef"]["name"]]
        if "dag" not in component:
            pods += 2
        elif "parameterIterator" in task:
            name = str(task["parameterIterator"]["items"]["inputParameter"])
            count = next(count for item, count in items.items() if item in name)
            pods += 1 + count * (1 + _pods_of(spec, component, items))
        else:
            pods += 1 + _pods_of(spec, component, items)
    return pods
