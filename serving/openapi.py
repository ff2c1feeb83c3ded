"""The description of the server's HTTP calls (OpenAPI 3.1), made from the model that serves.

Pure: no TensorFlow, no KServe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perennial.tasks import LATENT
from schemas.records import ModelContract
from serving.features import FLOATS, INTEGERS, Feature
from serving.inputs import DATATYPES, SIGNATURE
from serving.outputs import Output, all_outputs, task_outputs

Json = dict[str, Any]
_ERRORS = {
    "400": "The request does not fit the model, or is no JSON.",
    "401": "There is no token, or one that is not known.",
    "403": "The token is for something else.",
    "404": "There is no such model.",
    "413": "The body is too large.",
    "429": "The token has sent too many requests; `retry-after` says how long to wait.",
}


def describe_calls(
    name: str, contract: ModelContract, features: Sequence[Feature], key: str | None, tokens: bool
) -> Json:
    """Describes all calls of a server.

    Args:
        name: Of the model.
        contract: What it gives.
        features: What it takes.
        key: The feature that keys an instance, which may be sent with it; None: there is none.
        tokens: Whether clients must send a token.
    """
    answer = {"type": "object"}
    text = {"type": "string"}
    model = f"/v2/models/{name}"
    ready = _object({"name": text, "ready": {"type": "boolean"}})
    names = _object({"models": {"type": "array", "items": text}})
    paths = {
        "/": {"get": _get("Says that the server lives.", _object({"status": text}), probe=True)},
        "/v2/health/live": {
            "get": _get("Says that the server lives.", _object({"live": {"type": "boolean"}}), True)
        },
        "/v2/health/ready": {
            "get": _get(
                "Says that it answers, and whether it can read the ledger.",
                _object({"ready": {"type": "boolean"}, "ledger": text}),
                probe=True,
            )
        },
        "/v1/models": {"get": _get("Names the model.", names)},
        f"/v1/models/{name}": {"get": _get("Says that the model answers.", ready)},
        f"/v1/models/{name}:predict": {
            "post": _post(
                "Predicts instances.", _v1_request(features, key), _v1_answer(contract, name)
            )
        },
        "/v2": {"get": _get("Describes the server.", answer)},
        "/v2/models": {"get": _get("Names the model.", names)},
        model: {"get": _get("Describes the model's inputs and outputs.", answer)},
        f"{model}/ready": {"get": _get("Says that the model answers.", ready)},
        f"{model}/infer": {
            "post": _post(
                "Predicts tensors, by the Open Inference Protocol.",
                _v2_request(features, key, all_outputs(contract)),
                _v2_answer(all_outputs(contract)),
            )
        },
        "/metrics": {"get": _metrics()},
    }
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": f"Perennial: {name}", "version": "1"},
        "paths": paths,
    }
    if tokens:
        scheme = {"type": "http", "scheme": "bearer"}
        document["components"] = {"securitySchemes": {"token": scheme}}
        document["security"] = [{"token": []}]
    return document


def _object(properties: Json, required: Sequence[str] | None = None) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
    }


def _content(schema: Json) -> Json:
    return {"content": {"application/json": {"schema": schema}}}


def _responses(answer: Json, errors: Sequence[str]) -> Json:
    error = _content(_object({"error": {"type": "string"}}))
    given = {"200": {"description": "The answer."} | answer}
    return given | {code: {"description": _ERRORS[code]} | error for code in errors}


def _get(summary: str, answer: Json, probe: bool = False) -> Json:
    errors = [] if probe else ["401", "403", "404", "429"]
    call: Json = {"summary": summary, "responses": _responses(_content(answer), errors)}
    return call | ({"security": []} if probe else {})


def _metrics() -> Json:
    answer = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    errors = ["401", "403", "429"]
    return {"summary": "Gives Prometheus' metrics.", "responses": _responses(answer, errors)}


def _post(summary: str, request: Json, answer: Json) -> Json:
    body = {"required": True} | _content(request)
    return {
        "summary": summary,
        "requestBody": body,
        "responses": _responses(_content(answer), list(_ERRORS)),
    }


def _v1_request(features: Sequence[Feature], key: str | None) -> Json:
    properties = {feature.name: _value(feature) for feature in features}
    if key is not None and key not in properties:
        properties[key] = {"type": ["string", "integer"]}
    instance = _object(properties, [each.name for each in features if not each.optional])
    instance["additionalProperties"] = False
    latent = _object({LATENT: {"type": "boolean"}}, [])
    properties = {
        "instances": {"type": "array", "items": instance, "minItems": 1},
        "parameters": latent | {"additionalProperties": False},
        "signature_name": {"const": SIGNATURE},
    }
    return _object(properties, ["instances"]) | {"additionalProperties": False}


def _value(feature: Feature) -> Json:
    """Describes one instance's value; free lengths must agree with the first instance."""
    schema = _scalar(feature.dtype)
    for size in reversed(feature.shape):
        schema = {"type": "array", "items": schema}
        if size is not None:
            schema |= {"minItems": size, "maxItems": size}
    if feature.domain is not None:
        schema["description"] = feature.domain.describe()
    return {"anyOf": [schema, {"type": "null"}]} if feature.optional else schema


def _scalar(dtype: str) -> Json:
    if dtype in FLOATS:
        largest = float(np.finfo(dtype).max)
        return {"type": "number", "minimum": -largest, "maximum": largest}
    if dtype in INTEGERS:
        limits = np.iinfo(dtype)
        return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    return {"type": "string"}


def _v1_answer(contract: ModelContract, name: str) -> Json:
    tasks = {
        task.name: _object(
            {part: _output(output) for part, output in task_outputs(contract, task).items()}
        )
        for task in contract.tasks
    }
    prediction = next(iter(tasks.values())) if len(tasks) == 1 else _object(tasks)
    answer = {
        "predictions": {"type": "array", "items": prediction},
        "model_version": {"type": "string", "description": f"Of {name}."},
        "outside_domain": {"type": "object"},
    }
    return _object(answer, ["predictions", "model_version"])


def _output(output: Output) -> Json:
    number = {"type": "integer" if output.dtype in INTEGERS else "number"}
    if output.width is None:
        return number
    return {"type": "array", "items": number, "minItems": output.width, "maxItems": output.width}


def _v2_request(features: Sequence[Feature], key: str | None, outputs: Sequence[Output]) -> Json:
    names = [feature.name for feature in features]
    tensor = _object(
        {
            "name": {"enum": [*names, *([key] if key is not None and key not in names else [])]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"enum": sorted({*DATATYPES.values(), "BOOL", "FP16"})},
            "data": {"type": "array"},
            "parameters": {"type": "object"},
        },
        ["name", "shape", "datatype"],
    )
    output = _object({"name": {"enum": [each.name for each in outputs]}})
    properties = {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "items": tensor, "minItems": 1},
        "outputs": {"type": "array", "items": output},
    }
    return _object(properties, ["inputs"])


def _v2_answer(outputs: Sequence[Output]) -> Json:
    output = _object(
        {
            "name": {"enum": [each.name for each in outputs]},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"enum": sorted({DATATYPES[each.dtype] for each in outputs})},
            "data": {"type": "array"},
        },
        ["name", "shape", "datatype"],
    )
    properties = {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": output},
    }
    return _object(properties, ["model_name", "outputs"])
