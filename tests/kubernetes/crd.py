"""Custom resource definitions as contracts: an object with a field that they do not describe is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parents[3] / "shared" / "contracts"
ABSENT = "Kubeflow Trainer's definitions do not lie beside the repository"
# Of the metadata, which no definition describes: what a client may write.
_METADATA = {"name", "namespace", "labels", "annotations"}
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_QUALIFIED = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


@dataclass(frozen=True)
class Definition:
    """One version of a custom resource."""

    group: str
    version: str
    kind: str
    plural: str
    validator: Draft202012Validator

    @property
    def path(self) -> str:
        """Where the API server has its objects, with a place for the namespace."""
        return f"/apis/{self.group}/{self.version}/namespaces/{{namespace}}/{self.plural}"

    def check(self, value: Any) -> None:
        """Refuses an object that the API server would refuse, or whose fields it would drop."""
        if value.get("apiVersion") != f"{self.group}/{self.version}" or value["kind"] != self.kind:
            raise Refusal(400, f"the object is not a {self.kind} of {self.group}/{self.version}")
        metadata = value.get("metadata", {})
        if unknown := set(metadata) - _METADATA:
            raise Refusal(400, f"metadata: unknown fields {sorted(unknown)}")
        if not _NAME.fullmatch(metadata.get("name", "")):
            raise Refusal(422, "metadata.name must match RFC 1035 DNS label format")
        for name, label in metadata.get("labels", {}).items():
            if not _QUALIFIED.fullmatch(name) or not _LABEL.fullmatch(label):
                raise Refusal(422, f"metadata.labels: {name}: {label}")
        if bad := [name for name in metadata.get("annotations", {}) if not _QUALIFIED.match(name)]:
            raise Refusal(422, f"metadata.annotations: {bad}")
        errors = sorted(self.validator.iter_errors(value), key=str)
        if errors:
            where = ".".join(map(str, errors[0].absolute_path))
            raise Refusal(422, f"{where}: {errors[0].message}")


@cache
def load_definition(name: str) -> Definition:
    """The definition of the file `trainer-NAME.crd.yaml`."""
    crd = yaml.safe_load((FOLDER / f"trainer-{name}.crd.yaml").read_text(encoding="utf-8"))["spec"]
    (version,) = crd["versions"]
    assert crd["scope"] == "Namespaced"
    validator = Draft202012Validator(_strict(version["schema"]["openAPIV3Schema"]))
    names = crd["names"]
    return Definition(crd["group"], version["name"], names["kind"], names["plural"], validator)


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema that says what a structural schema means, and refuses unknown fields."""
    made = {key: value for key, value in schema.items() if key not in ("default", "format")}
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    if "properties" in schema:
        properties = {name: _strict(each) for name, each in schema["properties"].items()}
        made["properties"] = properties
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = _strict(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = _strict(schema["items"])
    return made
