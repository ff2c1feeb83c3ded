"""Who may ask the real server, and how much: tokens, TLS and limits, over HTTP and gRPC."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from perennial.cli.main import app
from perennial.errors import ServingError
from perennial.processes import find_free_ports
from perennial.production.tokens import add_token, revoke_token, token_file
from perennial.project import load_project
from schemas.project import LimitSettings
from serving.access import TokenList
from serving.limits import RateLimit
from serving.server import _no_arguments
from tests.certificates import make_certificate

with _no_arguments():
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

V1, V2 = "/v1/models/tiny:predict", "/v2/models/tiny/infer"
INSTANCE = {"image": [0.0, 0.25, 0.5, 1.0], "age": 41, "city": "Turin"}
BURST, INSTANCES, DEPTH, BODY = 40, 8, 6, 20_000


@dataclass
class Guarded:
    """The server of `world`'s models with tokens, TLS and narrow limits."""

    server: Any
    folder: Path
    tokens: Path
    secrets: dict[str, str] = field(default_factory=dict)

    def secret(self, name: str, purpose: Any = "predicting") -> str:
        """Makes a token, and waits until the server knows it."""
        if name not in self.secrets:
            self.secrets[name] = add_token(self.tokens, name, purpose)
            path = V2.removesuffix("/infer") if purpose == "predicting" else "/metrics"
            self.wait_for(lambda: self.get(path, name).status_code == 200)
        return self.secrets[name]

    def headers(self, name: str | None) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secrets[name]}"} if name else {}

    def get(self, path: str, name: str | None = None) -> httpx.Response:
        return self.server.client.get(self.server.url + path, headers=self.headers(name))

    def post(self, path: str, name: str | None, **body: Any) -> httpx.Response:
        headers = self.headers(name) | body.pop("headers", {})
        return self.server.client.post(self.server.url + path, headers=headers, **body)

    def wait_for(self, holds: Callable[[], bool]) -> None:
        until = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < until, self.server.log.read_text()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def guarded(
    world: Any, serve_project: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    world.serve_version("1")
    folder = tmp_path_factory.mktemp("guarded")
    pem = make_certificate(folder / "server.pem")
    shutil.copy(pem, folder / "first.pem")
    limits = {
        "body_mb": BODY / 1e6,
        "instances": INSTANCES,
        "depth": DEPTH,
        "requests_per_second": 20,
        "burst": BURST,
    }
    serving = {"tls": {"certificate": "server.pem", "key": "server.pem"}, "limits": limits}
    settings = {
        "name": "tiny",
        "label": "label",
        "state": str(world.project.state),
        "data": {"spans": "data/{SPAN}.csv", "key": "id"},
        "serving": serving | {"tokens": str(folder / "tokens.json")},
    }
    (folder / "project.yaml").write_text(json.dumps(settings))
    project = load_project(folder)
    tokens = token_file(project)
    secret = add_token(tokens, "first", "predicting")
    port, grpc_port = find_free_ports(2)
    server = serve_project(project, port, grpc_port)
    server.url = f"https://127.0.0.1:{port}"
    server.client = httpx.Client(verify=ssl.create_default_context(cafile=str(pem)), timeout=30)
    server.wait_ready("/v2/health/ready")
    yield Guarded(server, folder, tokens, {"first": secret})


@pytest.fixture
def client(guarded: Guarded, request: pytest.FixtureRequest) -> str:
    """A token of the test's own, so that no other test uses up its rate."""
    name = re.sub(r"\W", "_", request.node.name)[:60]
    guarded.secret(name)
    return name


@pytest.fixture
def stub(guarded: Guarded) -> Iterator[Any]:
    certificate = (guarded.folder / "first.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials(certificate)
    with grpc.secure_channel(guarded.server.grpc, credentials) as channel:
        yield GRPCInferenceServiceStub(channel)


def infer_request(rows: int = 1) -> Any:
    request = messages.ModelInferRequest(model_name="tiny")
    for name, datatype, shape, values in (
        ("image", "FP32", [rows, 4], {"fp32_contents": INSTANCE["image"] * rows}),
        ("age", "INT64", [rows], {"int64_contents": [41] * rows}),
        ("city", "BYTES", [rows], {"bytes_contents": [b"Turin"] * rows}),
    ):
        tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
        for field_name, data in values.items():
            getattr(tensor.contents, field_name).extend(data)
    return request


def tensors(rows: int) -> list[dict[str, Any]]:
    return [
        {"name": "image", "shape": [rows, 4], "datatype": "FP32", "data": [0.5] * 4 * rows},
        {"name": "age", "shape": [rows], "datatype": "INT64", "data": [41] * rows},
        {"name": "city", "shape": [rows], "datatype": "BYTES", "data": ["Turin"] * rows},
    ]


def code_of(call: Callable[[], Any]) -> grpc.StatusCode:
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_each_token_opens_what_it_is_for(guarded: Guarded, client: str) -> None:
    guarded.secret("admin", "administration")
    ask = {"json": {"instances": [INSTANCE]}}
    statuses = {
        name: (
            guarded.post(V1, name, **ask).status_code,
            guarded.get("/v2/models/tiny", name).status_code,
            guarded.get("/metrics", name).status_code,
            guarded.get("/openapi.json", name).status_code,
            guarded.post("/v2/repository/models/tiny/unload", name).status_code,
        )
        for name in (client, "admin", None)
    }
    assert statuses == {
        client: (200, 200, 403, 403, 403),
        "admin": (403, 403, 200, 200, 400),
        None: (401, 401, 401, 401, 401),
    }
    for probe in ("/", "/v2/health/live", "/v2/health/ready"):
        assert guarded.get(probe).status_code == 200
    for wrong in ("", "Basic x", "Bearer", f"Bearer {guarded.secrets[client]}x"):
        answer = guarded.post(V1, None, headers={"authorization": wrong}, **ask)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert "Received: " in answer.json()["error"]
    # What is no route tells nothing to who has no token.
    assert guarded.get("/nothing").status_code == 401
    refused = 'perennial_refused_requests_total{reason="unknown_token"}'
    assert refused in guarded.get("/metrics", "admin").text


def test_the_same_over_grpc(guarded: Guarded, client: str, stub: Any) -> None:
    guarded.secret("admin", "administration")

    def ask(name: str | None) -> grpc.StatusCode:
        metadata = list(guarded.headers(name).items())
        return code_of(lambda: stub.ModelInfer(infer_request(), metadata=metadata))

    assert ask(client) is grpc.StatusCode.OK
    assert ask("admin") is grpc.StatusCode.PERMISSION_DENIED
    assert ask(None) is grpc.StatusCode.UNAUTHENTICATED
    assert stub.ServerReady(messages.ServerReadyRequest()).ready
    load = messages.RepositoryModelLoadRequest(model_name="tiny")
    metadata = list(guarded.headers(client).items())
    code = code_of(lambda: stub.RepositoryModelLoad(load, metadata=metadata))
    assert code is grpc.StatusCode.PERMISSION_DENIED


def test_a_revoked_token_opens_nothing(guarded: Guarded, client: str) -> None:
    guarded.secret("other")
    revoke_token(guarded.tokens, client)
    guarded.wait_for(lambda: guarded.get("/v2", client).status_code == 401)
    assert guarded.get("/v2", "other").status_code == 200


def test_each_token_has_its_rate(guarded: Guarded, client: str, stub: Any) -> None:
    guarded.secret("patient")
    answers = [guarded.get("/v2", client) for _ in range(5 * BURST)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and int(refused[0].headers["retry-after"]) >= 1
    assert f"token {client} may send 20 requests" in refused[0].json()["error"]
    metadata = list(guarded.headers(client).items())
    codes = [
        code_of(lambda: stub.ModelInfer(infer_request(), metadata=metadata)) for _ in range(BURST)
    ]
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
    assert guarded.get("/v2", "patient").status_code == 200


def test_a_body_too_large_is_a_413(guarded: Guarded, client: str, stub: Any) -> None:
    large = b'{"instances": [' + b" " * BODY + b"]}"
    for path in (V1, V2):
        for content in (large, iter([large[:BODY], large[BODY:]])):  # with a length, in chunks
            answer = guarded.post(path, client, content=content)
            assert answer.status_code == 413, answer.text
            assert "must be at most 0.02 MB" in answer.json()["error"]
    metadata = list(guarded.headers(client).items())
    code = code_of(lambda: stub.ModelInfer(infer_request(2000), metadata=metadata))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_too_many_instances_are_a_400(guarded: Guarded, client: str, stub: Any) -> None:
    inputs = tensors(INSTANCES + 1)
    raw = np.full([INSTANCES + 1, 4], 0.5, np.float32).tobytes()
    binary = [
        {key: value for key, value in inputs[0].items() if key != "data"}
        | {"parameters": {"binary_data_size": len(raw)}},
        *inputs[1:],
    ]
    head = json.dumps({"inputs": binary}).encode()
    answers = [
        guarded.post(V1, client, json={"instances": [INSTANCE] * (INSTANCES + 1)}),
        guarded.post(V2, client, json={"inputs": inputs}),
        guarded.post(
            V2,
            client,
            content=head + raw,
            headers={"inference-header-content-length": str(len(head))},
        ),
    ]
    words = f"must be at most {INSTANCES} in a request"
    for answer in answers:
        assert answer.status_code == 400 and words in answer.json()["error"], answer.text
    metadata = list(guarded.headers(client).items())
    with pytest.raises(grpc.RpcError, match=words):
        stub.ModelInfer(infer_request(INSTANCES + 1), metadata=metadata)
    assert guarded.post(V1, client, json={"instances": [INSTANCE] * INSTANCES}).status_code == 200


def test_json_nested_too_deep_is_a_400(guarded: Guarded, client: str) -> None:
    for path in (V1, V2):
        for depth in (DEPTH + 1, 9000):
            answer = guarded.post(path, client, content=b'{"\\"[": ' + b"[" * (depth - 1))
            assert answer.status_code == 400
            assert f"nested at most {DEPTH} deep. Received: {depth} deep" in answer.text
    # Brackets in a text are none of the nesting.
    city = INSTANCE | {"city": '[[[[[[[["\\[[[[['}
    assert guarded.post(V1, client, json={"instances": [city]}).status_code == 200


def test_answers_are_safe_for_browsers(guarded: Guarded, client: str) -> None:
    for answer in (guarded.get("/v2", client), guarded.get("/v2"), guarded.get("/v2/x", client)):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].startswith("application/json")


def test_the_next_connection_gets_the_new_certificate(guarded: Guarded) -> None:
    host, port = guarded.server.url.removeprefix("https://").split(":")
    before = ssl.get_server_certificate((host, int(port)))
    assert before in (guarded.folder / "first.pem").read_text()
    pem = guarded.folder / "server.pem"
    pem.write_text("none yet")  # while it is being exchanged the former serves
    assert ssl.get_server_certificate((host, int(port))) == before
    after = make_certificate(guarded.folder / "next.pem").read_text()
    os.replace(guarded.folder / "next.pem", pem)
    assert ssl.get_server_certificate((host, int(port))) in after
    credentials = grpc.ssl_channel_credentials(after.encode())
    with grpc.secure_channel(guarded.server.grpc, credentials) as channel:
        live = GRPCInferenceServiceStub(channel).ServerLive(messages.ServerLiveRequest())
    assert live.live
    log = guarded.server.log.read_text()
    assert "the former certificate stays in use" in log and "Traceback" not in log


def test_killed_under_load_it_serves_the_same_again(
    guarded: Guarded, client: str, serve_project: Callable[..., Any]
) -> None:
    """The last test of this server, which it kills; requests fail, and none is answered wrongly."""
    ask = {"json": {"instances": [INSTANCE]}}
    before = guarded.post(V1, client, **ask).json()
    answers: list[Any] = []

    def strike() -> None:
        with contextlib.suppress(httpx.TransportError):
            while True:
                answers.append(guarded.post(V1, client, **ask))

    threads = [threading.Thread(target=strike) for _ in range(4)]
    for thread in threads:
        thread.start()
    guarded.wait_for(lambda: len(answers) > 20)
    guarded.server.process.kill()
    for thread in threads:
        thread.join(30)
    assert all(answer.json() == before for answer in answers if answer.status_code == 200)
    assert {answer.status_code for answer in answers} <= {200, 429}
    port = int(guarded.server.url.rsplit(":", 1)[1])
    again = serve_project(load_project(guarded.folder), port)
    guarded.server.process, guarded.server.log = again.process, again.log
    pem = guarded.folder / "server.pem"
    context = ssl.create_default_context(cafile=str(pem))
    guarded.server.client = httpx.Client(verify=context, timeout=30)
    guarded.server.wait_ready("/v2/health/ready")
    assert guarded.post(V1, client, **ask).json() == before


def test_without_tokens_only_this_machine_may_ask(version_1: Any, port: int) -> None:
    command = ["serve", str(version_1.project.folder), "--port", str(port), "--host", "0.0.0.0"]
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, ServingError)
    assert str(error) == (
        "--host must be on loopback (127.0.0.1 or ::1), as there are no tokens. Received: 0.0.0.0. "
        "Make one first, then clients send it: `perennial token add PROJECT NAME`."
    )


def test_a_file_of_tokens_that_goes_lets_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    tokens = TokenList(file, look_seconds=0)
    assert not tokens.needed and tokens.current() == []
    add_token(file, "shop", "predicting")
    assert [token.name for token in tokens.current()] == ["shop"] and tokens.needed
    for damage in (lambda: file.write_text("{"), file.unlink):
        damage()
        assert tokens.current() == [] and tokens.needed


def test_a_clock_that_jumps_changes_no_rate() -> None:
    now = [100.0]
    rate = RateLimit(LimitSettings(requests_per_second=2, burst=3), lambda: now[0])
    assert [rate.take("a") for _ in range(3)] == [0, 0, 0]
    assert rate.take("a") == pytest.approx(0.5) and rate.take("b") == 0
    now[0] += 0.5
    assert rate.take("a") == 0 and rate.take("a") > 0
    now[0] += 1e6  # a machine that slept: the bucket is full, and no fuller
    assert [rate.take("a") > 0 for _ in range(4)] == [False, False, False, True]
