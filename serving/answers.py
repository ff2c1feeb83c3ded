"""From a request to its answer, in both of KServe's protocols, by whichever model answers it.

Runs in a worker thread: parsing, conversion and the model's call never hold up the event loop. A
request is parsed once; each arm then computes its answer by its own contract. Like
`serving.protocol`, to be imported inside functions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kserve import InferOutput, InferRequest, InferResponse

from perennial.errors import InputError
from perennial.tasks import LATENT
from schemas.records import ServedTask
from serving.domains import DomainCheck, Flags
from serving.features import Array
from serving.inputs import (
    DATATYPES,
    DEEPEST,
    Tensor,
    check_keys,
    check_outputs,
    from_v1,
    from_v2,
    parse_json,
    wants_latent,
)
from serving.keys import Keys, key_text, keys_of_rows, keys_v1, keys_v2, without_key_v1
from serving.model_calls import ModelCall, Steps
from serving.outputs import Output, all_outputs, prediction_outputs, task_outputs
from serving.runtime import LoadedModel, Predictions

V1Answer = dict[str, Any]
TensorMetadata = dict[str, Any]
_OUTSIDE = "outside_domain"
KEY_HEADER, REQUEST_ID_HEADER = "x-perennial-key", "x-request-id"
_KEY_PARAMETER = "key"
_LONGEST_ID = 200  # characters


@dataclass(frozen=True)
class Computed:
    """The outputs that a model made of a request.

    `arrays` are the features as it took them, `outputs` what was asked for, `keys` those of the
    instances.
    """

    model: LoadedModel
    arrays: Mapping[str, Array]
    outputs: Predictions
    asked: Sequence[Output]
    flags: Flags
    keys: Keys


class ArmRequest(Protocol):
    """A request that was parsed, and that any arm may compute the answer to.

    Attributes:
        request_id: By the client, or drawn at random.
        split_key: What decides on the arm: the key of the first instance, the key that was given
            with the request, or else its id.
    """

    request_id: str
    split_key: str

    def compute(self, model: LoadedModel, domains: DomainCheck) -> Steps[Computed]:
        """Computes the answer by a model.

        Raises:
            InputError: The request does not fit the model.
        """

    def render(self, computed: Computed, arm: str) -> Any:
        """Gives the answer in the form of the request's protocol."""


class V1Request:
    """A request `{"instances": [...]}`.

    Args:
        payload: Parsed, or as bytes.
        key: The feature that keys an instance; None: there is none.
        headers: Of the request, their names in lower case.
        deepest: How deep its JSON may be nested.

    Raises:
        InputError: It is malformed for every model.
    """

    def __init__(
        self,
        payload: object,
        key: str | None,
        headers: Mapping[str, str] | None = None,
        deepest: int = DEEPEST,
    ) -> None:
        headers = headers or {}
        parsed = parse_json(payload, deepest) if isinstance(payload, bytes) else payload
        check_keys(parsed)
        self._parsed, self._key = parsed, key
        self._keys = [] if key is None else keys_v1(parsed, key)
        self._given = headers.get(KEY_HEADER) or None
        self.request_id = headers.get(REQUEST_ID_HEADER, "")[:_LONGEST_ID] or _new_id()
        self.split_key = _first(self._keys) or self._given or self.request_id

    def compute(self, model: LoadedModel, domains: DomainCheck) -> Steps[Computed]:
        """Computes the predictions; the latent vectors where the request asks for them.

        Raises:
            InputError: The request does not fit the model.
        """
        asked = prediction_outputs(model.contract)
        if wants_latent(self._parsed):
            asked = [*asked, _require_latent(model)]
        arrays = from_v1(
            self._instances(model), model.features, model.contract.missing, model.most_rows
        )
        flags = domains.check(arrays, model.features)
        keys = keys_of_rows(self._keys, self._given, _rows(arrays))
        outputs = yield ModelCall(model, arrays, [output.name for output in asked])
        return Computed(model, arrays, outputs, asked, flags, keys)

    def render(self, computed: Computed, arm: str) -> V1Answer:
        """Gives `predictions` and `model_version`.

        A prediction of one classification task is `{"class": 1, "probabilities": [0.2, 0.8]}`, of
        one regression `{"value": 12.5}`; of several tasks it holds that of each by its name:
        `{"tipped": {...}, "fare": {...}}`. The latent vector stands in it as `latent` when the
        request has `"parameters": {"latent": true}`. Values outside the schema's domains are told
        as `outside_domain`.
        """
        model, outputs = computed.model, computed.outputs
        predictions = _predictions(outputs, model)
        if LATENT in outputs:
            pairs = zip(predictions, outputs[LATENT].tolist(), strict=True)
            predictions = [prediction | {LATENT: latent} for prediction, latent in pairs]
        answer: V1Answer = {"predictions": predictions, "model_version": model.version}
        return answer | {_OUTSIDE: computed.flags.as_json()} if computed.flags else answer

    def _instances(self, model: LoadedModel) -> object:
        """Leaves the keys out where they are no feature of the model."""
        if self._key is None or not any(self._keys) or _takes(model, self._key):
            return self._parsed
        return without_key_v1(self._parsed, self._key)


class V2Request:
    """A request of the Open Inference Protocol, over REST or gRPC.

    Args:
        request: As KServe decoded it.
        key: The feature that keys an instance; None: there is none.
        headers: Of the request, their names in lower case.
    """

    def __init__(
        self, request: InferRequest, key: str | None, headers: Mapping[str, str] | None = None
    ) -> None:
        self._request, self._key = request, key
        self._tensors = [
            Tensor(item.name, item.shape, item.datatype, item.data) for item in request.inputs
        ]
        self._keys = [] if key is None else keys_v2(self._tensors, key)
        given = key_text((request.parameters or {}).get(_KEY_PARAMETER))
        self._given = given or (headers or {}).get(KEY_HEADER) or None
        self.request_id = request.id or _new_id()
        self.split_key = _first(self._keys) or self._given or self.request_id

    def compute(self, model: LoadedModel, domains: DomainCheck) -> Steps[Computed]:
        """Computes the outputs that the request asks for, or all but the latent vector.

        Raises:
            InputError: The request does not fit the model.
        """
        known = {output.name: output for output in all_outputs(model.contract)}
        names = [output.name for output in self._request.request_outputs or []]
        check_outputs(names, list(known))
        asked = [known[name] for name in dict.fromkeys(names)] or prediction_outputs(model.contract)
        arrays = from_v2(
            self._inputs(model), model.features, model.contract.missing, model.most_rows
        )
        flags = domains.check(arrays, model.features)
        keys = keys_of_rows(self._keys, self._given, _rows(arrays))
        outputs = yield ModelCall(model, arrays, [output.name for output in asked])
        return Computed(model, arrays, outputs, asked, flags, keys)

    def render(self, computed: Computed, arm: str) -> InferResponse:
        """Gives the outputs, with the arm and the contract's digest as parameters.

        Outputs are `class`, `probabilities` and `value`, behind the task's name where there are
        several tasks (`fare_value`). Values outside the schema's domains are told in the parameter
        `outside_domain`.
        """
        model = computed.model
        parameters = {"arm": arm, "contract": model.contract_digest}
        if computed.flags:
            parameters[_OUTSIDE] = computed.flags.as_text()
        return InferResponse(
            response_id=self.request_id,
            model_name=model.name,
            model_version=model.version,
            infer_outputs=_infer_outputs(computed.outputs, computed.asked),
            parameters=parameters,
            use_binary_outputs=self._request.use_binary_outputs,
            requested_outputs=self._request.request_outputs,
        )

    def _inputs(self, model: LoadedModel) -> list[Tensor]:
        """Leaves the keys out where they are no feature of the model."""
        if self._key is None or not self._keys or _takes(model, self._key):
            return self._tensors
        return [tensor for tensor in self._tensors if tensor.name != self._key]


def _new_id() -> str:
    """Draws an id; not by the system's generator, which would cost a tenth of an answer's time."""
    return f"{random.getrandbits(128):032x}"


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


def _require_latent(model: LoadedModel) -> Output:
    if model.contract.latent is None:
        where, remedy = (
            f"parameters.{LATENT}",
            "Leave it out; model.latent in project.yaml names the layer that gives one.",
        )
        raise InputError(
            where, "must be false, as the model gives no latent vector", "true", remedy
        )
    return Output(LATENT, "float32", model.contract.latent)


def _first(keys: Keys) -> str | None:
    return keys[0] if keys else None


def _takes(model: LoadedModel, name: str) -> bool:
    return any(feature.name == name for feature in model.features)


def _rows(arrays: Mapping[str, Array]) -> int:
    return len(next(iter(arrays.values())))


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
