"""Kubeflow Pipelines' swagger file as a contract: which calls there are, and which bodies they take.

It refuses what the real server refuses (unknown paths, methods and fields, values of another type)
and what that lets pass and nobody should send: unknown query parameters, and fields that the file
describes as the server's own output.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

FILE = Path(__file__).parents[3] / "shared" / "contracts" / "kfp-v2beta1.swagger.json"
ABSENT = "Kubeflow Pipelines' swagger file does not lie beside the repository"
_REQUIRED = re.compile(r"Required input(?! if)|Input\. Required")
_OUTPUT = re.compile(r"Output\. ")


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


@dataclass(frozen=True)
class Operation:
    """A call that the file describes."""

    id: str
    method: str
    path: re.Pattern[str]
    parameters: list[dict[str, Any]]
    answer: dict[str, Any]

    def located(self, place: str) -> dict[str, dict[str, Any]]:
        """Its parameters of one place (path, query, body, formData), by name."""
        return {each["name"]: each for each in self.parameters if each["in"] == place}


class Contract:
    """The calls of a swagger file."""

    def __init__(self, swagger: dict[str, Any]) -> None:
        self.definitions = swagger["definitions"]
        self.operations = [
            Operation(
                each["operationId"],
                method.upper(),
                _pattern(path),
                each.get("parameters", []),
                each["responses"]["200"].get("schema", {}),
            )
            for path, methods in swagger["paths"].items()
            for method, each in methods.items()
        ]

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:
        """The call of a method and a path, and what the path names."""
        matches = [(each, each.path.fullmatch(path)) for each in self.operations]
        of_path = [(each, match) for each, match in matches if match]
        if not of_path:
            raise Refusal(404, f"Not Found: {path}")
        for operation, match in of_path:
            if operation.method == method:
                names = operation.located("path")
                return operation, dict(zip(names, match.groups(), strict=True))
        raise Refusal(405, f"Method Not Allowed: {method} {path}")

    def read_query(self, operation: Operation, query: str) -> dict[str, str]:
        """The query's parameters, each of which the file describes."""
        known = operation.located("query")
        values = dict(parse_qsl(query, keep_blank_values=True))
        for name, value in values.items():
            if name not in known:
                raise Refusal(400, f"unknown query parameter {name}")
            if known[name]["type"] == "integer" and not value.isdecimal():
                raise Refusal(400, f"query parameter {name} must be an integer: {value}")
            if value not in known[name].get("enum", [value]):
                raise Refusal(400, f"query parameter {name} has no value {value}")
        return values

    def read_body(self, operation: Operation, text: bytes) -> dict[str, Any] | None:
        """The body of a call; None for a call without one."""
        bodies = operation.located("body")
        if not bodies:
            if text.strip() not in (b"", b"{}"):
                raise Refusal(400, f"{operation.id} takes no body")
            return None
        ((name, parameter),) = bodies.items()
        if not text:
            raise Refusal(400, f"the body {name} is required")
        try:
            body = json.loads(text)
        except ValueError as error:
            raise Refusal(400, f"the body must be JSON: {error}") from None
        self.check(body, parameter["schema"], name, is_input=True)
        return body

    def check(self, value: Any, schema: dict[str, Any], where: str, is_input: bool = False) -> None:
        """Refuses a value that is not as a schema says."""
        while "$ref" in schema:
            schema = self.definitions[schema["$ref"].rpartition("/")[2]]
        kind = schema.get("type")
        if kind == "object":
            self._check_object(value, schema, where, is_input)
        elif kind == "array":
            if not isinstance(value, list):
                raise Refusal(400, f"{where} must be a list")
            for number, item in enumerate(value):
                self.check(item, schema["items"], f"{where}[{number}]", is_input)
        elif kind is not None and not _fits(value, kind, schema):
            raise Refusal(400, f"{where}: {value!r} is not a {schema.get('format') or kind}")

    def _check_object(self, value: Any, schema: dict[str, Any], where: str, is_input: bool) -> None:
        if not isinstance(value, dict):
            raise Refusal(400, f"{where} must be an object")
        properties, others = schema.get("properties"), schema.get("additionalProperties")
        for name, item in value.items():
            if properties and name in properties:
                if is_input and _OUTPUT.match(properties[name].get("description", "")):
                    raise Refusal(400, f"{where}.{name} is the server's own output")
                self.check(item, properties[name], f"{where}.{name}", is_input)
            elif others is not None:
                self.check(item, others, f"{where}.{name}", is_input)
            elif properties is not None:
                raise Refusal(400, f"{where}: unknown field {name}")
        for name, described in (properties or {}).items():
            required = _REQUIRED.match(described.get("description", ""))
            if is_input and required and value.get(name) in (None, ""):
                raise Refusal(400, f"{where}.{name} is required")


@cache
def load_contract() -> Contract:
    """The contract of the file that lies beside the repository."""
    return Contract(json.loads(FILE.read_text(encoding="utf-8")))


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("".join(_piece(piece) for piece in re.split(r"(\{[^}]*\})", path)))


def _piece(piece: str) -> str:
    return "([^/:]+)" if piece.startswith("{") else re.escape(piece)


def _fits(value: Any, kind: str, schema: dict[str, Any]) -> bool:
    form = schema.get("format")
    if form == "int64":  # protobuf's JSON takes both
        text = str(value)
        return isinstance(value, str | int) and text.lstrip("-").isdecimal()
    if form == "date-time":
        try:
            return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
        except ValueError:
            return False
    if kind == "string":
        return isinstance(value, str) and value in schema.get("enum", [value])
    if kind == "boolean":
        return isinstance(value, bool)
    return isinstance(value, int) and not isinstance(value, bool)
