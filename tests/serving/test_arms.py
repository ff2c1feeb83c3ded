"""The real server with two arms: who answers what, by REST and gRPC, and what goes wrong in tests.

Version 1 prefers class 0 and version 2 class 1, so an answer shows which one computed it; version 5
takes other features than version 1 does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from perennial.ledger.events import Ledger, body_of
from perennial.production.arms import (
    Challenger,
    change_share,
    end_test,
    find_arms,
    start_test,
)
from schemas.records import ABStarted, LoadFailed
from serving.server import _no_arguments

with _no_arguments():
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

V1, V2 = "/v1/models/tiny:predict", "/v2/models/tiny/infer"
INSTANCE = {"image": [0.0, 0.25, 0.5, 1.0], "age": 41, "city": "Łódź"}
TENSORS = [
    {"name": "image", "shape": [1, 4], "datatype": "FP32", "data": INSTANCE["image"]},
    {"name": "age", "shape": [1], "datatype": "INT64", "data": [41]},
    {"name": "city", "shape": [1], "datatype": "BYTES", "data": ["Łódź"]},
]
KEYS = [f"person-{number}" for number in range(40)]


@pytest.fixture
def ledger(version_1: Any) -> Iterator[Ledger]:
    """The ledger of the world, in which no test runs before or after."""
    ledger = Ledger(version_1.project.ledger_url)
    yield ledger
    if (arms := find_arms(ledger)) and arms.challenger:
        end_test(ledger, arms.challenger.test, "stopped", ["the end"])
        wait(lambda: not shares(version_1).keys() - {"champion"})
    ledger.close()


def begin(world: Any, ledger: Ledger, version: str, **changes: Any) -> Challenger:
    champion = ledger.champion()
    assert champion is not None
    values = {"share": 0.5, "shadow": False, "salt": "salt", "max_days": 1.0} | changes
    digest = values.pop("digest", world.digests[version])
    test = ABStarted(
        champion_deployment=champion.deployment,
        challenger_version=version,
        challenger_digest=digest,
        started_by="test",
        **values,
    )
    return start_test(ledger, test)


def wait(happens: Callable[[], Any], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.05)


def metrics(world: Any, name: str) -> dict[str, float]:
    """The values of a metric by their labels."""
    lines = world.server.get("/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith((f"{name}{{", f"{name} ")))
    return {labels.removeprefix(name): float(value) for labels, value in pairs}


def shares(world: Any) -> dict[str, float]:
    values = metrics(world, "perennial_arm_share")
    return {labels.split('arm="')[1].split('"')[0]: value for labels, value in values.items()}


def ask(world: Any, key: str | None = None, **headers: str) -> tuple[str, int, Any]:
    """The arm that answers an instance with a key, its class, and the answer."""
    instance = INSTANCE | ({"id": key} if key else {})
    answer = world.server.client.post(
        world.server.url + V1, json={"instances": [instance]}, headers=headers
    )
    assert answer.status_code == 200, answer.text
    return answer.headers["x-model-arm"], answer.json()["predictions"][0]["class"], answer


def test_the_challenger_takes_its_share_by_key_in_each_protocol(
    version_1: Any, ledger: Ledger
) -> None:
    """Followed within 2 seconds; REST v1 and v2 and gRPC agree; a larger share keeps its keys."""
    challenger = begin(version_1, ledger, "2")
    began = time.monotonic()
    wait(lambda: shares(version_1).get("challenger") == 0.5)
    assert time.monotonic() - began < 4
    expected = {key: "challenger" if challenger.takes(key) else "champion" for key in KEYS}
    assert set(expected.values()) == {"champion", "challenger"}
    versions = {"champion": ("1", 0), "challenger": ("2", 1)}
    digests = set()
    with grpc.insecure_channel(version_1.server.grpc) as channel:
        infer = GRPCInferenceServiceStub(channel).ModelInfer
        for number, (key, arm) in enumerate(expected.items()):
            by_key, preferred, answer = ask(version_1, key)
            assert (by_key, preferred) == (arm, versions[arm][1])
            assert answer.json()["model_version"] == versions[arm][0]
            assert ask(version_1, **{"x-perennial-key": key})[0] == arm
            digests.add(answer.headers["x-model-contract"])
            if number > 6:
                continue
            column = {"name": "id", "shape": [1], "datatype": "BYTES", "data": [key]}
            for body in (
                {"inputs": [*TENSORS, column]},
                {"inputs": TENSORS, "parameters": {"key": key}},
            ):
                rest = version_1.server.post(V2, body).json()
                assert rest["parameters"]["arm"] == arm, rest
                assert rest["model_version"] == versions[arm][0]
            reply = infer(message(key))
            assert reply.parameters["arm"].string_param == arm
            assert reply.parameters["contract"].string_param == rest["parameters"]["contract"]
    assert len(digests) == 1  # both versions take and give the same
    change_share(ledger, 0.8, "it does well")
    wait(lambda: shares(version_1).get("challenger") == 0.8)
    arms = {key: ask(version_1, key)[0] for key in KEYS}
    assert all(arms[key] == arm for key, arm in expected.items() if arm == "challenger")
    assert sum(arm == "challenger" for arm in arms.values()) > 20
    end_test(ledger, challenger.test, "stopped", ["enough"])
    wait(lambda: set(shares(version_1)) == {"champion"})
    assert {ask(version_1, key)[0] for key in KEYS} == {"champion"}
    counted = metrics(version_1, "perennial_requests_total")
    assert counted['{arm="challenger",result="answered",version="2"}'] > 20
    assert metrics(version_1, "perennial_request_seconds_count")['{arm="challenger",version="2"}']


def message(key: str) -> Any:
    tensor = messages.ModelInferRequest.InferInputTensor
    contents = [
        {"fp32_contents": INSTANCE["image"]},
        {"int64_contents": [41]},
        {"bytes_contents": ["Łódź".encode()]},
    ]
    inputs = [
        tensor(name=item["name"], shape=item["shape"], datatype=item["datatype"], contents=values)
        for item, values in zip(TENSORS, contents, strict=True)
    ]
    asked = messages.ModelInferRequest(model_name="tiny", inputs=inputs)
    asked.parameters["key"].string_param = key
    return asked


def test_a_promoted_challenger_answers_everything_without_being_loaded_again(
    version_1: Any, ledger: Ledger
) -> None:
    begin(version_1, ledger, "2")
    wait(lambda: "challenger" in shares(version_1))
    version_1.serve_version("2")
    assert {ask(version_1, key)[0] for key in KEYS} == {"champion"}
    log = version_1.server.log.read_text().splitlines()
    line = next(line for line in reversed(log) if "version 2 serves now" in line)
    assert ", 0.0 s)" in line


def test_what_does_not_fit_the_challenger_is_answered_by_the_champion_and_counted(
    version_1: Any, ledger: Ledger
) -> None:
    begin(version_1, ledger, "5", share=1.0)
    wait(lambda: shares(version_1).get("challenger") == 1.0)
    before = metrics(version_1, "perennial_fallbacks_total")
    assert ask(version_1, "somebody")[:2] == ("champion", 0)
    name = '{cause="refused",version="5"}'
    after = metrics(version_1, "perennial_fallbacks_total")
    assert after[name] == before.get(name, 0) + 1
    trip = {"instances": [{"miles": 1.0}]}  # the challenger takes it, the champion does not
    taken = version_1.server.post(V1, trip)
    assert taken.headers["x-model-arm"] == "challenger"
    assert taken.headers["x-model-contract"] != ask(version_1)[2].headers["x-model-contract"]
    # What neither takes is refused in the champion's words, and is no fallback.
    wrong = version_1.server.post(V1, {"instances": [{"wrong": 1}]})
    assert wrong.status_code == 400 and "image" in wrong.text
    fallbacks = metrics(version_1, "perennial_fallbacks_total")
    assert fallbacks[name] == after[name] + 1


@pytest.mark.parametrize("shadow", [False, True])
def test_one_that_cannot_be_loaded_takes_no_traffic_and_the_ledger_says_why(
    version_1: Any, ledger: Ledger, shadow: bool
) -> None:
    share = 0.0 if shadow else 1.0
    challenger = begin(version_1, ledger, "4", share=share, shadow=shadow)
    failed = failure(ledger, challenger)
    assert (failed.version, failed.arm) == ("4", challenger.arm)
    assert "must give `class` int64" in failed.reason
    assert ask(version_1, "somebody")[:2] == ("champion", 0)
    assert set(shares(version_1)) == {"champion"}
    if not shadow:
        wait(lambda: metrics(version_1, "perennial_fallbacks_total"))
        name = '{cause="not_loaded",version="4"}'
        assert metrics(version_1, "perennial_fallbacks_total")[name] >= 1


def failure(ledger: Ledger, challenger: Challenger) -> LoadFailed:
    """What the server recorded of a test."""
    wait(lambda: ledger.events("load_failed", after=challenger.test))
    return body_of(ledger.events("load_failed", after=challenger.test)[0], LoadFailed)


def test_a_shadow_answers_copies_and_is_never_returned(version_1: Any, ledger: Ledger) -> None:
    begin(version_1, ledger, "2", share=0.0, shadow=True)
    wait(lambda: "shadow" in shares(version_1))
    assert shares(version_1) == {"champion": 1.0, "shadow": 0.0}
    assert {ask(version_1, key)[:2] for key in KEYS} == {("champion", 0)}
    name = '{arm="shadow",result="answered",version="2"}'
    dropped = "perennial_shadow_dropped_total"
    wait(
        lambda: (
            metrics(version_1, "perennial_requests_total").get(name, 0)
            + metrics(version_1, dropped)[""]
            >= len(KEYS)
        )
    )


def test_a_damaged_challenger_takes_no_traffic(version_1: Any, ledger: Ledger) -> None:
    """Its files are not those that were registered."""
    challenger = begin(version_1, ledger, "6", share=1.0, digest="0" * 64)
    assert "must have the digest 000" in failure(ledger, challenger).reason
    assert ask(version_1, "somebody")[0] == "champion"
