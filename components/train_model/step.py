"""Trains one instance and exports it: here, on workers, or by the user's `run_fn`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from components.train_model.epochs import should_stop
from components.train_model.instance import train_here
from components.train_model.job import Job, local_root, make_job
from perennial.cluster.kubernetes_api import KubernetesApi, find_service_account
from perennial.project import Project
from perennial.training.hyperparameters import settings_hyperparameters
from perennial.training.strategy import cluster_size
from schemas.records import Champion, Hyperparameters, Instance, Reference, Training, Tuning

__all__ = ["Inputs", "References", "should_stop", "train_model"]

_UNUSED_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True)
class References:
    """Names of inputs in the root, by which workers on other machines stage them."""

    features: Reference
    weights: Reference | None = None


@dataclass(frozen=True)
class Inputs:
    """Folders of the steps before: transformed features, window, weights, hyperparameters.

    A module with `run_fn` has no stabilised weights; without `hyperparameters` the settings' own
    are used; only a run of a cluster gives `references`: other pods train by them.
    """

    features: Path
    window: Path
    weights: Path | None = None
    hyperparameters: Path | None = None
    references: References | None = None


def train_model(
    project: Project,
    instance: Instance,
    inputs: Inputs,
    champion: Champion | None,
    output: Path,
    publish: Callable[[Training], None] | None = None,
) -> Training:
    """Trains until the eval loss has not fallen for `train.patience` epochs.

    Exports the best epoch's weights.

    Writes `output/saved_model/`, its SHA-256 in `output/training.json`, and `output/logs/` for
    TensorBoard. A step that was killed goes on from its newest checkpoint in the root when it runs
    again, on whatever machine. Strategies `multi_worker` and `tpu` train on the pods of a TrainJob,
    where a cluster runs the step. With TF_CONFIG and strategy `multi_worker` this process is one
    worker of a cluster, and only the cluster's chief writes.

    Args:
        project: The project.
        instance: Which instance; one that is patched starts from the champion's weights.
        inputs: What the steps before left.
        champion: What serves, None where nothing does.
        output: Folder for the model, the record and the logs.
        publish: Publishes what was written there; only after it the checkpoints go.

    Raises:
        ProjectError: The model does not build, does not fit the labels or has nothing to train; a
            device is not there.
        TrainingError: The loss is not finite, a checkpoint is of another architecture, or workers
            kept dying.
        IntegrityError: The champion that it starts from is not the one that was evaluated.
        ClusterError: The TrainJob cannot be created or followed.
    """
    output.mkdir(parents=True, exist_ok=True)
    _prune(local_root(project))
    chosen = _hyperparameters(project, inputs, instance.rank)
    job = make_job(project, instance, chosen, champion, inputs.features, inputs.weights, output)
    record = _train(job, inputs)
    if publish is not None:
        publish(record)
    if (output / Training.FILE).is_file():  # only the chief of a cluster knows that it is published
        job.open_checkpoints().remove()
        if job.settings.train.on_workers:
            job.open_work().parts.remove_all()
        shutil.rmtree(job.local_folder, ignore_errors=True)
    return record


def _prune(local: Path) -> None:
    """Removes what trainings left on this machine that nobody went on with for 30 days."""
    oldest = time.time() - _UNUSED_SECONDS
    for folder in local.glob("*"):
        with suppress(FileNotFoundError):  # another training has just removed it
            if max(path.stat().st_mtime for path in (folder, *folder.iterdir())) < oldest:
                shutil.rmtree(folder, ignore_errors=True)


def _hyperparameters(project: Project, inputs: Inputs, rank: int) -> Hyperparameters:
    if inputs.hyperparameters is None:
        return settings_hyperparameters(project.settings)
    best = Tuning.read(inputs.hyperparameters).best
    return best[min(rank, len(best) - 1)]


def _train(job: Job, inputs: Inputs) -> Training:
    train = job.settings.train
    if job.project.uses_run_fn:
        from components.train_model.train_run_fn import train_by_calling

        return train_by_calling(job, inputs.window)
    if not train.on_workers or cluster_size() is not None:
        return train_here(job)
    if inputs.references is not None and (account := find_service_account()) is not None:
        from components.train_model.cluster_workers import train_on_cluster

        record = train_on_cluster(job, inputs.references, KubernetesApi(account))
    elif train.strategy == "multi_worker":
        from components.train_model.workers import train_on_workers

        record = train_on_workers(job)
    else:
        return train_here(job)
    record.write(job.output)
    return record
