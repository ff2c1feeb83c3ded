"""The manifests are as their schemas and rules say, and the check notices where they are not."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from perennial import __version__
from perennial.ledger.events import Ledger
from perennial.ledger.verification import verify_ledger
from serving import protocol
from tests.perennial.postgres import find_binaries
from tests.perennial.records import run_ended, run_started
from tests.perennial.registry import mlflow_server
from tests.session import serve_once

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tools"))
import manifests  # noqa: E402

SCRIPT = manifests.KUBERNETES / "base" / "backup.sh"
MLFLOW, SERVING = ("Deployment", "mlflow"), ("InferenceService", "perennial")


@pytest.fixture(scope="module")
def rendered():
    return {
        name: manifests.render(manifests.KUBERNETES / "overlays" / name)
        for name in manifests.OVERLAYS
    }


@pytest.fixture
def objects(rendered):
    return copy.deepcopy(rendered["laptop"])


def pick(objects, kind, name):
    return next(
        each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )


def container(objects, kind, name):
    (pod,) = (pod for owner, pod in manifests.pods(objects) if owner == f"{kind} {name}")
    return pod["containers"][0]


@pytest.mark.parametrize("overlay", manifests.OVERLAYS)
def test_both_overlays_keep_every_rule(rendered, overlay):
    assert manifests.check(rendered[overlay], Path("absent")) == []


def test_the_server_fits_kserves_definition_and_a_misspelt_field_does_not(rendered):
    if not manifests.CONTRACTS.exists():
        pytest.skip("the definitions of custom resources do not lie beside the repository")
    services = [pick(copy.deepcopy(objects), *SERVING) for objects in rendered.values()]
    assert manifests.check_schemas(services, manifests.CONTRACTS) == []
    service = services[0]
    service["spec"]["predictor"]["minReplica"] = 1
    service["spec"]["predictor"]["containers"][0]["startupProbe"]["periodSecond"] = 1
    found = " ".join(map(str, manifests.check_schemas([service], manifests.CONTRACTS)))
    assert "minReplica" in found and "periodSecond" in found


def test_a_misspelt_field_of_a_kind_of_kubernetes_is_named(objects):
    container(objects, *MLFLOW)["ports"][0]["prtocol"] = "TCP"
    (fault,) = manifests.check_schemas([pick(objects, *MLFLOW)], Path("absent"))
    assert "prtocol" in str(fault)


PLANTED = {
    "not latest": lambda o: container(o, *MLFLOW).update(image="perennial:latest"),
    "image host:5000/perennial must": lambda o: container(o, *MLFLOW).update(
        image="host:5000/perennial"
    ),
    "AWS_SECRET_ACCESS_KEY must come": lambda o: container(o, *MLFLOW)["env"].append(
        {"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}
    ),
    "URL with a password": lambda o: container(o, *MLFLOW)["args"].append("postgresql://a:b@c/d"),
    "made outside": lambda o: o.append(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"a": "b"}}
    ),
    "PERENNIAL_LEDGER must come": lambda o: pick(o, "ConfigMap", "perennial-places")["data"].update(
        PERENNIAL_LEDGER="postgresql://a:b@c/d"
    ),
    "reads the variable PERENNIAL_LEGDER_URL": lambda o: container(o, *SERVING)["env"].append(
        {"name": "PERENNIAL_LEGDER_URL", "value": "x"}
    ),
    "reads the variable MLFLOW_SERVER_ENABLE_JOBS": lambda o: container(o, *MLFLOW)["env"].append(
        {"name": "MLFLOW_SERVER_ENABLE_JOBS", "value": "false"}
    ),
    "no option --hots": lambda o: container(o, *SERVING)["args"].append("--hots"),
    "no command sevre": lambda o: container(o, *SERVING).update(args=["perennial", "sevre"]),
    "readOnlyRootFilesystem": lambda o: container(o, *MLFLOW)["securityContext"].pop(
        "readOnlyRootFilesystem"
    ),
    "capabilities": lambda o: container(o, *MLFLOW)["securityContext"]["capabilities"].update(
        add=["NET_ADMIN"]
    ),
    "runAsUser": lambda o: pick(o, *MLFLOW)["spec"]["template"]["spec"]["securityContext"].update(
        runAsUser=0
    ),
    "restricted Pod Security": lambda o: pick(o, "Namespace", "perennial")["metadata"][
        "labels"
    ].update({"pod-security.kubernetes.io/enforce": "baseline"}),
    "deny everything": lambda o: o.remove(pick(o, "NetworkPolicy", "default-deny")),
    "must not name everything": lambda o: pick(o, "NetworkPolicy", "names")["spec"]["egress"][0][
        "to"
    ].append({"ipBlock": {"cidr": "0.0.0.0/0"}}),
    "peers and ports": lambda o: pick(o, "NetworkPolicy", "names")["spec"]["egress"][0].pop("to"),
    "ServiceAccount perennial-registry must": lambda o: o.remove(
        pick(o, "ServiceAccount", "perennial-registry")
    ),
    "PersistentVolumeClaim projects must": lambda o: o.remove(
        pick(o, "PersistentVolumeClaim", "projects")
    ),
    "minReplicas": lambda o: pick(o, *SERVING)["spec"]["predictor"].update(minReplicas=0),
    "a PodDisruptionBudget": lambda o: o.remove(pick(o, "PodDisruptionBudget", "perennial")),
    "deploymentMode": lambda o: pick(o, *SERVING)["metadata"]["annotations"].clear(),
    "a startupProbe": lambda o: container(o, *SERVING).pop("startupProbe"),
    "must name its tokens": lambda o: container(o, *SERVING)["env"].pop(),
    "to end: 30": lambda o: pick(o, *SERVING)["spec"]["predictor"].update(
        terminationGracePeriodSeconds=30
    ),
}


@pytest.mark.parametrize("message", PLANTED)
def test_a_planted_fault_is_named(objects, message):
    PLANTED[message](objects)
    assert message in " | ".join(map(str, manifests.check_rules(objects)))


def test_the_grace_of_requests_is_the_servers_own():
    text = Path(protocol.__file__ or "").read_text()
    assert f"GRACE_SECONDS = {manifests.GRACE_SECONDS} " in text


def test_the_image_is_of_this_version(rendered):
    for objects in rendered.values():
        assert container(objects, *SERVING)["image"] == f"perennial:{__version__}"


def test_mlflow_answers_by_the_names_that_pods_and_probes_call_it(postgres):
    """It runs by the manifest's command and variables; that it keeps models, other tests tell."""
    server = serve_once(
        "mlflow", lambda folder: mlflow_server.start(postgres.new_database(), folder)
    )
    answers = {}
    for host in ("mlflow:5000", "mlflow.perennial.svc.cluster.local:5000", "evil.example"):
        url = f"{server.address}/api/2.0/mlflow/experiments/search?max_results=1"
        request = urllib.request.Request(url, headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answers[host] = response.status
        except urllib.error.HTTPError as refused:
            answers[host] = refused.code
    assert list(answers.values()) == [200, 200, 403]


def test_no_rule_of_the_store_removes_what_a_window_needs():
    document = json.loads((manifests.KUBERNETES / "lifecycle.json").read_text())
    assert manifests.check_lifecycle(document, manifests.longest_days()) == []
    rules = [
        {"ID": "all", "Filter": {"Prefix": ""}, "Expiration": {"Days": 400}},
        {"ID": "soon", "Filter": {"Prefix": "root/digits/unfinished/"}, "Expiration": {"Days": 7}},
        {"ID": "cold", "Filter": {"Prefix": ""}, "Transitions": [{"Days": 60}]},
    ]
    found = [str(fault) for fault in manifests.check_lifecycle({"Rules": rules}, 30)]
    assert [fault.split(":")[0] for fault in found] == [
        "lifecycle all",
        "lifecycle soon",
        "lifecycle cold",
    ]


def test_the_table_of_rights_is_what_the_manifests_give(rendered):
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    rows = re.findall(r"^\| `(perennial-\w+)` \| (.+?) \| (.+?) \| .+ \|$", page, re.M)
    documented = {
        (account, resource, verb)
        for account, resources, verbs in rows
        for resource in re.findall(r"`([^`]+)`", resources)
        for verb in verbs.split(", ")
    }
    accounts = {
        each["roleRef"]["name"]: each["subjects"][0]["name"]
        for each in rendered["production"]
        if each["kind"] == "RoleBinding"
    }
    given = set()
    for each in rendered["production"]:
        if each["kind"] == "Role":
            for rule in each["rules"]:
                for resource in rule["resources"]:
                    names = rule.get("resourceNames", [None])
                    given |= {
                        (
                            accounts[each["metadata"]["name"]],
                            f"{resource}/{name}" if name else resource,
                            verb,
                        )
                        for name in names
                        for verb in rule["verbs"]
                    }
        assert not each["kind"].startswith("ClusterRole")
    assert documented == given


def call(postgres_urls, *arguments):
    binaries = find_binaries()
    ledger, registry = postgres_urls
    environment = {**os.environ, "LEDGER_URL": ledger, "REGISTRY_URL": registry}
    environment["PATH"] = f"{binaries}:{environment['PATH']}"
    return subprocess.run(
        ["sh", SCRIPT, *map(str, arguments)], capture_output=True, text=True, env=environment
    )


def test_ledger_and_registry_come_back_whole_from_a_backup(postgres, tmp_path):
    import psycopg

    ledger, registry = postgres.new_ledger(), postgres.new_database()
    Ledger(ledger).append(run_started("r1"), run_ended("r1"))
    head = verify_ledger(Ledger(ledger), None)
    with psycopg.connect(registry.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE model_versions AS SELECT 7 AS version")
    done = call((ledger, registry), "backup", tmp_path)
    assert done.returncode == 0, done.stderr
    (backup,) = tmp_path.iterdir()
    assert done.stdout.strip() == str(backup)

    restored = postgres.new_database(), postgres.new_database()
    done = call(restored, "restore", backup)
    assert done.returncode == 0, done.stderr
    assert verify_ledger(Ledger(restored[0]), head) == head
    Ledger(restored[0]).append(run_started("r2"))
    with (
        psycopg.connect(restored[0].replace("+psycopg", "")) as connection,
        pytest.raises(psycopg.Error, match="append-only"),
    ):
        connection.execute("DELETE FROM events")
    with psycopg.connect(restored[1].replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT version FROM model_versions").fetchone() == (7,)

    refused = call(restored, "restore", backup)
    assert refused.returncode == 1 and "must be empty" in refused.stderr
    damaged = tmp_path / "damaged"
    shutil.copytree(backup, damaged)
    (damaged / "registry.dump").write_bytes(b"")
    fresh = postgres.new_database(), postgres.new_database()
    refused = call(fresh, "restore", damaged)
    assert refused.returncode == 1 and "must be whole" in refused.stderr
    failed = call((ledger, f"{registry}x"), "backup", tmp_path)
    assert failed.returncode != 0 and sorted(tmp_path.iterdir()) == sorted([backup, damaged])
