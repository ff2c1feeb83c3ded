"""The Open Inference Protocol over gRPC, beside REST: the same model, checks, messages and scores.

Its handlers run in threads, as those of REST do. Like `serving.protocol`, to be imported inside
functions.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from kserve import InferInput, InferRequest, InferResponse
from kserve.errors import InvalidInput, ModelNotFound
from kserve.metrics import PREDICT_HIST_TIME, get_labels
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)
from kserve.protocol.infer_type import RequestedOutput, get_content

from perennial.errors import InputError, ServingError
from serving.access import Access
from serving.answers import ArmRequest, V2Request, input_metadata, output_metadata
from serving.grpc_access import GrpcGate
from serving.protocol import GRACE_SECONDS, LOAD, UNLOAD, binary_values, refuse_repository
from serving.router import Router
from serving.runtime import LoadedModel
from serving.tls import Certificates

_THREADS = 64  # requests that wait for a shared call hold one each


class InferenceService(GRPCInferenceServiceServicer):  # type: ignore[misc]
    """KServe's service, which answers with the arm that the router chooses."""

    def __init__(self, router: Router, key: str | None, data_plane: DataPlane) -> None:
        self._router = router
        self._key = key
        self._data_plane = data_plane

    def ServerLive(self, _request: Any, _context: Any) -> Any:
        """Says that the server lives."""
        return messages.ServerLiveResponse(live=True)

    def ServerReady(self, _request: Any, _context: Any) -> Any:
        """Says that the server is ready: it listens only then."""
        return messages.ServerReadyResponse(ready=True)

    def ServerMetadata(self, _request: Any, _context: Any) -> Any:
        """Describes the server, as REST does."""
        return messages.ServerMetadataResponse(**self._data_plane.metadata())

    def ModelReady(self, request: Any, context: Any) -> Any:
        """Says that the model is ready; another name is NOT_FOUND."""
        with _statuses(context):
            self._model(request.name, request.version)
        return messages.ModelReadyResponse(ready=True)

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        """Describes the features and outputs of the model."""
        with _statuses(context):
            model = self._model(request.name, request.version)
        return messages.ModelMetadataResponse(
            name=model.name,
            versions=[model.version],
            inputs=input_metadata(model),
            outputs=output_metadata(model),
        )

    def ModelInfer(self, request: Any, context: Any) -> Any:
        """Answers one request; one that does not fit the model is INVALID_ARGUMENT."""
        began = time.perf_counter()

        def parse() -> ArmRequest:
            metadata = dict(context.invocation_metadata())
            return V2Request(_decode(request), self._key, metadata)

        with _statuses(context):
            model = self._model(request.model_name, request.model_version)
            with PREDICT_HIST_TIME.labels(**get_labels(model.name)).time():
                reply = self._router.answer(parse, began)
            return _encode(reply.answer, binary=bool(request.raw_input_contents))

    def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        """Refuses: the model follows the ledger."""
        with _statuses(context):
            refuse_repository(request.model_name, LOAD)

    def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        """Refuses: the model follows the ledger."""
        with _statuses(context):
            refuse_repository(request.model_name, UNLOAD)

    def _model(self, name: str, version: str) -> LoadedModel:
        """Gives the model that serves.

        Raises:
            ModelNotFound: It has another name.
            InputError: It is another version.
        """
        model = self._router.slot.model
        if name != model.name:
            raise ModelNotFound(name)
        if version not in ("", model.version):
            expected = f"must be {model.version}, the version that serves, or empty"
            raise InputError("model_version", expected, version, "Leave it out.")
        return model


@contextmanager
def grpc_running(
    service: InferenceService,
    reserved: socket.socket,
    access: Access,
    certificates: Certificates | None = None,
) -> Iterator[None]:
    """Serves over gRPC; in the end, requests in flight are answered first.

    Args:
        service: What answers.
        reserved: A socket that holds the address until here; gRPC binds a socket of its own.
        access: What decides who may ask.
        certificates: Of TLS; None: there is none.

    Raises:
        ServingError: Another process took the port.
    """
    host, port = reserved.getsockname()[:2]
    # Requests are as large as over REST. A second server must not share the port.
    options = [
        ("grpc.max_receive_message_length", access.most_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
    ]
    pool = futures.ThreadPoolExecutor(_THREADS)
    server = grpc.server(pool, interceptors=[GrpcGate(access)], options=options)
    add_GRPCInferenceServiceServicer_to_server(service, server)
    reserved.close()
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if certificates is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, certificates.grpc_credentials())
    except RuntimeError as error:
        raise ServingError(
            f"port {port} on {host}",
            "must be free for gRPC",
            error,
            "Stop what uses it, or choose another with --grpc-port.",
        ) from None
    server.start()
    try:
        yield
    finally:
        server.stop(GRACE_SECONDS).wait()


@contextmanager
def _statuses(context: Any) -> Iterator[None]:
    """Ends a request that is refused with the status of its error, and REST's message."""
    try:
        yield
    except (InputError, InvalidInput) as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except ModelNotFound as error:
        context.abort(grpc.StatusCode.NOT_FOUND, str(error))


def _decode(request: Any) -> InferRequest:
    """Gives a request as REST's is decoded.

    Raises:
        InputError: Its tensors are neither all in `contents` nor all in `raw_input_contents`.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InputError(
            "raw_input_contents",
            f"must hold one entry for each of the {len(request.inputs)} inputs",
            len(raw),
            "Send all inputs in it, or none.",
        )
    inputs = []
    for number, tensor in enumerate(request.inputs):
        place = f"inputs[{number}] ({tensor.name})"
        values = _raw_values(place, tensor, raw[number]) if raw else _contents(tensor)
        inputs.append(InferInput(tensor.name, list(tensor.shape), tensor.datatype, values))
    outputs = [RequestedOutput(output.name) for output in request.outputs]
    return InferRequest(
        request.model_name,
        inputs,
        request.id,
        parameters=_parameters(request),
        request_outputs=outputs,
    )


def _parameters(request: Any) -> dict[str, Any]:
    """Gives the parameters of a request, as REST has them."""
    return {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in request.parameters.items()
        if value.WhichOneof("parameter_choice")
    }


def _raw_values(place: str, tensor: Any, raw: bytes) -> list[Any]:
    if tensor.HasField("contents"):
        expected = "must not have `contents` beside raw_input_contents"
        raise InputError(place, expected, "both", "Send one of them.")
    try:
        return binary_values(raw, tensor.datatype) or []
    except (ValueError, struct.error):
        encoding = "each behind its length in 4 bytes" if tensor.datatype == "BYTES" else "as it is"
        expected = f"must hold whole values of {tensor.datatype} in raw_input_contents, {encoding}"
        raise InputError(place, expected, f"{len(raw)} bytes", "Send every byte.") from None


def _contents(tensor: Any) -> list[Any]:
    """Gives the values of a tensor that its datatype says where to look for."""
    try:
        values: list[Any] = get_content(tensor.datatype.upper(), tensor.contents)
    except InvalidInput:  # a datatype that no feature has, which `from_v2` says
        return []
    return values


def _encode(answer: InferResponse, binary: bool) -> Any:
    """Gives an answer in `contents`, or in `raw_output_contents` as the request came."""
    if not binary:
        for output in answer.outputs:
            output.data = np.ravel(output.data).tolist()
    return answer.to_grpc()
