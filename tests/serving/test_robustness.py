"""Whatever is sent to the real server, it answers or says what is wrong, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.server import _no_arguments
from tests.serving.hostile import Hostile, hostile_requests

with _no_arguments():
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

_SETTINGS = settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_PREDICT = "/inference.GRPCInferenceService/ModelInfer"
# A request of the described form may still be refused: a model may have no finite answer to it.
_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def described(world: Any) -> Any:
    """The server's own description of its calls."""
    world.serve_version("1")
    return schemathesis.openapi.from_url(world.server.url + "/openapi.json")


@pytest.fixture
def channel(version_1: Any) -> Iterator[Any]:
    with grpc.insecure_channel(version_1.server.grpc) as channel:
        yield channel


def _call_often(operation: Any) -> None:
    @settings(parent=_SETTINGS, max_examples=30)
    @given(case=operation.as_strategy())
    def call(case: Any) -> None:
        case.call_and_validate(checks=_CHECKS)

    call()


def test_calls_are_as_the_server_describes_them(described: Any, version_1: Any) -> None:
    operations = [each.ok() for each in described.get_all_operations()]
    assert {f"{each.method.upper()} {each.path}" for each in operations} >= {
        "POST /v1/models/tiny:predict",
        "POST /v2/models/tiny/infer",
        "GET /v2/health/ready",
    }
    for operation in operations:
        _call_often(operation)
    assert version_1.server.process.poll() is None


@_SETTINGS
@given(request=hostile_requests("tiny"))
def test_whatever_is_sent_is_answered_or_refused(version_1: Any, request: Hostile) -> None:
    url = version_1.server.url + request.path
    answer = version_1.server.client.post(url, content=request.body, headers=request.headers)
    assert answer.status_code in (200, 400), (answer.status_code, answer.text, request)
    if answer.status_code == 400:
        assert " must " in answer.json()["error"], (answer.text, request)


@_SETTINGS
@given(
    names=st.lists(st.sampled_from(["image", "age", "city", "id", ""]), max_size=4),
    shape=st.lists(st.integers(-1, 5), max_size=3),
    datatype=st.sampled_from(["FP32", "INT64", "BYTES", "BOOL", "FP16", "x"]),
    numbers=st.lists(st.floats(width=32), max_size=8),
    raw=st.lists(st.binary(max_size=20), max_size=4),
    tail=st.binary(max_size=10),
)
def test_whatever_is_sent_over_grpc_is_answered_or_refused(
    channel: Any, names: Any, shape: Any, datatype: Any, numbers: Any, raw: Any, tail: bytes
) -> None:
    request = messages.ModelInferRequest(model_name="tiny", raw_input_contents=raw)
    for name in names:
        tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
        if numbers:
            tensor.contents.fp32_contents.extend(numbers)
    infer = channel.unary_unary(_PREDICT)
    for message in (request.SerializeToString(), tail):
        try:
            infer(message, timeout=20)
        except grpc.RpcError as error:
            # A message that is none is refused by gRPC itself, as INTERNAL.
            allowed = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
            if message is tail:
                allowed.add(grpc.StatusCode.INTERNAL)
            assert error.code() in allowed, (error, request)


def test_the_server_is_none_the_worse(version_1: Any) -> None:
    assert version_1.serving_version() == "1"
    assert "Traceback" not in version_1.server.log.read_text()
