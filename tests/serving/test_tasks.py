"""The real server over HTTP.

A model with two tasks, a latent vector and defaults, and a regression.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import pytest

V1, V2 = "/v1/models/tiny:predict", "/v2/models/tiny/infer"
MILES = {"name": "miles", "shape": [2], "datatype": "FP32", "data": [0.0, 1.5]}
CHANCE = 1 / (1 + math.exp(-1.5))


@pytest.fixture
def trip(world: Any) -> Any:
    world.serve_version("5")
    return world.server


@pytest.fixture
def fare(world: Any) -> Any:
    world.serve_version("6")
    return world.server


def outputs(answer: Any) -> dict[str, Any]:
    """Output -> its datatype, shape and data."""
    assert answer.status_code == 200, answer.text
    found = answer.json()["outputs"]
    return {
        output["name"]: (output["datatype"], output["shape"], output["data"]) for output in found
    }


def test_v1_answers_each_task_by_its_name(trip: Any) -> None:
    answer = trip.post(
        V1, {"instances": [{"miles": 0.0}, {"miles": 1.5, "company": "Blue", "hours": [1, 2]}]}
    )
    first, second = answer.json()["predictions"]
    assert first == {"tipped": {"class": 0, "probabilities": [0.5, 0.5]}, "fare": {"value": 3.25}}
    assert second["tipped"] == {"class": 1, "probabilities": pytest.approx([1 - CHANCE, CHANCE])}
    assert second["fare"] == {"value": 6.25}


def test_v1_answers_a_regression_with_its_value(fare: Any) -> None:
    assert fare.post(V1, {"instances": [{"miles": 1.5}]}).json()["predictions"] == [{"value": 6.25}]


def test_v1_gives_the_latent_vector_when_asked(trip: Any) -> None:
    rows = [{"miles": 0.0}, {"miles": 0.0, "company": "Blue", "hours": [1, 2]}]
    predictions = trip.post(V1, {"instances": rows, "parameters": {"latent": True}}).json()[
        "predictions"
    ]
    # `unknown` has seven letters.
    assert [prediction["latent"] for prediction in predictions] == [[7, 0, 12], [4, 1, 2]]
    assert all(set(prediction) == {"tipped", "fare", "latent"} for prediction in predictions)


@pytest.mark.parametrize("value", [b"Bl\xc3\xbce", b"\xff\xd8\x00\x00" * 50, b""])
def test_bytes_reach_the_model_as_they_are_in_both_protocols(trip: Any, value: bytes) -> None:
    """The model's latent vector tells how many bytes it got."""
    encoded = {"b64": base64.b64encode(value).decode()}
    one = trip.post(
        V1, {"instances": [{"miles": 0.0, "company": encoded}], "parameters": {"latent": True}}
    )
    assert one.json()["predictions"][0]["latent"][0] == len(value)
    latent = [{"name": "latent"}]
    company = {"name": "company", "shape": [2], "datatype": "BYTES"}
    sent = [MILES, company | {"data": [encoded, "Blue"]}]
    found = outputs(trip.post(V2, {"inputs": sent, "outputs": latent}))["latent"]
    assert found[2][::3] == [len(value), 4]
    raw = b"".join(struct.pack("<I", len(each)) + each for each in (value, b"Blue"))
    numbers = struct.pack("<ff", 0.0, 1.5)
    sent = [
        {key: item for key, item in MILES.items() if key != "data"}
        | {"parameters": {"binary_data_size": len(numbers)}},
        company | {"parameters": {"binary_data_size": len(raw)}},
    ]
    head = json.dumps({"inputs": sent, "outputs": latent}).encode()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    url = trip.url + V2
    found = outputs(trip.client.post(url, content=head + numbers + raw, headers=headers))["latent"]
    assert found[2][::3] == [len(value), 4]


def test_bytes_that_are_not_base64_are_a_400(trip: Any) -> None:
    answer = trip.post(V1, {"instances": [{"miles": 0.0, "company": {"b64": "a"}}]})
    assert answer.status_code == 400
    assert "instances[0].company.b64 must be base64" in answer.json()["error"]


def test_v1_latent_of_a_model_without_one(fare: Any) -> None:
    answer = fare.post(V1, {"instances": [{"miles": 0.0}], "parameters": {"latent": True}})
    assert answer.status_code == 400
    assert (
        "parameters.latent must be false, as the model gives no latent vector"
        in answer.json()["error"]
    )
    assert "model.latent in project.yaml" in answer.json()["error"]


def test_v2_gives_predictions_by_output_name_and_fills_defaults(trip: Any) -> None:
    found = outputs(trip.post(V2, {"inputs": [MILES]}))
    assert list(found) == ["tipped_class", "tipped_probabilities", "fare_value"]
    assert found["tipped_class"] == ("INT64", [2], [0, 1])
    assert found["tipped_probabilities"] == (
        "FP32",
        [2, 2],
        pytest.approx([0.5, 0.5, 1 - CHANCE, CHANCE]),
    )
    assert found["fare_value"] == ("FP32", [2], [3.25, 6.25])


def test_v2_gives_the_latent_vector_when_asked(trip: Any) -> None:
    asked = [{"name": "latent"}, {"name": "fare_value"}]
    found = outputs(trip.post(V2, {"inputs": [MILES], "outputs": asked}))
    assert list(found) == ["latent", "fare_value"]
    assert found["latent"] == ("FP32", [2, 3], [7, 0, 12, 7, 0, 12])


@pytest.mark.parametrize("name", ["latent", "class", "probabilities"])
def test_v2_output_that_a_regression_does_not_have(fare: Any, name: str) -> None:
    answer = fare.post(V2, {"inputs": [MILES], "outputs": [{"name": name}]})
    assert (
        answer.status_code == 400
        and "must be one of the model's outputs (value)" in answer.json()["error"]
    )


def test_metadata(trip: Any) -> None:
    metadata = trip.get("/v2/models/tiny").json()
    assert metadata["inputs"] == [
        {"name": "company", "datatype": "BYTES", "shape": [-1]},
        {"name": "hours", "datatype": "INT64", "shape": [-1, 2]},
        {"name": "miles", "datatype": "FP32", "shape": [-1]},
    ]
    assert metadata["outputs"] == [
        {"name": "tipped_class", "datatype": "INT64", "shape": [-1]},
        {"name": "tipped_probabilities", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "fare_value", "datatype": "FP32", "shape": [-1]},
        {"name": "latent", "datatype": "FP32", "shape": [-1, 3]},
    ]


def test_value_that_is_not_finite_is_refused(trip: Any) -> None:
    answer = trip.post(V1, {"instances": [{"miles": 1.0}, {"miles": 3e38}]})
    assert answer.status_code == 400
    assert (
        "instances[1] must be values for which the model's fare_value is finite"
        in answer.json()["error"]
    )
