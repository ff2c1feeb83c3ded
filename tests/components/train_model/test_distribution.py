"""Training on many devices and in many processes is the same training."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from perennial.export.contract import read_contract
from perennial.export.temperature_scaling import COLDEST, HOTTEST
from perennial.processes import find_free_ports
from perennial.storage.digests import digest_folder
from perennial.training.artifacts import LOGS, SAVED_MODEL
from schemas.records import Training
from tests.chain import copy_project, with_module, with_settings
from tests.components.train_model.jobs import (
    checkpoints_of,
    message_of,
    serve_eval_split,
    train,
    train_in_cluster,
    train_on_devices,
    train_while_a_worker_dies,
)
from tests.forked import forked

# Each replica draws its own: nothing that two could share.
DROPOUT = "    x = keras.layers.Dropout(0.3)(x)\n"


@pytest.fixture(scope="module")
def plain(chain, tmp_path_factory):
    """The digits project without dropout; the last batch of a pass is smaller."""
    project = with_module(
        copy_project(chain, tmp_path_factory.mktemp("plain") / "digits"), DROPOUT, ""
    )
    return with_settings(project, "train", epochs=3, patience=3)


@pytest.fixture(scope="module")
def devices(chain, plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    return folder, forked(train_on_devices, plain, chain, folder)


def assert_same(one, other, tolerance=1e-4):
    for name in ("train_loss", "eval_loss", "eval_metric"):
        expected, found = ([getattr(epoch, name) for epoch in each.epochs] for each in (one, other))
        np.testing.assert_allclose(found, expected, rtol=tolerance, err_msg=name)
    assert one.best_epoch == other.best_epoch


def test_two_devices_train_as_one_does(devices):
    one, two = devices[1]["one_device"], devices[1]["mirrored"]
    assert (one.replicas, two.replicas, two.workers) == (1, 2, 1)
    assert_same(one, two)


def test_what_two_devices_trained_serves(chain, plain, devices):
    served = forked(serve_eval_split, plain, devices[0] / "mirrored" / SAVED_MODEL, chain.window)
    right = served["features"]["class"] == served["labels"]
    assert right.mean() == pytest.approx(devices[1]["mirrored"].best.eval_metric)


@pytest.mark.timeout(600)
def test_a_worker_that_is_killed_is_started_again_and_two_workers_train_as_one_device_does(
    chain, plain, devices, tmp_path
):
    project = with_settings(plain, "train", strategy="multi_worker", checkpoint_steps=4)
    project = with_settings(project, "model", calibration="temperature")
    found = forked(train_while_a_worker_dies, project, chain, tmp_path)
    record = found["record"]
    assert len(found["killed"]) == 1 and found["left"] == []
    assert (record.restarts, record.workers, record.replicas) == (1, 2, 2)
    assert record.resumed_from is not None and record.strategy == "multi_worker"
    assert_same(devices[1]["one_device"], record)
    assert Training.read(tmp_path) == record
    assert record.digest == digest_folder(tmp_path / SAVED_MODEL)
    (task,) = read_contract(tmp_path / SAVED_MODEL).tasks
    assert record.notes == [] and COLDEST < task.temperature < HOTTEST, "it is calibrated"
    assert sorted(path.name for path in (tmp_path / LOGS).iterdir()) == ["eval", "train"]
    assert not checkpoints_of(project) and not list((project.state / "training").iterdir())


def test_workers_of_a_cluster_train_as_one_device_does_and_one_publishes(
    chain, plain, devices, tmp_path
):
    project, ports = with_settings(plain, "train", strategy="multi_worker"), find_free_ports(2)
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(
                forked, train_in_cluster, project, chain, tmp_path / str(index), ports, index
            )
            for index in range(2)
        ]
        chief, other = (job.result() for job in jobs)
    assert (chief.workers, chief.replicas, chief.restarts) == (2, 2, 0)
    assert_same(devices[1]["one_device"], chief)
    assert chief.digest == other.digest == digest_folder(tmp_path / "0" / SAVED_MODEL)
    assert (tmp_path / "0" / Training.FILE).is_file() and not list((tmp_path / "1").iterdir())


@pytest.mark.timeout(600)
def test_workers_that_keep_dying_and_workers_that_say_why(chain, tmp_path):
    """Neither ends in a model.

    What the module printed last is told, and a mistake as it is told of one process.
    """
    broken = {
        "dies": "    import os\n    print('no more memory', flush=True)\n    os._exit(7)\n",
        "raises": "    raise ValueError('no such layer')\n",
    }
    projects = [
        _with_build(copy_project(chain, tmp_path / name), body) for name, body in broken.items()
    ]
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(forked, message_of, train, each, chain, each.folder / "output")
            for each in projects
        ]
        dies, raises = (job.result() for job in jobs)
    assert dies.startswith(
        "TrainingError: training of instance-1 must run on all its workers. Received: worker 0"
    )
    assert "ended with code 7, after 0 restarts:" in dies and "\nno more memory\n" in dies
    assert "worker-0.log" in dies and "goes on from the newest checkpoint" in dies
    assert (
        raises.startswith("ProjectError: model.py:")
        and "Received: ValueError: no such layer" in raises
    )
    assert not any((each.folder / "output" / Training.FILE).exists() for each in projects)


def _with_build(project, body):
    text = project.module_path.read_text()
    head = text[: text.index("def build_model")]
    project.module_path.write_text(f"{head}def build_model(transform_output):\n{body}")
    return with_settings(project, "train", strategy="multi_worker", workers=1, restarts=0)
