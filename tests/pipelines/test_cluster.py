"""What the compiled tasks ask of a cluster, and how many pods a run has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.ledger.task_lease import RUN_VARIABLE
from perennial.project import load_project
from perennial.training.stages import OPTIONAL_STEPS, Stages
from pipelines.cluster import CLASSES, count_pods
from pipelines.compile import compile_pipeline
from schemas.project import (
    KubeflowSettings,
    ReferenceSettings,
    ResourceSettings,
    TolerationSettings,
    VolumeSettings,
)
from tests.perennial.folders import make_project
from tests.pipelines.test_stages import ALWAYS, tasks

ROOT = Path(__file__).parents[2]
PERENNIAL = Path(sys.executable).with_name("perennial")
TPU = {
    "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
    "cloud.google.com/gke-tpu-topology": "2x4",
}
SETTINGS = KubeflowSettings(
    retries=3,
    task_minutes=90,
    run_minutes=600,
    light=ResourceSettings(cpu="100m", memory="1Gi"),
    training=ResourceSettings(
        cpu="8",
        memory="32Gi",
        accelerator="nvidia.com/gpu",
        accelerators=2,
        node_selector=TPU,
        tolerations=[
            TolerationSettings(key="nvidia.com/gpu", effect="NoSchedule"),
            TolerationSettings(key="pool", value="training"),
        ],
    ),
    parallelism=2,
    secrets=[
        ReferenceSettings(
            name="places", variables={"ledger": "PERENNIAL_LEDGER_URL"}, folder="/secrets"
        )
    ],
    config_maps=[ReferenceSettings(name="regions", variables={"region": "AWS_REGION"})],
    volumes=[VolumeSettings(claim="projects", folder="/projects")],
    image_pull_secrets=["registry"],
)


def compiled(folder: Path, kubeflow=None, stages=None, on_workers=False):
    """The pipeline's specification and the one for the platform."""
    stages = stages or Stages(*[True] * len(OPTIONAL_STEPS))
    compile_pipeline(folder / "pipeline.yaml", stages, "a-project", kubeflow, on_workers)
    return list(yaml.load_all((folder / "pipeline.yaml").read_text(), yaml.CSafeLoader))


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("asked"), SETTINGS)


def executors(spec):
    """Each executor's container, by its step."""
    return {
        label.removeprefix("exec-").rstrip("-0123456789").replace("-", "_"): one["container"]
        for label, one in spec["deploymentSpec"]["executors"].items()
    }


def test_every_step_has_a_class_and_every_class_its_steps():
    assert set(CLASSES) == ALWAYS | set(OPTIONAL_STEPS)
    described = " ".join(
        KubeflowSettings.model_fields[name].description for name in ("light", "data", "training")
    )
    assert all(step in described for step in CLASSES)


def test_steps_ask_for_what_their_class_says(asked):
    containers = executors(asked[0])
    light = containers["decide_promotion"]["resources"]
    assert light["resourceCpuRequest"] == "100m" and light["resourceMemoryLimit"] == "1Gi"
    training = containers["train_model"]["resources"]
    assert training["resourceCpuRequest"] == "8"
    assert training["accelerator"] == {
        "count": "2",
        "type": "nvidia.com/gpu",
        "resourceCount": "2",
        "resourceType": "nvidia.com/gpu",
    }
    assert "accelerator" not in containers["evaluate_model"]["resources"]


def test_a_step_that_waits_for_workers_is_light(tmp_path):
    spec, platform = compiled(tmp_path, SETTINGS, on_workers=True)
    waits = executors(spec)["train_model"]["resources"]
    assert waits["resourceMemoryLimit"] == "1Gi" and "accelerator" not in waits
    assert "accelerator" in executors(spec)["stabilise_weights"]["resources"]
    assert "nodeSelector" not in placed((spec, platform))["train_model"]


def test_every_task_is_tried_again_and_ends_in_time(asked):
    spec, platform = asked
    for step, task, _ in tasks(spec):
        assert task["retryPolicy"]["maxRetryCount"] == 3, step
    limits = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(limits) == set(spec["deploymentSpec"]["executors"])
    assert {one["activeDeadlineSeconds"] for one in limits.values()} == {"5400"}


def placed(asked):
    """What the platform adds to each executor, by its step."""
    executors = asked[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {
        label.removeprefix("exec-").rstrip("-0123456789").replace("-", "_"): one
        for label, one in executors.items()
    }


def test_steps_run_on_the_nodes_of_their_class(asked):
    training = placed(asked)["train_model"]
    assert training["nodeSelector"]["labels"] == TPU
    assert training["tolerations"] == [
        {"effect": "NoSchedule", "key": "nvidia.com/gpu", "operator": "Exists"},
        {"key": "pool", "operator": "Equal", "value": "training"},
    ]
    evaluation = placed(asked)["evaluate_model"]
    assert "nodeSelector" not in evaluation and "tolerations" not in evaluation


def test_every_step_has_the_secrets_config_maps_and_volumes_by_reference(asked):
    for step, added in placed(asked).items():
        (secret,), (config,) = added["secretAsEnv"], added["configMapAsEnv"]
        assert secret["keyToEnv"] == [{"envVar": "PERENNIAL_LEDGER_URL", "secretKey": "ledger"}], (
            step
        )
        assert (secret["secretName"], config["configMapName"]) == ("places", "regions")
        assert added["secretAsVolume"][0]["mountPath"] == "/secrets"
        assert added["pvcMount"][0]["mountPath"] == "/projects"
        assert added["pvcMount"][0]["constant"] == "projects"
        assert added["imagePullSecret"][0]["secretName"] == "registry"


def test_loops_do_so_many_at_the_same_time(asked, tmp_path):
    def limits(spec):
        return [
            task.get("iteratorPolicy")
            for component in (spec["root"], *spec["components"].values())
            for task in component.get("dag", {}).get("tasks", {}).values()
            if "parameterIterator" in task
        ]

    assert limits(asked[0]) == [{"parallelismLimit": 2}] * 2
    spec, _ = compiled(tmp_path, KubeflowSettings())
    assert limits(spec) == [None, None]


def test_a_reference_must_be_used():
    with pytest.raises(ValueError, match="variables or folder must be set"):
        ReferenceSettings(name="places")


def test_on_this_machine_nothing_is_asked_for(tmp_path):
    (spec,) = compiled(tmp_path)
    assert all("resources" not in container for container in executors(spec).values())
    assert spec["pipelineInfo"]["name"] == "continuous-training-a-project"


def test_pods_are_counted(tmp_path):
    """Counted by hand on the backend's rules: 14 tasks of two, and 9 drivers.

    The run has one, as have what the exit task follows and each of three Ifs, and two loops of one
    item two.
    """
    stages = Stages(
        pretrain_learner=False,
        stabilise_weights=True,
        tune_model=False,
        compare_designs=False,
        probe_model=True,
    )
    (spec,) = compiled(tmp_path, stages=stages)
    assert count_pods(spec, spans=1, instances=1) == 14 * 2 + 9
    # Another instance: its driver and its task; another span likewise.
    assert count_pods(spec, spans=1, instances=3) == 14 * 2 + 9 + 2 * 3
    assert count_pods(spec, spans=30, instances=1) == 14 * 2 + 9 + 29 * 3


@pytest.mark.parametrize("example", ["digits", "taxi"])
def test_a_day_of_an_example_takes_at_most_forty_pods(example):
    project = load_project(ROOT / "examples" / example)
    text = (ROOT / f"pipelines/compiled/{example}.yaml").read_text()
    spec, _ = yaml.load_all(text, yaml.CSafeLoader)
    assert count_pods(spec, spans=1, instances=project.settings.train.instances) <= 40


def test_the_cluster_ends_what_the_tasks_did_not_end_in_time(asked):
    """The tasks say so themselves; a pod that waits for a node cannot."""
    _, platform = asked
    config = platform["platforms"]["kubernetes"]["pipelineConfig"]
    assert config["activeDeadlineSeconds"] == (600 + 30) * 60


def test_every_task_learns_its_run_from_its_pod(asked):
    """From a label that all pods of a run have; so it is in no input, and in no cache's key."""
    spec, platform = asked
    surroundings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(surroundings) == set(spec["deploymentSpec"]["executors"])
    field = {"name": RUN_VARIABLE, "fieldPath": "metadata.labels['pipeline/runid']"}
    assert all(one["fieldPathAsEnv"] == [field] for one in surroundings.values())


# Ends a process of Python that asks the network for anything.
NO_NETWORK = """
import os, sys

def refuse(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto") or (
        event == "socket.connect" and not isinstance(arguments[1], (str, bytes))
    ):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(97)

sys.addaudithook(refuse)
"""
NOWHERE = {
    "PERENNIAL_ROOT": "s3://nowhere/models",
    "PERENNIAL_LEDGER_URL": "postgresql+psycopg://nowhere.invalid/ledger",
    "PERENNIAL_REGISTRY_URI": "http://nowhere.invalid:5000",
    "PERENNIAL_KUBEFLOW_ENDPOINT": "http://nowhere.invalid/pipeline",
}


def test_compile_asks_nothing_of_the_network(tmp_path):
    """With its places on servers that are not there, and where it may in a namespace of its own."""
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK)
    environment = {**os.environ, **NOWHERE, "PYTHONPATH": str(tmp_path)}
    ask = [sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 9))"]
    assert subprocess.run(ask, env=environment, capture_output=True).returncode == 97
    alone = ["unshare", "--map-root-user", "--net"]
    command = [] if subprocess.run([*alone, "true"], capture_output=True).returncode else alone
    target = tmp_path / "pipeline.yaml"
    command += [PERENNIAL, "compile", ROOT / "examples/digits", "-o", target]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert target.read_text() == (ROOT / "pipelines/compiled/digits.yaml").read_text()


DIGEST = "registry.example:5000/team/perennial@sha256:" + "a" * 64


@pytest.mark.parametrize("image", ["perennial:1.0", DIGEST])
def test_the_image_is_pinned_by_its_digest_and_a_tag_is_a_warning(tmp_path, image):
    project = make_project(tmp_path / "digits", kubeflow={"image": image})
    target = tmp_path / "pipeline.yaml"
    done = CliRunner().invoke(app, ["compile", str(project.folder), "-o", str(target)])
    assert done.exit_code == 0, done.output
    assert ("is named by a tag" in done.stderr) == (image != DIGEST)
    spec, _ = yaml.load_all(target.read_text(), yaml.CSafeLoader)
    assert {container["image"] for container in executors(spec).values()} == {image}


@pytest.mark.parametrize("image", ["perennial", "registry.example:5000/perennial", "p@sha256:12"])
def test_an_image_without_tag_and_digest_is_refused(image):
    with pytest.raises(ValidationError, match="image"):
        KubeflowSettings(image=image)
