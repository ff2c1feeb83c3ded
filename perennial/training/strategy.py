"""The tf.distribute strategy, the devices and the precision of a training."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from perennial.errors import ProjectError
from schemas.project import TrainSettings

if TYPE_CHECKING:
    import tensorflow as tf

CLUSTER = "TF_CONFIG"
"""Environment variable that tells a worker of its cluster.

Source: tf.distribute's multi-worker guide.
"""


def choose_strategy(train: TrainSettings) -> tf.distribute.Strategy:
    """Gives the strategy of the settings.

    Also sets Keras's precision for every model that is built from now on.

    `mirrored` without a GPU spreads over the logical CPU devices.

    Raises:
        ProjectError: A device that the settings name is not there.
    """
    import keras
    import tensorflow as tf

    keras.mixed_precision.set_global_policy(train.precision)
    if train.strategy == "tpu":
        return _tpu(train)
    if train.strategy == "multi_worker":
        return _multi_worker(train)
    devices = _devices(train)
    if train.strategy == "mirrored":
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(devices[0])


def cluster_size() -> int | None:
    """Counts the workers that TF_CONFIG names; None where it is not set.

    Raises:
        ProjectError: It is set to something else than a cluster with this process in it.
    """
    text = os.environ.get(CLUSTER)
    if not text:
        return None
    try:
        config = json.loads(text)
        workers = sum(len(config["cluster"].get(role, [])) for role in ("chief", "worker"))
        int(config["task"]["index"])
    except (ValueError, KeyError, TypeError, AttributeError):
        workers = 0
    if not workers:
        raise ProjectError(
            where=f"environment: {CLUSTER}",
            expected='must be JSON such as {"cluster": {"worker": ["a:1", "b:1"]}, '
            '"task": {"type": "worker", "index": 0}}',
            received=text[:200],
            remedy="Unset it to train on this machine.",
        )
    return workers


def _devices(train: TrainSettings) -> list[str]:
    import tensorflow as tf

    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    cpus = [device.name for device in tf.config.list_logical_devices("CPU")]
    _check_gpu(train, gpus, cpus)
    return cpus if train.device == "cpu" else gpus or cpus


def _check_gpu(train: TrainSettings, gpus: list[str], cpus: list[str]) -> None:
    if train.device == "gpu" and not gpus:
        raise ProjectError(
            where="project.yaml: train.device",
            expected="gpu must be there",
            received=f"none that TensorFlow can use, only {', '.join(cpus)}",
            remedy="Set it to any or cpu, or install the GPU's driver and CUDA.",
        )


def _multi_worker(train: TrainSettings) -> tf.distribute.Strategy:
    """Makes the strategy of a worker of a cluster.

    It asks for physical devices alone: logical ones would start TensorFlow, which joins a cluster
    as it starts.
    """
    import tensorflow as tf

    if cluster_size() is None:
        raise ProjectError(
            where="environment",
            expected=f"must be set for train.strategy: multi_worker: {CLUSTER}",
            received="nothing",
            remedy="Start this process as a worker of a cluster.",
        )
    gpus, cpus = (
        [device.name for device in tf.config.list_physical_devices(kind)] for kind in ("GPU", "CPU")
    )
    _check_gpu(train, gpus, cpus)
    if train.device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu(train: TrainSettings) -> tf.distribute.Strategy:
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=train.tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except Exception as error:  # whatever the resolver raises: no TPU answers
        raise ProjectError(
            where="project.yaml: train.strategy",
            expected="tpu must find a TPU",
            received=f"no TPU at {train.tpu!r} ({type(error).__name__})"
            if train.tpu
            else "no TPU on this machine",
            remedy="Name the TPU in train.tpu, or choose one_device, mirrored or multi_worker.",
        ) from error
    return tf.distribute.TPUStrategy(resolver)
