"""From a request to its answer, in both of KServe's protocols, by one model.

Runs in a worker thread: parsing, conversion and the model's call never hold up the event loop.
Like `serving.protocol`, to be imported inside functions.
"""

from __future__ import annotations

import uuid
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse

from serving.inputs import DATATYPES, Tensor, check_outputs, from_v1, from_v2, parse_json
from serving.runtime import LoadedModel, Predictions

V1Answer = dict[str, Any]
TensorMetadata = dict[str, Any]


def answer_v1(payload: object, model: LoadedModel) -> V1Answer:
    """Answers `{"instances": [...]}`, parsed or as bytes, with `predictions` and `model_version`.

    Raises:
        InputError: The payload does not fit the model.
    """
    parsed = parse_json(payload) if isinstance(payload, bytes) else payload
    found = model.predict(from_v1(parsed, model.features))
    pairs = zip(found.classes.tolist(), found.probabilities.tolist(), strict=True)
    predictions = [{"class": label, "probabilities": probabilities} for label, probabilities in pairs]
    return {"predictions": predictions, "model_version": model.version}


def answer_v2(request: InferRequest, model: LoadedModel) -> InferResponse:
    """Answers a request of the Open Inference Protocol with the outputs `class` and `probabilities`.

    Raises:
        InputError: The request does not fit the model.
    """
    check_outputs(output.name for output in request.request_outputs or [])
    tensors = [Tensor(item.name, item.shape, item.datatype, item.data) for item in request.inputs]
    found = model.predict(from_v2(tensors, model.features))
    return InferResponse(
        response_id=request.id or str(uuid.uuid4()),
        model_name=model.name,
        model_version=model.version,
        infer_outputs=_outputs(found),
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )


def input_metadata(model: LoadedModel) -> list[TensorMetadata]:
    """The features as the protocol's metadata: name, datatype and shape, with -1 for a free length."""
    return [
        {
            "name": feature.name,
            "datatype": DATATYPES[feature.dtype],
            "shape": [-1, *(-1 if size is None else size for size in feature.shape)],
        }
        for feature in model.features
    ]


def output_metadata(model: LoadedModel) -> list[TensorMetadata]:
    """The outputs as the protocol's metadata."""
    return [
        {"name": "class", "datatype": "INT64", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, model.class_count]},
    ]


def _outputs(found: Predictions) -> list[InferOutput]:
    return [
        InferOutput("class", list(found.classes.shape), "INT64", found.classes),
        InferOutput("probabilities", list(found.probabilities.shape), "FP32", found.probabilities),
    ]
