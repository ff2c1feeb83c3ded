"""Checks the Kubernetes manifests as kustomize renders them, without a cluster.

Usage: python tools/manifests.py. Prints what is wrong, one line each, and ends with exit code 1 if
anything is. The schemas of custom resources are read from `../shared/contracts`; where that folder
is absent, they are not checked, and a line says so.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
KUBERNETES = ROOT / "infra" / "kubernetes"
OVERLAYS = ("laptop", "production")
CONTRACTS = ROOT.parent / "shared" / "contracts"
VERSION = "1.34"
USER = 10001
GRACE_SECONDS = 20  # of serving/protocol.py, for requests in flight
CUSTOM = {
    "InferenceService": "kserve-inferenceservices.crd.yaml",
    "TrainingRuntime": "trainer-trainingruntimes.crd.yaml",
}
# Variables that libraries read, by prefix or name; those of the product are looked up in its code.
LIBRARIES = {
    "MLFLOW_": (
        "mlflow/environment_variables.py",
        "mlflow/cli/__init__.py",
        "mlflow/utils/cli_args.py",
    ),
    "AWS_": ("botocore/configprovider.py",),
}
OTHERS = {
    "DO_NOT_TRACK": "a convention of several libraries",
    "LEDGER_URL": "infra/kubernetes/base/backup.sh",
    "REGISTRY_URL": "infra/kubernetes/base/backup.sh",
    "POSTGRES_USER": "the image of PostgreSQL",
    "POSTGRES_PASSWORD": "the image of PostgreSQL",
    "POSTGRES_DB": "the image of PostgreSQL",
    "PGDATA": "the image of PostgreSQL",
}
# But for paths: a file of secrets is mounted, and its name is none.
_SECRET_NAME = re.compile(r"(?:PASSWORD|SECRET|TOKEN|ACCESS_KEY|_KEY$)(?!.*_FILE$)")
_PASSWORD_IN_URL = re.compile(r"://[^/\s:@]+:[^/\s@]+@")

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Fault:
    """What is wrong with an object: where, and what must be."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def render(overlay: Path) -> list[dict[str, Any]]:
    """Renders an overlay by the kubectl of the environment."""
    kubectl = Path(sys.executable).with_name("kubectl")
    text = subprocess.run(
        [kubectl, "kustomize", overlay], check=True, capture_output=True, text=True
    ).stdout
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def check(objects: list[dict[str, Any]], contracts: Path = CONTRACTS) -> list[Fault]:
    """Checks the objects of an overlay by all rules."""
    return check_schemas(objects, contracts) + check_rules(objects)


def check_rules(objects: list[dict[str, Any]]) -> list[Fault]:
    """Checks the objects by all rules but their schemas."""
    rules = (
        check_images,
        check_secrets,
        check_pods,
        check_variables,
        check_commands,
        check_networks,
        check_references,
        check_serving,
    )
    return [fault for rule in rules for fault in rule(objects)]


def check_schemas(objects: list[dict[str, Any]], contracts: Path) -> list[Fault]:
    """Checks the objects by their schemas; unknown fields are refused."""
    import kubernetes_validate
    from jsonschema import Draft202012Validator

    faults = []
    schemas: dict[str, Draft202012Validator] = {}
    for each in objects:
        if each["kind"] not in CUSTOM:
            try:
                kubernetes_validate.validate(each, VERSION, strict=True)
            except (
                kubernetes_validate.ValidationError,
                kubernetes_validate.SchemaNotFoundError,
            ) as error:
                faults.append(Fault(_name(each), str(error.message)))
            continue
        file = contracts / CUSTOM[each["kind"]]
        if not file.exists():
            continue
        if each["kind"] not in schemas:
            schemas[each["kind"]] = Draft202012Validator(custom_schema(file, each["apiVersion"]))
        faults += [
            Fault(_name(each), f"{'.'.join(map(str, error.absolute_path))}: {error.message}")
            for error in schemas[each["kind"]].iter_errors(each)
        ]
    return faults


@cache
def custom_schema(file: Path, version: str) -> dict[str, Any]:
    """Makes a JSON schema that refuses unknown fields of a custom resource's definition."""
    definition = yaml.load(file.read_text(), yaml.CSafeLoader)
    (schema,) = (
        each["schema"]["openAPIV3Schema"]
        for each in definition["spec"]["versions"]
        if f"{definition['spec']['group']}/{each['name']}" == version
    )
    closed = _close(schema)
    closed["properties"]["metadata"] = {"type": "object"}
    result: dict[str, Any] = closed
    return result


def _close(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_close(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _close(value) for key, value in schema.items()}
    open_object = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get(
        "additionalProperties"
    )
    if isinstance(schema.get("properties"), dict) and "type" in schema and not open_object:
        closed["additionalProperties"] = False
    return closed


def check_images(objects: list[dict[str, Any]]) -> Iterator[Fault]:
    """Checks that each image has a digest, or a tag that is not `latest`."""
    for owner, pod in pods(objects):
        for container in containers(pod):
            image = str(container.get("image", ""))
            _, _, tag = image.rpartition("/")[2].partition(":")
            if "@sha256:" not in image and tag in ("", "latest"):
                yield Fault(owner, f"image {image} must have a digest or a tag that is not latest")


def check_secrets(objects: list[dict[str, Any]]) -> Iterator[Fault]:
    """Checks that values of secrets come by reference only."""
    for each in objects:
        if each["kind"] == "Secret":
            yield Fault(_name(each), "secrets are made outside of the manifests")
        if each["kind"] == "ConfigMap":
            for key, value in each.get("data", {}).items():
                if _SECRET_NAME.search(key) or _PASSWORD_IN_URL.search(value):
                    yield Fault(_name(each), f"{key} must come from a secret")
    for owner, pod in pods(objects):
        for container in containers(pod):
            for variable in container.get("env", []):
                value = variable.get("value")
                if value is not None and (
                    _SECRET_NAME.search(variable["name"]) or _PASSWORD_IN_URL.search(value)
                ):
                    yield Fault(owner, f"{variable['name']} must come from a secret")
            for argument in (*container.get("command", []), *container.get("args", [])):
                if _PASSWORD_IN_URL.search(argument):
                    yield Fault(owner, "a URL with a password must come from a secret")


def check_pods(objects: list[dict[str, Any]]) -> Iterator[Fault]:
    """Checks pods by the restricted standard of Pod Security, and by this product's own rules."""
    for each in objects:
        if each["kind"] == "Namespace":
            level = each["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
            if level != "restricted":
                yield Fault(_name(each), f"must enforce restricted Pod Security, not {level}")
    for owner, pod in pods(objects):
        context = pod.get("securityContext", {})
        required = {"runAsNonRoot": True, "runAsUser": USER}
        for key, value in required.items():
            if context.get(key) != value:
                yield Fault(owner, f"securityContext.{key} must be {value}")
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield Fault(owner, "securityContext.seccompProfile must be RuntimeDefault")
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.get(key):
                yield Fault(owner, f"{key} must not be set")
        for volume in pod.get("volumes", []):
            if "hostPath" in volume:
                yield Fault(owner, f"volume {volume['name']} must not be a hostPath")
        if pod.get("automountServiceAccountToken") is not False:
            yield Fault(owner, "automountServiceAccountToken must be false")
        for container in containers(pod):
            yield from _check_container(owner, container)


def _check_container(owner: str, container: Object) -> Iterator[Fault]:
    context = container.get("securityContext", {})
    where = f"{owner} {container['name']}"
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield Fault(where, "allowPrivilegeEscalation must be false")
    if context.get("readOnlyRootFilesystem") is not True:
        yield Fault(where, "readOnlyRootFilesystem must be true")
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield Fault(where, "capabilities must drop ALL and add none")
    if context.get("runAsUser", USER) != USER or context.get("runAsNonRoot") is False:
        yield Fault(where, f"must run as user {USER}")
    resources = container.get("resources", {})
    if {"cpu", "memory"} - set(resources.get("requests", {})) or "memory" not in resources.get(
        "limits", {}
    ):
        yield Fault(where, "must request processors and memory, and limit memory")


def check_variables(objects: list[dict[str, Any]]) -> Iterator[Fault]:
    """Checks that something reads each environment variable that is set."""
    known = product_variables()
    for owner, pod in pods(objects):
        for container in containers(pod):
            for variable in container.get("env", []):
                name = variable["name"]
                if name not in known and name not in OTHERS and not _read_by_library(name):
                    yield Fault(owner, f"nothing reads the variable {name}")


@cache
def product_variables() -> frozenset[str]:
    """Finds the environment variables that the product's code names."""
    names = set()
    for package in ("perennial", "serving", "components"):
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text()
            if "PERENNIAL_" not in text:
                continue
            names |= {
                node.value
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.fullmatch(r"PERENNIAL_[A-Z_]+", node.value)
            }
    return frozenset(names)


@cache
def _read_by_library(name: str) -> bool:
    packages = Path(yaml.__file__).parents[1]
    for prefix, files in LIBRARIES.items():
        if name.startswith(prefix):
            texts = [(packages / file).read_text() for file in files if (packages / file).exists()]
            return any(name in text for text in texts)
    return False


def check_commands(objects: list[dict[str, Any]]) -> Iterator[Fault]:
    """Checks that the product has the commands and options that pods run."""
    import typer

    from perennial.cli.main import app

    for owner, pod in pods(objects):
        for container in containers(pod):
            program, *words = container.get("args", []) or [""]
            if program != "perennial":
                continue
            command: Any = typer.main.get_command(app)
            while words and hasattr(command, "commands"):
                word = words.pop(0)
                if word not in command.commands:
                    yield Fault(owner, f"perennial has no command {word}")
                    break
                command = command.commands[word]
            else:
                options = {option for each in command.params for option in each.opts}
                for word in words:
                    if word.startswith("-") and word not in options:
                        yield Fault(owner, f"perennial {command.name} has no option {word}")


def check_networks(objects: list[dict[str, Any]]) -> Iterator[Fault]:
    """Checks that all is denied first, and that every policy names its peers and ports."""
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    denied = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if not any(each["spec"] == denied for each in policies):
        yield Fault("NetworkPolicy", "one must deny everything to all pods")
    for each in policies:
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in each["spec"].get(direction, []):
                if not rule.get(peers) or not rule.get("ports"):
                    yield Fault(_name(each), f"{direction} must name its peers and ports")
                for peer in rule.get(peers, []):
                    selectors = [peer.get("podSelector"), peer.get("namespaceSelector")]
                    if str(peer.get("ipBlock", {}).get("cidr", "")).endswith("/0") or {} in (
                        selectors
                    ):
                        yield Fault(_name(each), f"{direction} must not name everything")


def check_references(objects: list[dict[str, Any]]) -> Iterator[Fault]:
    """Checks that accounts, config maps and claims that pods name are there."""
    there = {(each["kind"], each["metadata"]["name"]) for each in objects}
    for owner, pod in pods(objects):
        named = [("ServiceAccount", pod.get("serviceAccountName", "default"))]
        for volume in pod.get("volumes", []):
            if "configMap" in volume:
                named.append(("ConfigMap", volume["configMap"]["name"]))
            if "persistentVolumeClaim" in volume:
                named.append(
                    ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
                )
        for container in containers(pod):
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("configMapKeyRef")
                if reference:
                    named.append(("ConfigMap", reference["name"]))
        for kind, name in named:
            if (kind, name) not in there:
                yield Fault(owner, f"{kind} {name} must be there")


def check_serving(objects: list[dict[str, Any]]) -> Iterator[Fault]:
    """Checks that servers start, end and are moved without a request lost."""
    budgets = [each for each in objects if each["kind"] == "PodDisruptionBudget"]
    for each in objects:
        if each["kind"] != "InferenceService":
            continue
        predictor, where = each["spec"]["predictor"], _name(each)
        for container in predictor["containers"]:
            named = {variable["name"] for variable in container.get("env", [])}
            if "PERENNIAL_TOKEN_FILE" not in named:
                yield Fault(where, "must name its tokens, as it listens beyond loopback")
        if predictor.get("minReplicas", 1) < 1:
            yield Fault(where, "minReplicas must be at least 1")
        mode = each["metadata"].get("annotations", {}).get("serving.kserve.io/deploymentMode")
        if mode != "Standard":
            yield Fault(where, f"deploymentMode must be Standard, not {mode}")
        selector = {"serving.kserve.io/inferenceservice": each["metadata"]["name"]}
        if not any(budget["spec"]["selector"].get("matchLabels") == selector for budget in budgets):
            yield Fault(where, "must have a PodDisruptionBudget")
        (container,) = predictor["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe not in container:
                yield Fault(where, f"must have a {probe}")
        waits = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace = predictor.get("terminationGracePeriodSeconds", 30)
        if not waits or grace <= waits + GRACE_SECONDS:
            yield Fault(
                where, f"must have more than preStop and {GRACE_SECONDS} seconds to end: {grace}"
            )


def check_lifecycle(document: Object, days: int) -> list[Fault]:
    """Checks rules of an object store: they may remove nothing that a run of the window needs.

    Contents are stored once and read by every later run that needs them, so their age says nothing.

    Args:
        document: Rules as S3 takes them.
        days: The longer of the window and of what `perennial clean` keeps.
    """
    faults = []
    for rule in document["Rules"]:
        where = f"lifecycle {rule['ID']}"
        prefix = rule.get("Filter", {}).get("Prefix", "")
        if "Expiration" in rule and not prefix.rstrip("/").endswith("unfinished"):
            faults.append(Fault(where, "may remove unfinished work only; perennial clean the rest"))
        for action, key in (
            ("Expiration", "Days"),
            ("NoncurrentVersionExpiration", "NoncurrentDays"),
        ):
            if action in rule and rule[action].get(key, 0) < days:
                faults.append(Fault(where, f"{action} must be {days} days or more"))
        if any("Transition" in action for action in rule):
            faults.append(
                Fault(where, "must not move objects to where they cannot be read at once")
            )
    return faults


def pods(objects: Iterable[Object]) -> Iterator[tuple[str, Object]]:
    """Gives the pod specifications of all objects, with the objects' names."""
    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] == "InferenceService":
            yield _name(each), spec["predictor"]
        elif each["kind"] == "TrainingRuntime":
            for job in spec["template"]["spec"]["replicatedJobs"]:
                yield _name(each), job["template"]["spec"]["template"]["spec"]
        elif each["kind"] == "CronJob":
            yield _name(each), spec["jobTemplate"]["spec"]["template"]["spec"]
        elif "template" in spec and "spec" in spec["template"]:
            yield _name(each), spec["template"]["spec"]


def containers(pod: Object) -> list[dict[str, Any]]:
    """Lists the containers of a pod, those that start it too."""
    return [*pod.get("initContainers", []), *pod.get("containers", [])]


def _name(each: Object) -> str:
    return f"{each['kind']} {each['metadata']['name']}"


def main() -> int:
    """Checks both overlays and the lifecycle; gives the exit code."""
    faults = []
    for overlay in OVERLAYS:
        faults += [
            f"{overlay}: {fault}" for fault in check(render(KUBERNETES / "overlays" / overlay))
        ]
    lifecycle = json.loads((KUBERNETES / "lifecycle.json").read_text())
    faults += map(str, check_lifecycle(lifecycle, longest_days()))
    print("\n".join(faults) or f"{len(OVERLAYS)} overlays are as their schemas and rules say")
    if not CONTRACTS.exists():
        print("not checked: custom resources, as ../shared/contracts is absent")
    return 1 if faults else 0


def longest_days() -> int:
    """Gives the longest window of the examples, in days of one span, or what clean keeps."""
    windows = [
        yaml.safe_load(file.read_text())["data"].get("window", 1)
        for file in (ROOT / "examples").glob("*/project.yaml")
    ]
    return max([30, *(window for window in windows if isinstance(window, int))])


if __name__ == "__main__":
    sys.exit(main())
