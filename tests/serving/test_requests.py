"""The real server over HTTP: answers, bad requests, health, and one folder without a ledger."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

V1, V2 = "/v1/models/tiny:predict", "/v2/models/tiny/infer"
IMAGE, AGE, CITY = [0.0, 0.25, 0.5, 1.0], 41, "Łódź"
INSTANCE = {"image": IMAGE, "age": AGE, "city": CITY}


def tensors(rows: int = 1) -> list[dict[str, Any]]:
    return [
        {"name": "image", "shape": [rows, 4], "datatype": "FP32", "data": IMAGE * rows},
        {"name": "age", "shape": [rows], "datatype": "INT64", "data": [AGE] * rows},
        {"name": "city", "shape": [rows], "datatype": "BYTES", "data": [CITY] * rows},
    ]


def test_v1_answers(version_1: Any) -> None:
    answer = version_1.server.post(V1, {"instances": [INSTANCE, INSTANCE | {"age": -1}]})
    body = answer.json()
    assert (
        answer.status_code == 200
        and body["model_version"] == answer.headers["x-model-version"] == "1"
    )
    assert [row["class"] for row in body["predictions"]] == [0, 0]
    assert all(abs(sum(row["probabilities"]) - 1) < 1e-6 for row in body["predictions"])


def test_v2_answers(version_1: Any) -> None:
    answer = version_1.server.post(V2, {"id": "42", "inputs": tensors(2)})
    body = answer.json()
    outputs = {output["name"]: output for output in body["outputs"]}
    assert answer.status_code == 200 and answer.headers["x-model-version"] == "1"
    assert (body["id"], body["model_name"], body["model_version"]) == ("42", "tiny", "1")
    assert (outputs["class"]["datatype"], outputs["class"]["shape"], outputs["class"]["data"]) == (
        "INT64",
        [2],
        [0, 0],
    )
    assert (outputs["probabilities"]["datatype"], outputs["probabilities"]["shape"]) == (
        "FP32",
        [2, 3],
    )


def test_both_protocols_agree(version_1: Any) -> None:
    one = version_1.server.post(V1, {"instances": [INSTANCE]}).json()["predictions"][0][
        "probabilities"
    ]
    two = version_1.server.post(V2, {"inputs": tensors()}).json()["outputs"][1]["data"]
    assert np.array_equal(np.float32(one), np.float32(two))


def test_v2_asks_for_one_output_and_binary(version_1: Any) -> None:
    chosen = version_1.server.post(V2, {"inputs": tensors(), "outputs": [{"name": "class"}]}).json()
    assert [output["name"] for output in chosen["outputs"]] == ["class"]
    binary = version_1.server.post(
        V2, {"inputs": tensors(), "parameters": {"binary_data_output": True}}
    )
    length = int(binary.headers["inference-header-content-length"])
    assert binary.status_code == 200 and len(binary.content) - length == 8 + 3 * 4


def test_v2_takes_binary_tensors(version_1: Any) -> None:
    inputs = tensors()
    raw = np.array(IMAGE, np.float32).tobytes()
    del inputs[0]["data"]
    inputs[0]["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps({"inputs": inputs}).encode()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    answer = version_1.server.client.post(
        version_1.server.url + V2, content=head + raw, headers=headers
    )
    assert answer.status_code == 200, answer.text


def test_health_and_metadata(version_1: Any) -> None:
    for path in (
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/tiny/ready",
        "/v1/models/tiny",
        "/v1/models",
    ):
        assert version_1.server.get(path).status_code == 200, path
    metadata = version_1.server.get("/v2/models/tiny").json()
    assert {"name": "image", "datatype": "FP32", "shape": [-1, 4]} in metadata["inputs"]
    assert {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]} in metadata["outputs"]
    assert version_1.server.get("/v2/models/tinny/ready").status_code == 404


@pytest.mark.parametrize(
    ("instances", "parts"),
    [
        (
            [INSTANCE, INSTANCE | {"image": IMAGE[1:]}],
            ["instances[1].image must be 4 numbers", "Received: a list of 3 numbers"],
        ),
        ([INSTANCE | {"imag": 1}], ["instances[0].imag", "Did you mean `image`?"]),
        ([{"image": IMAGE, "age": 1}], ["instances[0] must have the feature city"]),
        ([INSTANCE | {"image": [0, 0, 0, "x"]}], ["instances[0].image[3]", "the string 'x'"]),
        ([INSTANCE | {"age": None}], ["instances[0].age", "null"]),
        ([INSTANCE | {"image": [0, 0, [1], 0]}], ["instances[0].image[2]"]),
        ([3], ["instances[0] must be an object"]),
        ([], ["at least one instance"]),
        ({}, ["instances must be a list"]),
    ],
)
def test_v1_bad_request(version_1: Any, instances: object, parts: list[str]) -> None:
    answer = version_1.server.post(V1, {"instances": instances})
    assert answer.status_code == 400
    assert all(part in answer.json()["error"] for part in parts), answer.text


def test_key_that_is_there_twice_is_refused(version_1: Any) -> None:
    one = json.dumps(INSTANCE)[:-1] + ', "age": 2}'
    two = json.dumps({"inputs": tensors()})[:-1] + ', "inputs": []}'
    for path, body in ((V1, f'{{"instances": [{one}]}}'), (V2, two)):
        kind = {"content-type": "application/json"}
        url = version_1.server.url + path
        answer = version_1.server.client.post(url, content=body, headers=kind)
        assert answer.status_code == 400 and "each key of an object once" in answer.json()["error"]


def test_text_and_truth_values_are_numbers(version_1: Any) -> None:
    plain = version_1.server.post(V1, {"instances": [INSTANCE | {"age": 1}]}).json()
    for age in ("1", True, "True", 1.0):
        assert version_1.server.post(V1, {"instances": [INSTANCE | {"age": age}]}).json() == plain


def test_another_signature_is_refused(version_1: Any) -> None:
    body = {"instances": [INSTANCE]}
    assert version_1.server.post(V1, body | {"signature_name": "serving_default"}).is_success
    answer = version_1.server.post(V1, body | {"signature_name": "regress"})
    assert answer.status_code == 400 and "signature_name must be" in answer.json()["error"]


def test_values_outside_their_domain_are_flagged_and_counted(version_1: Any) -> None:
    inside = version_1.server.post(V1, {"instances": [INSTANCE]}).json()
    assert "outside_domain" not in inside
    answer = version_1.server.post(V1, {"instances": [INSTANCE, INSTANCE | {"age": 200}]}).json()
    assert answer["predictions"][0] == inside["predictions"][0]
    flagged = {
        "instance": 1,
        "feature": "age",
        "expected": "at most 150",
        "received": "200",
    }
    assert answer["outside_domain"] == {"count": 1, "first": [flagged]}
    rows = tensors()
    rows[1]["data"] = [200]
    parameters = version_1.server.post(V2, {"inputs": rows}).json()["parameters"]
    assert "instances[0].age must be at most 150. Received: 200" in parameters["outside_domain"]
    counted = 'perennial_values_outside_domain_total{feature="age"} 2.0'
    assert counted in version_1.server.get("/metrics").text


@pytest.mark.parametrize("path", [V1, V2])
@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "text/plain",
        "application/octet-stream",
        "application/json; charset=utf-8",
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\x00",
        b"[" * 100_000,
        b'{"instances": [{"image": [NaN, 0, 0, 0], "age": 1, "city": ""}]}',
        b'{"inputs": 3}',
        b'{"inputs": [{}]}',
        b'{"inputs": [{"name": "image", "shape": [1, 4], "datatype": "FP32", "data": [NaN, 0, 0, 0]}]}',
        b'{"inputs": [{"name": "\\ud800", "shape": [1, 4], "datatype": "FP32", "data": []}]}',
        b'{"inputs": [], "parameters": []}',
        b'{"inputs": [], "outputs": [{"name": 1}]}',
    ],
)
def test_malformed_body_is_a_400(version_1: Any, path: str, kind: str, body: bytes) -> None:
    answer = version_1.server.client.post(
        version_1.server.url + path, content=body, headers={"content-type": kind}
    )
    assert answer.status_code == 400, answer.text
    assert " must " in answer.json()["error"] or "pars" in answer.json()["error"]


@pytest.mark.parametrize(
    ("headers", "change"),
    [
        ({"inference-header-content-length": "x"}, {}),
        ({"inference-header-content-length": "5"}, {}),
        ({}, {"parameters": {"binary_data_size": 3}}),
        ({}, {"parameters": {"binary_data_size": "x"}}),
        ({}, {"datatype": "FP99", "parameters": {"binary_data_size": 0}}),
        ({}, {"datatype": "BYTES", "parameters": {"binary_data_size": 0}}),
    ],
)
def test_malformed_binary_is_a_400(
    version_1: Any, headers: dict[str, str], change: dict[str, Any]
) -> None:
    inputs = tensors()
    if change:
        del inputs[0]["data"]
        inputs[0] |= change
    kind = {"content-type": "application/octet-stream"}
    answer = version_1.server.client.post(
        version_1.server.url + V2, content=json.dumps({"inputs": inputs}), headers=kind | headers
    )
    assert answer.status_code == 400, answer.text


def test_v2_bad_requests(version_1: Any) -> None:
    short = tensors()
    short[0]["shape"], short[0]["data"] = [1, 3], IMAGE[1:]
    assert (
        "inputs[0] (image) must have the shape [n, 4]"
        in version_1.server.post(V2, {"inputs": short}).json()["error"]
    )
    missing = version_1.server.post(V2, {"inputs": tensors()[:2]})
    assert missing.status_code == 400 and "must have the feature city" in missing.json()["error"]
    unknown = version_1.server.post(V2, {"inputs": tensors(), "outputs": [{"name": "clas"}]})
    assert unknown.status_code == 400 and "Did you mean `class`?" in unknown.json()["error"]


def test_bad_requests_leave_no_stack_trace(version_1: Any) -> None:
    version_1.server.post(V1, {"instances": 3})
    log = version_1.server.log.read_text()
    assert "Traceback" not in log and "Warning:" not in log


def test_nobody_unloads_the_model_over_http(version_1: Any) -> None:
    for verb in ("load", "unload"):
        assert (
            version_1.server.client.post(
                f"{version_1.server.url}/v2/repository/models/tiny/{verb}"
            ).status_code
            == 400
        )
    assert version_1.serving_version() == "1"


def test_cloud_event_headers_change_nothing(version_1: Any) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "x", "ce-source": "y"}
    answer = version_1.server.client.post(
        version_1.server.url + V1, json={"instances": [INSTANCE]}, headers=headers
    )
    assert answer.status_code == 200 and answer.json()["model_version"] == "1"


def test_health_is_answered_while_a_large_batch_is_computed(version_1: Any) -> None:
    url, healthy, sizes = version_1.server.url, 0, []

    def send() -> None:
        answer = httpx.post(url + V1, json={"instances": [INSTANCE] * 50_000}, timeout=60)
        sizes.append(len(answer.json()["predictions"]))

    thread = threading.Thread(target=send)
    thread.start()
    while thread.is_alive():
        healthy += version_1.server.get("/v2/health/ready").status_code == 200
    assert sizes == [50_000]
    # An event loop that computes would answer once before and once after.
    assert healthy > 10


def test_serve_folder(tiny_models: dict[str, Path], forge: Any, port: int) -> None:
    """A forked child serves a folder, as the pipeline's check does.

    SIGTERM ends it as a success.
    """
    from perennial.storage.digests import digest_folder

    folder = tiny_models["one"]
    server = forge.serve_folder("check", "7", folder, digest_folder(folder), port)
    server.wait_ready("/v2/models/check/ready")
    answer = server.post(
        "/v1/models/check:predict", {"instances": [IMAGE, {"image": IMAGE}]}
    ).json()
    assert [row["class"] for row in answer["predictions"]] == [2, 2] and answer[
        "model_version"
    ] == "7"
    assert server.stop() == 0, server.log.read_text()


def test_folder_with_another_digest(tiny_models: dict[str, Path], port: int) -> None:
    from perennial.errors import IntegrityError
    from serving.server import serve_folder

    with pytest.raises(IntegrityError, match="must have the SHA-256"):
        serve_folder("check", "7", tiny_models["one"], "0" * 64, port)
