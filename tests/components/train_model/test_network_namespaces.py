"""A training on two machines that share nothing but the network and the root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
import yaml

from components.train_model import cluster_workers
from components.train_model.step import Inputs, References, train_model
from components.train_model.worker import HOSTS
from perennial.cluster import kubernetes_api
from perennial.package.publish import publish_package
from perennial.project import load_project
from perennial.results.store import Results, reference_to
from perennial.storage.digests import digest_folder
from perennial.storage.objects import open_objects
from perennial.training.artifacts import SAVED_MODEL
from tests.components.train_model.test_cluster_workers import COLD
from tests.components.train_model.test_train_job import RUNTIME
from tests.kubernetes import crd
from tests.kubernetes.server import Server
from tests.kubernetes.trainer import condition
from tests.namespaces import ABSENT, make_network

pytestmark = pytest.mark.skipif(not crd.FOLDER.is_dir(), reason=crd.ABSENT)
# Seconds for the whole training, of which an idle machine needs a tenth.
PATIENCE = 300


class Node:
    """Runs the worker's own command of each pod in a network namespace of its own."""

    def __init__(self, network, scratch, environment):
        self.network, self.scratch, self.environment = network, scratch, environment

    def __call__(self, pod):
        hosts = [host.partition(":")[0] for host in pod.environment[HOSTS].split(",")]
        self.network.name_hosts(dict(zip(hosts, self.network.addresses, strict=True)))
        temporary = self.scratch / pod.name
        temporary.mkdir()
        enter = ["ip", "netns", "exec", self.network.namespaces[pod.index]]
        return subprocess.Popen(
            [*enter, sys.executable, *pod.command[1:]],
            env=os.environ | self.environment | pod.environment | {"TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@pytest.fixture
def network():
    with make_network(2) as made:
        if made is None:
            pytest.skip(ABSENT)
        yield made


def make_package(chain, folder, root):
    """The chain's project as a package, which no folder of this machine belongs to."""
    shutil.copytree(
        chain.project.folder, folder, ignore=shutil.ignore_patterns(".perennial", "data")
    )
    settings = yaml.safe_load((folder / "project.yaml").read_text())
    train = {"strategy": "multi_worker", "checkpoint_steps": 2, "epochs": 12, "patience": 12}
    settings["train"] |= train | {"restarts": 1}
    settings["data"]["spans"] = str(chain.project.folder / settings["data"]["spans"])
    settings |= {"root": root, "ledger": {"url": "postgresql://nowhere/ledger"}}
    settings["registry"] = {"uri": "postgresql://nowhere/registry"}
    (folder / "project.yaml").write_text(yaml.safe_dump(settings))
    reference = publish_package(load_project(folder)).reference
    return load_project(str(reference.model_copy(update={"folder": None})))


@contextmanager
def second_worker_killed(root, server):
    """Kills the second worker once there is a checkpoint; gives the names of the killed pods."""
    over, killed = threading.Event(), []

    def kill():
        while not over.wait(0.05):
            if any(True for _ in open_objects(root).list("unfinished/train_model")):
                pod = server.trainer.pods[1]
                os.killpg(pod.process.pid, signal.SIGKILL)
                killed.append(pod.name)
                return

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join(PATIENCE)


@contextmanager
def bounded(server):
    """Ends the job when it takes too long, which the step then tells."""

    def end():
        for name, job in list(server.jobs.items()):
            condition(job, "Failed", "DeadlineExceeded", f"the test waited {PATIENCE} s")
            server.trainer.end_pods(name)

    timer = threading.Timer(PATIENCE, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        server.stop()


def test_workers_of_other_machines_train_over_the_root_and_one_that_is_killed_is_made_good(
    chain, s3, network, tmp_path, monkeypatch, capfd
):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    project = make_package(chain, tmp_path / "digits", s3.new_root())
    results = Results(project.root, tmp_path / "state")
    folders = {"features": chain.features, "weights": chain.weights}
    stored = results.publish("transform_features", "1", folders, {})
    references = References(*(reference_to(stored, name) for name in folders))
    inputs = Inputs(chain.features, chain.window, chain.weights, references=references)

    (scratch := tmp_path / "scratch").mkdir()
    (account := tmp_path / "account").mkdir()
    monkeypatch.setattr(kubernetes_api, "ACCOUNT_FOLDER", account)
    monkeypatch.setattr(cluster_workers, "_POLL_SECONDS", 0.2)
    with network.forward(s3.server.address) as endpoint:
        variables = s3.environment | {"AWS_ENDPOINT_URL": f"http://{endpoint}"}
        runtime = next(yaml.safe_load_all(RUNTIME.read_text()))
        server = Server(account, runtime, Node(network, scratch, variables))
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        with bounded(server), second_worker_killed(project.root, server) as killed:
            record = train_model(project, COLD, inputs, None, tmp_path / "output")
    assert killed, "the training ended before its first checkpoint was seen"
    assert f"worker 1 (pod {killed[0]}) ended with code 137" in capfd.readouterr().out
    assert (record.workers, record.replicas, record.restarts) == (2, 2, 1)
    assert record.resumed_from is not None and len(record.epochs) == 12
    assert record.digest == digest_folder(tmp_path / "output" / SAVED_MODEL)
    assert not list(open_objects(project.root).list("unfinished"))
