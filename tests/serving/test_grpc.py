"""The real server over gRPC, asked by KServe's own client and beside REST: same scores, same words."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from serving.server import _no_arguments

with _no_arguments():
    from kserve import InferenceGRPCClient, InferInput, InferRequest
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
    from kserve.protocol.infer_type import RequestedOutput

V2 = "/v2/models/tiny/infer"
IMAGE = [[0.0, 0.1, 0.3, 1.0], [0.7, 1 / 3, 0.9, 1e-20]]
TENSORS: list[dict[str, Any]] = [
    {"name": "image", "shape": [2, 4], "datatype": "FP32", "data": [*IMAGE[0], *IMAGE[1]]},
    {"name": "age", "shape": [2], "datatype": "INT64", "data": [41, -3]},
    {"name": "city", "shape": [2], "datatype": "BYTES", "data": ["Łódź", ""]},
]
NUMPY = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "BYTES": np.object_}


@pytest.fixture
def stub(version_1: Any) -> Iterator[Any]:
    with grpc.insecure_channel(version_1.server.grpc) as channel:
        yield GRPCInferenceServiceStub(channel)


@pytest.fixture
def trip(world: Any) -> Any:
    world.serve_version("5")
    return world.server


def request(tensors: list[dict[str, Any]], outputs: list[str] | None = None) -> InferRequest:
    """The request that REST gets as JSON, with its values in `contents`."""
    inputs = [
        InferInput(item["name"], item["shape"], item["datatype"], list(item["data"]))
        for item in tensors
    ]
    asked = [RequestedOutput(name) for name in outputs or []]
    return InferRequest("tiny", inputs, request_id="7", request_outputs=asked)


def in_binary(tensors: list[dict[str, Any]], outputs: list[str] | None = None) -> InferRequest:
    """The same request, with its values in `raw_input_contents`."""
    asked = request(tensors, outputs)
    for item, tensor in zip(tensors, asked.inputs, strict=True):
        data = [one.encode() if isinstance(one, str) else one for one in item["data"]]
        tensor.set_data_from_numpy(np.array(data, NUMPY[item["datatype"]]).reshape(item["shape"]))
    return asked


def ask(server: Any, asked: InferRequest) -> Any:
    """What KServe's client gets."""

    async def infer() -> Any:
        async with InferenceGRPCClient(server.grpc) as client:
            return await client.infer(asked)

    return asyncio.run(infer())


def arrays(answer: Any) -> dict[str, np.ndarray]:
    return {output.name: output.as_numpy() for output in answer.outputs}


@pytest.mark.parametrize("form", [request, in_binary])
def test_scores_are_those_of_rest_to_the_bit(version_1: Any, form: Callable[..., Any]) -> None:
    answer = ask(version_1.server, form(TENSORS))
    rest = version_1.server.post(V2, {"inputs": TENSORS}).json()
    assert (answer.model_name, answer.model_version, answer.id) == ("tiny", "1", "7")
    ours = arrays(answer)
    assert list(ours) == [output["name"] for output in rest["outputs"]]
    for output in rest["outputs"]:
        theirs = np.array(output["data"], ours[output["name"]].dtype).reshape(output["shape"])
        assert ours[output["name"]].tobytes() == theirs.tobytes()


@pytest.mark.parametrize("form", [request, in_binary])
@pytest.mark.parametrize("value", [b"Bl\xc3\xbce", b"\xff\xd8\x00\x00" * 50, b""])
def test_bytes_reach_the_model_as_they_are(
    trip: Any, form: Callable[..., Any], value: bytes
) -> None:
    """The model's latent vector tells how many bytes it got; what is left out has its default."""
    tensors = [
        {"name": "miles", "shape": [2], "datatype": "FP64", "data": [0.0, 1.5]},
        {"name": "company", "shape": [2], "datatype": "BYTES", "data": [value, "Blue"]},
    ]
    answer = arrays(ask(trip, form(tensors, ["latent", "fare_value"])))
    assert answer["latent"].tolist() == [[len(value), 0, 12], [4, 0, 12]]
    assert answer["fare_value"].tolist() == [3.25, 6.25]


def _changed(number: int, **changes: Any) -> list[dict[str, Any]]:
    return [item | changes if place == number else item for place, item in enumerate(TENSORS)]


@pytest.mark.parametrize(
    ("tensors", "outputs"),
    [
        (_changed(0, shape=[2, 2], data=[0.0] * 4), []),
        (_changed(0, data=[0.0] * 7), []),
        (_changed(0, data=[0.0] * 7 + [float("nan")]), []),
        (_changed(1, datatype="FP64", data=[1.5, 2.0]), []),
        (_changed(1, datatype="BYTES", data=["41", "-3"]), []),
        (_changed(1, name="agee"), []),
        (_changed(1, shape=[1], data=[41]), []),
        (TENSORS[:2], []),
        ([*TENSORS, TENSORS[0]], []),
        ([], []),
        (TENSORS, ["clas"]),
    ],
)
def test_what_rest_refuses_is_an_invalid_argument_in_the_same_words(
    version_1: Any, stub: Any, tensors: list[dict[str, Any]], outputs: list[str]
) -> None:
    body = {"inputs": tensors, "outputs": [{"name": name} for name in outputs]}
    server = version_1.server
    rest = server.client.post(server.url + V2, content=json.dumps(body))
    assert rest.status_code == 400
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request(tensors, outputs).to_grpc())
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == rest.json()["error"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda sent: sent.raw_input_contents.pop(), "one entry for each of the 3 inputs"),
        (
            lambda sent: sent.raw_input_contents.__setitem__(0, b"1234567"),
            "inputs[0] (image) must hold whole values of FP32",
        ),
        (
            lambda sent: sent.raw_input_contents.__setitem__(2, b"\xff\x00\x00\x00a"),
            "inputs[2] (city) must hold whole values of BYTES",
        ),
        (
            lambda sent: sent.inputs[0].contents.fp32_contents.append(1.0),
            "must not have `contents` beside raw_input_contents",
        ),
        (lambda sent: setattr(sent, "model_version", "9"), "model_version must be 1"),
        (lambda sent: setattr(sent.inputs[0], "datatype", "FP8"), "must have the datatype FP32"),
    ],
)
def test_a_malformed_message_is_an_invalid_argument(stub: Any, change: Any, says: str) -> None:
    sent = in_binary(TENSORS).to_grpc()
    change(sent)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(sent)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert says in caught.value.details()


def test_the_model_is_described_as_over_rest(version_1: Any, stub: Any) -> None:
    described = stub.ModelMetadata(messages.ModelMetadataRequest(name="tiny"))
    rest = version_1.server.get("/v2/models/tiny").json()
    for kind in ("inputs", "outputs"):
        ours = [(each.name, each.datatype, list(each.shape)) for each in getattr(described, kind)]
        assert ours == [(each["name"], each["datatype"], each["shape"]) for each in rest[kind]]
    assert stub.ServerLive(messages.ServerLiveRequest()).live
    assert stub.ServerReady(messages.ServerReadyRequest()).ready
    assert stub.ModelReady(messages.ModelReadyRequest(name="tiny", version="1")).ready
    assert stub.ServerMetadata(messages.ServerMetadataRequest()).name


def test_another_model_is_not_found(stub: Any) -> None:
    sent = request(TENSORS).to_grpc()
    sent.model_name = "huge"
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(sent)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND and "huge" in caught.value.details()


def test_nobody_unloads_the_model_over_grpc(version_1: Any, stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.RepositoryModelUnload(messages.RepositoryModelUnloadRequest(model_name="tiny"))
    assert "Use `perennial rollback`" in caught.value.details()
    assert version_1.serving_version() == "1"


def test_requests_leave_no_stack_trace_and_are_counted(version_1: Any, stub: Any) -> None:
    with pytest.raises(grpc.RpcError):
        stub.ModelInfer(messages.ModelInferRequest(model_name="tiny"))
    assert "Traceback" not in version_1.server.log.read_text()
    metrics = version_1.server.get("/metrics").text
    assert 'request_predict_seconds_count{model_name="tiny"}' in metrics


def test_a_busy_grpc_port_is_told_at_once(
    version_1: Any, serve_project: Callable[..., Any], port: int
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        server = serve_project(version_1.project, port, busy)
        assert server.process.wait(60) == 1
    log = server.log.read_text()
    assert f"ServingError: port {busy} on 127.0.0.1 must be free" in log
    assert "--grpc-port or serving.grpc_port" in log
