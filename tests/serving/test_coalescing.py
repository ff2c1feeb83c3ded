"""Requests that arrive together share a call; what each gets is what it would get alone, to the bit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pytest

from components.predict_batch.step import predict_batch
from perennial.errors import InputError
from serving.coalescing import SIZES, SharedCalls, choose_sizes
from serving.features import Feature
from serving.server import _no_arguments

with _no_arguments():
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

X = Feature("x", "float32", (2,))
BAD = -1.0


class Model:
    """Doubles rows, refuses a bad one, and computes only as fast as a test lets it."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        self.sizes.append(len(arrays["x"]))
        assert self.free.wait(10)
        if (arrays["x"] == BAD).any():
            raise InputError("the instances", "must be values", "bad", "Correct them.")
        return {"y": arrays["x"] * 2}


def rows(count: int, value: float = 1.0, width: int = 2) -> dict[str, Any]:
    return {"x": np.full([count, width], value, np.float32)}


def ask_while_busy(calls: SharedCalls, model: Model, requests: list[dict[str, Any]]) -> list[Any]:
    """Sends requests while the model computes another; gives what each got."""

    def ask(request: dict[str, Any]) -> Any:
        try:
            return calls.answer(request)["y"]
        except InputError as error:
            return error

    with ThreadPoolExecutor(len(requests) + 1) as pool:
        model.free.clear()
        first = pool.submit(ask, rows(1, 50))
        wait_until(lambda: model.sizes)
        asked = []
        for request in requests:  # in this order
            asked.append(pool.submit(ask, request))
            wait_until(lambda: len(calls._waiting) == len(asked))
        model.free.set()
        assert first.result()[0, 0] == 100
        return [each.result() for each in asked]


def wait_until(holds: Any) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_who_waits_shares_the_next_call() -> None:
    model = Model()
    calls = SharedCalls(model)
    answers = ask_while_busy(calls, model, [rows(3, 1), rows(2, 2), rows(1, 3)])
    assert [(len(each), each[0, 0]) for each in answers] == [(3, 2), (2, 4), (1, 6)]
    assert model.sizes == [16, 16] and (calls.calls, calls.requests) == (2, 4)


def test_a_call_takes_the_oldest_and_what_fits_beside_it() -> None:
    model = Model()
    calls = SharedCalls(model, (16,))
    answers = ask_while_busy(calls, model, [rows(10), rows(10, 2), rows(4, 3), rows(1, 4, width=5)])
    assert [each[0, 0] for each in answers] == [2, 4, 6, 8]
    # 10 and 4 rows; the other 10; those of another width.
    assert model.sizes == [16, 16, 16, 16] and calls.requests == 5


def test_a_bad_row_fails_its_own_request_only() -> None:
    model = Model()
    good, bad, other = ask_while_busy(
        SharedCalls(model), model, [rows(1, 1), rows(2, BAD), rows(1, 3)]
    )
    assert good[0, 0] == 2 and other[0, 0] == 6 and isinstance(bad, InputError)


def test_who_stops_waiting_stops_nobody_else() -> None:
    model = Model()
    calls = SharedCalls(model)

    async def ask() -> Any:
        model.free.clear()
        first = asyncio.create_task(calls.answer_soon(rows(1, 1)))
        while not model.sizes:
            await asyncio.sleep(0.001)
        gone, stays = (asyncio.create_task(calls.answer_soon(rows(1, value))) for value in (2, 3))
        while len(calls._waiting) < 2:
            await asyncio.sleep(0.001)
        gone.cancel()
        await asyncio.sleep(0.01)
        model.free.set()
        with pytest.raises(asyncio.CancelledError):
            await gone
        return await first, await stays, await calls.answer_soon(rows(1, 4))

    answers = asyncio.run(asyncio.wait_for(ask(), 10))
    assert [each["y"][0, 0] for each in answers] == [2, 6, 8]


def test_more_rows_than_a_call_takes_are_computed_in_several() -> None:
    model = Model()
    values = np.arange(2 * 2500, dtype=np.float32).reshape(2500, 2)
    assert np.array_equal(SharedCalls(model).answer({"x": values})["y"], values * 2)
    assert model.sizes == [1024, 1024, 1024]


def test_without_sizes_each_request_has_its_own_call() -> None:
    model = Model()
    calls = SharedCalls(model, ())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(calls.answer, [rows(count) for count in (1, 3, 2)]))
    assert sorted(model.sizes) == [1, 2, 3]


def test_only_sizes_at_which_rows_do_not_mind_their_company_are_used() -> None:
    def minds_size(arrays: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": arrays["x"] * (1 + 1e-6 * (len(arrays["x"]) == 64))}

    def minds_company(arrays: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": arrays["x"] - arrays["x"][:1]}

    def refuses(_arrays: Mapping[str, Any]) -> dict[str, Any]:
        raise InputError("the instances", "must be images", "none", "Send one.")

    assert choose_sizes(Model(), [X]) == SIZES
    assert choose_sizes(minds_size, [X]) == (16, 256, 1024)
    assert choose_sizes(minds_company, [X]) == () == choose_sizes(refuses, [X])


@pytest.fixture
def dense(world: Any) -> Any:
    world.serve_version("9")
    return world


def test_rest_grpc_and_batch_give_the_same_scores_to_the_bit(dense: Any, tmp_path: Path) -> None:
    server = dense.server
    pixels = np.random.default_rng(7).uniform(0, 16, [40, 64]).astype(np.float32)

    def alone(row: Any) -> list[float]:
        body = {"instances": [{"pixels": row.tolist()}]}
        return server.post("/v1/models/tiny:predict", body).json()["predictions"][0][
            "probabilities"
        ]

    with ThreadPoolExecutor(8) as pool:
        scores = np.array(list(pool.map(alone, pixels)), np.float32)
    tensor = {
        "name": "pixels",
        "shape": [40, 64],
        "datatype": "FP32",
        "data": pixels.ravel().tolist(),
    }
    rest = server.post("/v2/models/tiny/infer", {"inputs": [tensor]}).json()["outputs"]
    request = messages.ModelInferRequest(model_name="tiny", raw_input_contents=[pixels.tobytes()])
    request.inputs.add(name="pixels", datatype="FP32", shape=[40, 64])
    with grpc.insecure_channel(server.grpc) as channel:
        answer = GRPCInferenceServiceStub(channel).ModelInfer(request)
    place = [output.name for output in answer.outputs].index("probabilities")
    data = tmp_path / "rows.parquet"
    pd.DataFrame({"pixels": list(pixels)}).to_parquet(data)
    predict_batch(dense.project, data, tmp_path / "scored.parquet")
    batch = pd.read_parquet(tmp_path / "scored.parquet")["probabilities"]
    (values,) = (output["data"] for output in rest if output["name"] == "probabilities")
    assert np.array(values, np.float32).tobytes() == scores.tobytes()
    assert answer.raw_output_contents[place] == scores.tobytes()
    assert np.stack(batch.to_list()).astype(np.float32).tobytes() == scores.tobytes()
