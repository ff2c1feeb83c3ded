"""A TrainJob from its creation to its end, as the step follows it.

The API server is a stand-in made from Kubeflow Trainer's definitions, its pods are processes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from components.train_model import cluster_workers
from components.train_model.step import Inputs, References, train_model
from perennial.cluster import kubernetes_api
from perennial.errors import AccessError, ProjectError, TrainingError
from perennial.results.unfinished import SavedFolder, UnfinishedWork
from schemas.records import Instance, Reference, Training
from tests.chain import with_settings
from tests.components.train_model.test_train_job import RUNTIME
from tests.kubernetes.crd import ABSENT, FOLDER
from tests.kubernetes.server import Server
from tests.kubernetes.trainer import condition

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=ABSENT)
COLD = Instance(name="instance-1", seed=17)
LOST = Reference(step="transform_features", key="0", output="features", digest="0", size=1)
DONE = "cp -r {made}/. {work}/"
LINGERS = "echo started; sleep 60"


class Node:
    """Starts a script as each pod's process: those of the first attempt, then of the next.

    In a script, `{work}` is the folder of the training's work in the root, `{made}` that with the
    parts that a chief publishes.
    """

    def __init__(self, made: Path, *attempts: tuple[str, ...]) -> None:
        self.made, self.attempts = made, list(attempts)

    def __call__(self, pod):
        script = self.attempts[0][pod.index]
        if pod.index == len(self.attempts[0]) - 1:
            self.attempts.pop(0)
        work = Path(pod.command[-1]).parent
        command = ["sh", "-c", script.format(made=self.made, work=work)]
        if script == "worker":
            command = [sys.executable, *pod.command[1:]]
        return subprocess.Popen(
            command,
            env=os.environ | pod.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@pytest.fixture
def cluster(chain, tmp_path, monkeypatch):
    """Makes a server whose pods run these scripts; the step finds it as in a pod."""
    made = tmp_path / "made"
    work = UnfinishedWork(str(tmp_path / "elsewhere"), "train_workers", "0")
    SavedFolder(work, chain.model("instance-1")).save()
    Path(work.place).rename(made)
    servers = []
    monkeypatch.setattr(cluster_workers, "_POLL_SECONDS", 0.05)

    def start(*attempts):
        runtime = next(yaml.safe_load_all(RUNTIME.read_text()))
        folder = tmp_path / f"account-{len(servers)}"
        folder.mkdir()
        server = Server(folder, runtime, Node(made, *attempts))
        servers.append(server)
        monkeypatch.setattr(kubernetes_api, "ACCOUNT_FOLDER", server.account)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def project(chain_project):
    return with_settings(chain_project, "train", strategy="multi_worker", restarts=1)


def train(project, chain, output):
    references = References(LOST, LOST)
    inputs = Inputs(chain.features, chain.window, chain.weights, references=references)
    return train_model(project, COLD, inputs, None, output)


def in_child(project, chain, output):
    """Starts the step in a process of its own, and waits until its workers print."""
    process = multiprocessing.get_context("fork").Process(
        target=train, args=(project, chain, output)
    )
    process.start()
    return process


def wait_for(question):
    until = time.monotonic() + 30
    while not (answer := question()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return answer


def started(server):
    pods = server.trainer.pods
    return len(pods) == 2 and all(pod.lines for pod in pods) and [pod.process for pod in pods]


def posts(server):
    return [path for method, path in server.calls if method == "POST"]


def unfinished(project):
    return list(Path(project.root, "unfinished").glob("*/*/*"))


def test_a_job_is_created_and_followed_and_its_model_fetched(
    cluster, project, chain, tmp_path, capfd
):
    server = cluster((f"echo epoch 1; {DONE}", "echo epoch 1, too"))
    server.failures += [503, 429]
    record = train(project, chain, tmp_path / "output")
    assert Training.read(tmp_path / "output") == record and record.restarts == 0
    assert record.digest == Training.read(chain.model("instance-1")).digest
    printed = capfd.readouterr().out
    assert "[worker 0] epoch 1\n" in printed and "[worker 1] epoch 1, too\n" in printed
    assert not server.jobs and not server.trainer.pods and not unfinished(project)


def test_a_worker_that_fails_is_started_again_and_at_last_its_lines_are_told(
    cluster, project, chain, tmp_path, capfd
):
    fails = ("sleep 60", "echo no more memory; kill -9 $$")
    server = cluster(fails, (DONE, "true"))
    record = train(project, chain, tmp_path / "output")
    assert record.restarts == 1 and len(posts(server)) == 2
    assert "ended with code 137 (Error); starting again" in capfd.readouterr().out
    cluster(fails, fails)
    with pytest.raises(TrainingError) as error:
        train(project, chain, tmp_path / "other")
    told = str(error.value)
    assert "instance-1 (TrainJob digits-" in told and "must run on all its workers" in told
    assert "worker 1 (pod digits-" in told and "after 1 restarts:\nno more memory\n" in told
    assert not (tmp_path / "other" / Training.FILE).exists()


def test_a_worker_says_in_the_root_what_is_wrong(cluster, project, chain, tmp_path):
    """By the real command: it reads another project.yaml than the step did."""
    server = cluster(("worker", "sleep 60"))
    with pytest.raises(ProjectError, match="must stay as it was when the run began"):
        train(project, chain, tmp_path / "output")
    assert not server.jobs and len(posts(server)) == 1, "it is not tried again"


def test_a_step_that_is_cancelled_deletes_its_job(cluster, project, chain, tmp_path):
    server = cluster((LINGERS, LINGERS))
    step = in_child(project, chain, tmp_path / "output")
    workers = wait_for(lambda: started(server))
    os.kill(step.pid, signal.SIGTERM)
    step.join(30)
    assert step.exitcode == 128 + signal.SIGTERM
    assert not server.jobs and all(worker.wait(5) for worker in workers)


@pytest.mark.parametrize("end", [signal.SIGKILL, None])
def test_a_step_that_is_repeated_adopts_the_job(cluster, project, chain, tmp_path, end, capfd):
    """One that was not killed leaves it to the other, and does not delete it."""
    waits = "echo started; while [ ! -e {work}/go ]; do sleep 0.1; done; " + DONE
    server = cluster((waits, waits))
    step = in_child(project, chain, tmp_path / "output")
    wait_for(lambda: started(server))
    if end is not None:
        os.kill(step.pid, end)
        step.join(30)
    again = in_child(project, chain, tmp_path / "again")
    wait_for(lambda: "PATCH" in [method for method, _ in server.calls])
    if end is None:
        step.join(30)
        assert step.exitcode == 1 and server.jobs
    (work,) = Path(project.root, "unfinished", "train_workers").iterdir()
    (work / "go").touch()
    again.join(30)
    assert again.exitcode == 0 and len(posts(server)) == 1 and not server.jobs
    assert Training.read(tmp_path / "again").instance == COLD
    assert "goes on, and was adopted" in capfd.readouterr().out


def test_a_job_that_takes_too_long_is_not_repeated(cluster, project, chain, tmp_path):
    server = cluster((LINGERS, LINGERS))
    step = in_child(project, chain, tmp_path / "output")
    wait_for(lambda: started(server))
    (job,) = server.jobs.values()
    condition(job, "Failed", "DeadlineExceeded", "TrainJob exceeded its active deadline")
    server.trainer.end_pods(job["metadata"]["name"])
    step.join(30)
    assert step.exitcode == 1 and len(posts(server)) == 1


def test_an_account_without_rights_and_a_namespace_without_runtime(
    cluster, project, chain, tmp_path
):
    server = cluster()
    server.failures.append(403)
    with pytest.raises(AccessError, match="must let the step's service account work"):
        train(project, chain, tmp_path / "output")
    server.trainer.runtimes.clear()
    with pytest.raises(AccessError, match="TrainingRuntime perennial-training"):
        train(project, chain, tmp_path / "output")
    assert not server.jobs
