"""From a request to its answer, in both of KServe's protocols, by one model.

Runs in a worker thread: parsing, conversion and the model's call never hold up the event loop.
Like `serving.protocol`, to be imported inside functions.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse

from perennial.errors import InputError
from perennial.tasks import LATENT
from schemas.records import ServedTask
from serving.domains import DomainCheck
from serving.inputs import (
    DATATYPES,
    Tensor,
    check_keys,
    check_outputs,
    from_v1,
    from_v2,
    parse_json,
    wants_latent,
)
from serving.outputs import Output, all_outputs, prediction_outputs, task_outputs
from serving.runtime import LoadedModel, Predictions

V1Answer = dict[str, Any]
TensorMetadata = dict[str, Any]
_OUTSIDE = "outside_domain"


def answer_v1(payload: object, model: LoadedModel, domains: DomainCheck) -> V1Answer:
    """Answers `{"instances": [...]}`, parsed or as bytes, with `predictions` and `model_version`.

    A prediction of one classification task is `{"class": 1, "probabilities": [0.2, 0.8]}`, of one
    regression `{"value": 12.5}`; of several tasks it holds that of each by its name: `{"tipped":
    {...}, "fare": {...}}`. The latent vector stands in it as `latent` when the request has
    `"parameters": {"latent": true}`. Values outside the schema's domains are told as
    `outside_domain`.

    Raises:
        InputError: The payload does not fit the model.
    """
    parsed = parse_json(payload) if isinstance(payload, bytes) else payload
    check_keys(parsed)
    names = [output.name for output in prediction_outputs(model.contract)]
    if wants_latent(parsed):
        names.append(_require_latent(model))
    arrays = from_v1(parsed, model.features, model.contract.missing)
    flags = domains.check(arrays, model.features)
    outputs = model.predict(arrays, names)
    predictions = _predictions(outputs, model)
    if LATENT in outputs:
        pairs = zip(predictions, outputs[LATENT].tolist(), strict=True)
        predictions = [prediction | {LATENT: latent} for prediction, latent in pairs]
    answer: V1Answer = {"predictions": predictions, "model_version": model.version}
    return answer | {_OUTSIDE: flags.as_json()} if flags else answer


def answer_v2(request: InferRequest, model: LoadedModel, domains: DomainCheck) -> InferResponse:
    """Answers a request of the Open Inference Protocol: the outputs that it asks for, or all.

    Outputs are `class`, `probabilities` and `value`, behind the task's name where there are several
    tasks (`fare_value`). `latent` is given only when it is asked for. Values outside the schema's
    domains are told in the parameter `outside_domain`.

    Raises:
        InputError: The request does not fit the model.
    """
    known = {output.name: output for output in all_outputs(model.contract)}
    asked = [output.name for output in request.request_outputs or []]
    check_outputs(asked, list(known))
    requested = [known[name] for name in dict.fromkeys(asked)] or prediction_outputs(model.contract)
    tensors = [Tensor(item.name, item.shape, item.datatype, item.data) for item in request.inputs]
    arrays = from_v2(tensors, model.features, model.contract.missing)
    flags = domains.check(arrays, model.features)
    outputs = model.predict(arrays, [output.name for output in requested])
    return InferResponse(
        response_id=request.id or str(uuid.uuid4()),
        model_name=model.name,
        model_version=model.version,
        infer_outputs=_infer_outputs(outputs, requested),
        parameters={_OUTSIDE: flags.as_text()} if flags else None,
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )


def input_metadata(model: LoadedModel) -> list[TensorMetadata]:
    """Describes the features for the protocol: name, datatype and shape; -1 is a free length.

    The protocol has no field to say which may be left out.
    """
    return [
        {
            "name": feature.name,
            "datatype": DATATYPES[feature.dtype],
            "shape": [-1, *(-1 if size is None else size for size in feature.shape)],
        }
        for feature in model.features
    ]


def output_metadata(model: LoadedModel) -> list[TensorMetadata]:
    """Describes the outputs for the protocol."""
    return [
        {
            "name": output.name,
            "datatype": DATATYPES[output.dtype],
            "shape": [-1] if output.width is None else [-1, output.width],
        }
        for output in all_outputs(model.contract)
    ]


def _predictions(outputs: Predictions, model: LoadedModel) -> list[dict[str, Any]]:
    """Makes one object for each instance."""
    tasks = model.contract.tasks
    by_task = {task.name: _task_rows(outputs, model, task) for task in tasks}
    if len(tasks) == 1:
        return by_task[tasks[0].name]
    return [dict(zip(by_task, rows, strict=True)) for rows in zip(*by_task.values(), strict=True)]


def _task_rows(outputs: Predictions, model: LoadedModel, task: ServedTask) -> list[dict[str, Any]]:
    parts = {
        part: outputs[output.name].tolist()
        for part, output in task_outputs(model.contract, task).items()
    }
    return [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]


def _require_latent(model: LoadedModel) -> str:
    if model.contract.latent is None:
        where, remedy = (
            f"parameters.{LATENT}",
            "Leave it out; model.latent in project.yaml names the layer that gives one.",
        )
        raise InputError(
            where, "must be false, as the model gives no latent vector", "true", remedy
        )
    return LATENT


def _infer_outputs(values: Predictions, outputs: Sequence[Output]) -> list[InferOutput]:
    return [
        InferOutput(
            output.name,
            list(values[output.name].shape),
            DATATYPES[output.dtype],
            values[output.name],
        )
        for output in outputs
    ]
