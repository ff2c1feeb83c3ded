"""The TrainJob and its runtime are what Kubeflow Trainer's definitions describe."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml

from components.train_model.train_job import TrainJob
from components.train_model.worker import HOSTS, INDEX, join_cluster, main
from perennial.errors import ProjectError
from perennial.training.strategy import CLUSTER
from schemas.project import KubeflowSettings
from tests.kubernetes.crd import ABSENT, FOLDER, Refusal, load_definition

RUNTIME = Path(__file__).parents[3] / "infra" / "kubernetes" / "base" / "training-runtime.yaml"
TPU = {
    "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
    "cloud.google.com/gke-tpu-topology": "2x4",
}
KUBEFLOW = KubeflowSettings.model_validate(
    {
        "image": "registry.example/perennial:1",
        "service_account": "perennial-steps",
        "task_minutes": 90,
        "secrets": [{"name": "places", "variables": {"ledger": "LEDGER"}, "folder": "/secrets"}],
        "config_maps": [{"name": "regions", "variables": {"region": "AWS_REGION"}, "folder": "/c"}],
        "volumes": [{"claim": "projects", "folder": "/projects"}],
        "image_pull_secrets": ["registry"],
        "training": {
            "cpu": "8",
            "memory": "32Gi",
            "accelerator": "google.com/tpu",
            "accelerators": 8,
            "node_selector": TPU,
            "tolerations": [
                {"key": "google.com/tpu", "effect": "NoSchedule"},
                {"key": "a", "value": "b"},
            ],
        },
    }
)
URI = "s3://roots/digits/unfinished/train_workers/0123456789abcdef0123/job-1.json"


def train_job(project="digits", kubeflow=KUBEFLOW):
    return TrainJob(
        project, "instance-1", "0123456789abcdef0123", URI, 2, kubeflow, "run-1.step", {"A": "b"}
    )


def pod_patch(manifest):
    (patch,) = manifest["spec"]["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


@pytest.fixture
def definition():
    if not FOLDER.is_dir():
        pytest.skip(ABSENT)
    return load_definition("trainjobs")


@pytest.mark.parametrize("kubeflow", [KUBEFLOW, KubeflowSettings()])
@pytest.mark.parametrize("project", ["digits", "a-" * 30 + "z"])
def test_the_job_is_one_that_the_definition_describes(definition, kubeflow, project):
    job = train_job(project, kubeflow)
    definition.check(job.manifest())
    assert all(len(label) <= 63 for host in job.hosts for label in host.split("."))


def test_a_misspelt_field_anywhere_is_refused(definition):
    whole = train_job().manifest()

    def places(value):
        if isinstance(value, dict) and value:
            yield value
        for each in value.values() if isinstance(value, dict) else value:
            if isinstance(each, dict | list):
                yield from places(each)

    free = {"labels", "annotations", "nodeSelector", "requests", "limits"}
    free_maps = [
        json.dumps(TPU),
        *[json.dumps(whole["metadata"][name]) for name in free & set(whole["metadata"])],
    ]
    free_maps += [
        json.dumps(each) for each in whole["spec"]["trainer"]["resourcesPerNode"].values()
    ]
    count = len(list(places(whole)))
    assert count > 20
    for number in range(count):
        changed = copy.deepcopy(whole)
        place = list(places(changed))[number]
        if json.dumps(place) in free_maps:
            continue
        place["misspelt"] = {}
        with pytest.raises(Refusal):
            definition.check(changed)


def test_workers_have_what_a_step_that_trains_has():
    job, spec = train_job(), train_job().manifest()["spec"]
    trainer, pod = spec["trainer"], pod_patch(job.manifest())
    assert spec["activeDeadlineSeconds"] == 90 * 60 and trainer["numNodes"] == 2
    assert (
        spec["runtimeRef"]["name"]
        == yaml.safe_load_all(RUNTIME.read_text()).__next__()["metadata"]["name"]
    )
    assert [*trainer["command"], *trainer["args"]][-2:] == ["components.train_model.worker", URI]
    assert trainer["resourcesPerNode"]["limits"] == {"memory": "32Gi", "google.com/tpu": "8"}
    env = {each["name"]: each.get("value") or each["valueFrom"] for each in trainer["env"]}
    assert env[HOSTS].split(",") == [f"{host}:2222" for host in job.hosts]
    assert job.hosts[1] == "digits-0123456789abcdef-node-0-1.digits-0123456789abcdef"
    assert env["LEDGER"] == {"secretKeyRef": {"name": "places", "key": "ledger"}}
    assert env["AWS_REGION"] == {"configMapKeyRef": {"name": "regions", "key": "region"}}
    assert pod["nodeSelector"] == TPU and pod["serviceAccountName"] == "perennial-steps"
    assert pod["tolerations"] == [
        {"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "a", "operator": "Equal", "value": "b"},
    ]
    (container,) = pod["containers"]
    mounts = {
        mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]
    }
    assert mounts == {"/secrets": True, "/c": True, "/projects": False}
    assert {volume["name"] for volume in pod["volumes"]} == {
        mount["name"] for mount in container["volumeMounts"]
    }


def test_the_runtime_is_one_that_the_definition_describes(definition):
    runtime, role, *_ = yaml.safe_load_all(RUNTIME.read_text())
    load_definition("trainingruntimes").check(runtime)
    assert role["kind"] == "Role"
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (job["name"], container["name"], pod["restartPolicy"]) == ("node", "node", "Never")
    with pytest.raises(Refusal, match=r"spec\.mlPolicy"):
        load_definition("trainingruntimes").check(
            runtime | {"spec": runtime["spec"] | {"mlPolicy": {"nodes": 2}}}
        )


def test_a_worker_learns_of_the_others_from_its_number_in_the_job():
    environment = {HOSTS: "a:1,b:2", INDEX: "1"}
    assert join_cluster(environment) == 1
    assert json.loads(environment[CLUSTER]) == {
        "cluster": {"worker": ["a:1", "b:2"]},
        "task": {"type": "worker", "index": 1},
    }
    assert join_cluster({CLUSTER: environment[CLUSTER]}) == 1
    for wrong in ({}, {HOSTS: "a:1"}, {HOSTS: "a:1", INDEX: "1"}, {HOSTS: "a:1", INDEX: "x"}):
        with pytest.raises(ProjectError, match=INDEX):
            join_cluster(wrong)


def test_a_worker_without_a_description_says_so(capsys, monkeypatch):
    assert main([]) == 2 and "URI" in capsys.readouterr().err
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main(["s3://roots/digits/job.json"]) == 1
    assert "must name a part of unfinished work" in capsys.readouterr().err
