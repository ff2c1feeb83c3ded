"""KServe's server, fitted to this product: loopback, quiet, HTTP 400 for every bad input.

Models come from the ledger only. Import this module inside functions: KServe takes seconds to
import, and reads the command line when imported.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kserve import InferRequest, InferResponse, Model, ModelServer
from kserve.errors import InferenceError, InvalidInput, ModelNotFound, UnsupportedProtocol
from kserve.metrics import PREDICT_HIST_TIME, get_labels
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.infer_type import deserialize_bytes_tensor
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer
from kserve.protocol.rest.v2_datamodels import InferenceRequest
from kserve.utils.numpy_codec import to_np_dtype
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from perennial.errors import InputError
from schemas.project import LimitSettings
from serving.access import Access, Gate
from serving.answers import (
    ArmRequest,
    V1Answer,
    V1Request,
    V2Request,
    input_metadata,
    output_metadata,
)
from serving.inputs import parse_json, show_name
from serving.openapi import describe_calls
from serving.router import Router
from serving.tls import Certificates

GRACE_SECONDS = 20  # for requests in flight when the server is told to stop
logger = logging.getLogger("perennial.serving")
JSON_LENGTH_HEADER = "inference-header-content-length"
_CONTENT_TYPE = b"content-type"
_REMEDY = 'Send {"inputs": [{"name", "shape", "datatype", "data"}, ...]}.'
LOAD, UNLOAD = "load", "unload"
_SMALL = 16_384  # bytes; reading more in the event loop would hold other requests up
# Requests that wait for a shared call hold a thread each.
_POOL = ThreadPoolExecutor(64, thread_name_prefix="request")
# What does in the ledger what these calls would do to a server.
_COMMANDS = {LOAD: "promote", UNLOAD: "rollback"}


class SlotModel(Model):  # type: ignore[misc]
    """KServe's model that answers with the arm that the router chooses when the request comes."""

    def __init__(self, router: Router, key: str | None, limits: LimitSettings) -> None:
        super().__init__(router.slot.model.name, return_response_headers=True)
        self._router = router
        self._key = key
        self._deepest = limits.depth
        self.ready = True

    def validate(self, payload: object) -> object:
        """Leaves validation to `predict`, whose messages say which feature is wrong."""
        return payload

    async def predict(
        self,
        payload: object,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> V1Answer | InferResponse:
        """Answers one request: a small one in the event loop but for the model, others in a thread.

        Raises:
            InvalidInput: The request does not fit the model; KServe answers HTTP 400.
        """
        began = time.perf_counter()

        def parse() -> ArmRequest:
            if isinstance(payload, InferRequest):
                return V2Request(payload, self._key, headers)
            return V1Request(payload, self._key, headers, self._deepest)

        try:
            if _size(payload) <= _SMALL:
                reply = await self._router.answer_soon(parse, began)
            else:
                loop = asyncio.get_running_loop()
                reply = await loop.run_in_executor(_POOL, self._router.answer, parse, began)
        except InputError as error:
            raise InvalidInput(str(error)) from None
        if response_headers is not None:
            response_headers.update(reply.headers())
        answer: V1Answer | InferResponse = reply.answer
        return answer

    def readiness(self) -> dict[str, Any]:
        """Says that the server answers, and whether it would learn of a promotion.

        A server that cannot read the ledger stays ready: it answers as before.
        """
        ledger = "readable" if self._router.slot.ledger_readable else "unreadable"
        return {"ready": True, "ledger": ledger}

    def describe_calls(self, tokens: bool) -> dict[str, Any]:
        """Describes the server's calls, by the champion's contract."""
        model = self._router.slot.model
        return describe_calls(model.name, model.contract, model.features, self._key, tokens)

    def get_input_types(self) -> list[dict[str, Any]]:
        """Describes the features, for the protocol's model metadata."""
        return input_metadata(self._router.slot.model)

    def get_output_types(self) -> list[dict[str, Any]]:
        """Describes the outputs, for the protocol's model metadata."""
        return output_metadata(self._router.slot.model)


class StrictDataPlane(DataPlane):  # type: ignore[misc]
    """KServe's data plane that takes any content type as JSON; a malformed body is HTTP 400."""

    def __init__(self, model_registry: Any, limits: LimitSettings) -> None:
        super().__init__(model_registry=model_registry)
        self._limits = limits

    def decode(
        self,
        body: Any,
        headers: Mapping[str, str],
        protocol_version: str = "v1",
        model_name: str | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Hands a v1 body on as bytes (it is parsed in the worker thread); decodes a v2 request."""
        if protocol_version == "v1":
            return body, {}
        return self.decode_inference_request(body, headers, model_name), {}

    def decode_inference_request(
        self, body: Any, headers: Mapping[str, str], model_name: str | None
    ) -> InferRequest:
        """Decodes a v2 request, whose tensors are JSON or follow it in binary.

        Raises:
            InvalidInput: The request is malformed.
        """
        try:
            if not isinstance(body, bytes):
                return InferRequest.from_inference_request(body, model_name)
            length = int(headers.get(JSON_LENGTH_HEADER, len(body)))
            checked = _check_form(parse_json(body[:length], self._limits.depth))
            request = InferRequest.from_inference_request(checked, model_name)
            _add_binary(request, body[length:])
            return request
        except (InputError, InvalidInput) as error:
            raise InvalidInput(str(error)) from None
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            InferenceError,
            struct.error,
        ) as error:
            received = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            form = InputError(
                "the request's body",
                "must have the form of the Open Inference Protocol",
                received,
                _REMEDY,
            )
            raise InvalidInput(str(form)) from None

    def encode(
        self,
        model_name: str,
        response: Any,
        headers: Mapping[str, str],
        req_attributes: dict[str, Any],
    ) -> tuple[Any, dict[str, str]]:
        """Encodes an answer as KServe does, but never as a CloudEvent: requests are none either."""
        encoded: tuple[Any, dict[str, str]] = super().encode(
            model_name, response, None, req_attributes
        )
        return encoded


class LedgerDecides(ModelRepositoryExtension):  # type: ignore[misc]
    """Refuses to load and unload models over HTTP: a stray call must not take the model away."""

    async def load(self, model_name: str) -> None:
        """Refuses.

        Raises:
            InvalidInput: Always.
        """
        refuse_repository(model_name, LOAD)

    async def unload(self, model_name: str) -> None:
        """Refuses.

        Raises:
            InvalidInput: Always.
        """
        refuse_repository(model_name, UNLOAD)


class RawBodies:
    """Hands the bodies of v2 requests on as bytes.

    FastAPI's own parser takes a key that is there twice in silence.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, with the content type of bytes if it asks for predictions."""
        if scope["type"] == "http" and scope["path"].endswith("/infer"):
            others = [(name, value) for name, value in scope["headers"] if name != _CONTENT_TYPE]
            scope = {**scope, "headers": [*others, (_CONTENT_TYPE, b"application/octet-stream")]}
        await self._app(scope, receive, send)


class DirectPredictions:
    """Answers v1 predictions without FastAPI's and KServe's layers, which cost more than a model.

    Answers, errors and metrics are theirs.
    """

    def __init__(self, app: ASGIApp, model: SlotModel) -> None:
        self._app = app
        self._model = model
        self._path = f"/v1/models/{model.name}:predict"
        self._seconds = PREDICT_HIST_TIME.labels(**get_labels(model.name))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request for predictions; passes any other on."""
        direct = scope["type"] == "http" and scope["path"] == self._path
        if not direct or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): each.decode("latin-1") for name, each in scope["headers"]
        }
        given: dict[str, str] = {}
        try:
            body = await _read_body(receive)
            with self._seconds.time():
                answer = await self._model.predict(body, headers, given)
            status, content = 200, orjson.dumps(answer)
        except InvalidInput as error:
            status, content = 400, orjson.dumps({"error": str(error)})
        except HTTPException as error:
            status, content = error.status_code, orjson.dumps({"error": error.detail})
        except Exception as error:
            logger.exception("a request failed")
            message = f"{type(error).__name__} : {error}"
            status, content = 500, orjson.dumps({"error": message})
        fields = {"content-type": "application/json", "content-length": str(len(content))} | given
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": content})


class QuietRestServer(RESTServer):  # type: ignore[misc]
    """KServe's REST server without a log line per request; every error is `{"error": ...}`."""

    def __init__(
        self,
        app: FastAPI,
        data_plane: DataPlane,
        extension: ModelRepositoryExtension,
        port: int,
        gate: Gate,
        certificates: Certificates | None,
    ) -> None:
        super().__init__(gate, data_plane, extension, port, grace_period=GRACE_SECONDS)
        self._app = app
        self.config.access_log = False
        if certificates is not None:
            context = certificates.http_context()
            self.config.ssl_context_factory = lambda _config, _default: context

    def create_application(self) -> ASGIApp:
        """Registers KServe's endpoints, and handlers that answer clients' mistakes in one line."""
        self._register_endpoints(self._app)
        self._add_exception_handlers(self._app)
        self._app.add_middleware(RawBodies)
        self._app.add_exception_handler(InvalidInput, _bad_request)
        self._app.add_exception_handler(ModelNotFound, _not_found)
        # Calls of KServe's that this model does not have, such as explanations.
        self._app.add_exception_handler(NotImplementedError, _not_found)
        self._app.add_exception_handler(UnsupportedProtocol, _not_found)
        self._app.add_exception_handler(RequestValidationError, _malformed)
        self._app.add_exception_handler(HTTPException, _http_error)
        return self._app


class LoopbackModelServer(ModelServer):  # type: ignore[misc]
    """KServe's model server on a socket that is bound already: its own listens on every address."""

    def __init__(self, port: int, limits: LimitSettings) -> None:
        super().__init__(http_port=port, enable_grpc=False, enable_latency_logging=False, workers=1)
        self.dataplane = StrictDataPlane(self.registered_models, limits)
        self.model_repository_extension = LedgerDecides(model_registry=self.registered_models)
        _quieten()

    def run(
        self,
        model: SlotModel,
        listener: socket.socket,
        access: Access,
        certificates: Certificates | None = None,
    ) -> None:
        """Serves the model until SIGTERM or SIGINT; requests in flight are answered first."""
        self.register_model(model)
        app = FastAPI(title="Perennial", docs_url=None, redoc_url=None)
        app.openapi = lambda: model.describe_calls(access.asks_for_tokens)  # type: ignore[method-assign]
        app.add_api_route("/v2/health/ready", model.readiness)  # before KServe's own
        extension, port = self.model_repository_extension, self.http_port
        gate = Gate(DirectPredictions(app, model), access)
        QuietRestServer(app, self.dataplane, extension, port, gate, certificates).run(
            sockets=[listener]
        )


async def _read_body(receive: Receive) -> bytes:
    """Reads a request's whole body.

    Raises:
        HTTPException: It is too large, or its client has gone.
    """
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "the client must send the whole body. Received: a part of it")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _size(payload: object) -> int:
    """Gives about how many bytes a request has."""
    if isinstance(payload, InferRequest):
        return sum(8 * len(each.data or ()) for each in payload.inputs)
    return len(payload) if isinstance(payload, bytes) else 0


def refuse_repository(model_name: str, call: str) -> None:
    """Refuses a call that would load or unload a model.

    Raises:
        InvalidInput: Always.
    """
    raise InvalidInput(
        f"model {model_name} follows the ledger. Received: {call}. "
        f"Use `perennial {_COMMANDS[call]}`."
    )


def binary_values(raw: bytes, datatype: str) -> list[Any] | None:
    """Lists the values of a tensor in the protocol's binary form; None: an unknown datatype.

    Raises:
        struct.error: A text of BYTES ends early.
        ValueError: The last number does.
    """
    if datatype.upper() == "BYTES":
        texts: list[Any] = deserialize_bytes_tensor(raw).tolist()
        return texts
    dtype = to_np_dtype(datatype.upper())
    return None if dtype is None else np.frombuffer(raw, dtype).tolist()


def _check_form(parsed: object) -> InferenceRequest:
    """Checks the JSON part of a request whose tensors may follow it, as KServe does not."""
    if isinstance(parsed, dict) and isinstance(parsed.get("inputs"), list):
        inputs = [
            {"data": []} | item if isinstance(item, dict) else item for item in parsed["inputs"]
        ]
        parsed = parsed | {"inputs": inputs}
    return InferenceRequest.model_validate(parsed)


def _add_binary(request: InferRequest, binary: bytes) -> None:
    """Gives the tensors that follow a request in binary their values.

    KServe's own decoding takes only text in UTF-8 as BYTES.
    """
    start = 0
    for tensor in request.inputs:
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None or tensor.data:
            continue
        raw = binary[start : start + size]
        start += size
        if (values := binary_values(raw, tensor.datatype)) is not None:
            tensor.data = values


def _quieten() -> None:
    # KServe and uvicorn log a line or a stack trace per request; what goes wrong is in the answer.
    for name in ("kserve", "kserve.trace", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # KServe's choice of response class, which FastAPI would have users hear about.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")


async def _bad_request(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=400)


async def _not_found(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=404)


async def _http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse(
        {"error": error.detail}, status_code=error.status_code, headers=error.headers
    )


async def _malformed(_request: Request, error: Exception) -> JSONResponse:
    """Answers what FastAPI refuses of a v2 request, in this product's words and as HTTP 400."""
    assert isinstance(error, RequestValidationError)
    first = next((item for item in error.errors() if "bytes" not in item["loc"]), error.errors()[0])
    if first["type"] == "json_invalid":
        where, received = (
            "the request's body",
            f"{first['ctx']['error']} at character {first['loc'][-1]}",
        )
        message = InputError(where, "must be JSON", received, _REMEDY)
    else:
        path = [part for part in first["loc"][1:] if part != "InferenceRequest"]
        where = ".".join(show_name(part) for part in path) or "the request's body"
        message = InputError(
            where, "must have the form of the Open Inference Protocol", first["msg"], _REMEDY
        )
    return JSONResponse({"error": str(message)}, status_code=400)
