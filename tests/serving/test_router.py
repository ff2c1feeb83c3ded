"""Arms that are slow or raise: answers are the champion's, in time, and everything is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import InputError
from perennial.export.saved_model import SERVING_SIGNATURE
from perennial.export.served_model import ServedModel
from perennial.production.arms import Challenger
from schemas.records import ModelContract, ServedFeature, ServedTask
from serving.domains import DomainCheck
from serving.keys import key_text
from serving.metrics import ArmMetrics
from serving.observer import Answered, ObserverQueue
from serving.runtime import LoadedModel, make_features
from serving.server import _no_arguments
from serving.slot import LiveArms, LiveTest, Slot

with _no_arguments():
    from serving.answers import V1Request
    from serving.router import SHADOWED, Router

CONTRACT = ModelContract(
    features=[ServedFeature(name="age", dtype="int64", shape=[])],
    tasks=[ServedTask(name="price", kind="regression")],
)
TEST = Challenger(7, "2", "d2", 1.0, False, "salt", "2026-01-01T00:00:00+00:00", 14)


def model(version: str, price: Callable[[], float]) -> LoadedModel:
    import tensorflow as tf

    def serve(age: Any) -> dict[str, Any]:
        return {"value": tf.cast(age, tf.float32) * 0 + price()}

    served = ServedModel("tiny", CONTRACT, {SERVING_SIGNATURE: serve}, None)
    return LoadedModel("tiny", version, f"d{version}", make_features(CONTRACT), served)


class Log:
    """Keeps what it learns."""

    def __init__(self) -> None:
        self.answers: list[Answered] = []

    def observe(self, answered: Answered) -> None:
        self.answers.append(answered)

    def close(self) -> None:
        pass


class Arms:
    """A router over a champion that answers 1.0 and another arm."""

    def __init__(self, price: Callable[[], float] | None, **changes: Any) -> None:
        self.slot = Slot(model("1", lambda: 1.0))
        other = None if price is None else model("2", price)
        test = LiveTest(replace(TEST, **changes), other)
        self.slot.arms = LiveArms(self.slot.model, test)
        self.log = Log()
        self.observers = ObserverQueue(self.log)
        self.metrics = ArmMetrics()
        self.router = Router(self.slot, DomainCheck(), self.metrics, self.observers)

    def ask(self, *instances: Any, **headers: str) -> Any:
        payload = {"instances": list(instances) or [{"age": 41, "id": "somebody"}]}
        return self.router.answer(lambda: V1Request(payload, "id", headers), time.perf_counter())

    def counted(self) -> dict[tuple[str, ...], float]:
        return {
            (sample.name.removeprefix("perennial_"), *sample.labels.values()): sample.value
            for metric in self.metrics.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }


def boom() -> float:
    raise RuntimeError("no such table")


def test_a_challenger_that_raises_is_answered_for_counted_and_noted() -> None:
    arms = Arms(boom)
    reply = arms.ask()
    assert reply.arm == "champion" and reply.answer["predictions"] == [{"value": 1.0}]
    counted = arms.counted()
    assert counted["fallbacks_total", "2", "failed"] == 1
    assert counted["requests_total", "2", "challenger", "failed"] == 1
    assert counted["requests_total", "1", "champion", "answered"] == 1
    (failure,) = arms.slot.failures
    assert (failure.arm, failure.number, failure.version) == ("challenger", 7, "2")
    assert failure.reason == "raised on a request: RuntimeError: no such table"
    arms.observers.close()
    (answered,) = arms.log.answers
    # The split's choice stays on record: the one that failed is not compared without its failures.
    assert (answered.arm, answered.assigned, answered.test) == ("champion", "challenger", 7)


def test_an_answer_that_is_not_finite_is_the_champions_to_give() -> None:
    arms = Arms(lambda: float("nan"))
    assert arms.ask().arm == "champion"
    assert arms.counted()["fallbacks_total", "2", "refused"] == 1


def test_one_that_is_not_loaded_and_a_request_that_nobody_takes() -> None:
    arms = Arms(None)
    assert arms.ask().arm == "champion"
    assert arms.counted()["fallbacks_total", "2", "not_loaded"] == 1
    with pytest.raises(InputError, match="age"):
        arms.ask({"age": "old"})
    counted = arms.counted()
    assert counted["fallbacks_total", "2", "not_loaded"] == 1
    assert counted["requests_total", "1", "champion", "refused"] == 1


def test_a_shadow_that_hangs_holds_up_no_answer_and_what_it_misses_is_counted() -> None:
    release = threading.Event()

    def hang() -> float:
        release.wait(60)
        return 2.0

    arms = Arms(hang, shadow=True, share=0.0)
    replies = [arms.ask().arm for _ in range(SHADOWED + 20)]  # none waits, or this would not end
    assert set(replies) == {"champion"}
    dropped = arms.counted()["shadow_dropped_total",]
    assert 19 <= dropped <= 20  # one is in its hands
    release.set()
    wait_for = SHADOWED + 20 - dropped
    while arms.counted().get(("requests_total", "2", "shadow", "answered"), 0) < wait_for:
        time.sleep(0.01)
    arms.observers.close()
    shadowed = [each for each in arms.log.answers if each.arm == "shadow"]
    asked = {each.request_id for each in arms.log.answers if each.arm == "champion"}
    assert len(shadowed) == wait_for and {each.request_id for each in shadowed} <= asked
    assert {float(each.predictions["value"][0]) for each in shadowed} == {2.0}


def test_a_shadow_that_raises_goes_on_with_the_next_request() -> None:
    arms = Arms(boom, shadow=True, share=0.0)
    assert [arms.ask().arm for _ in range(3)] == ["champion"] * 3
    while arms.counted().get(("requests_total", "2", "shadow", "failed"), 0) < 3:
        time.sleep(0.01)
    assert {each.arm for each in arms.slot.failures} == {"shadow"}


def test_the_log_has_each_instances_key_or_the_requests() -> None:
    arms = Arms(lambda: 2.0)
    arms.ask({"age": 1, "id": "a"}, {"age": 2}, {"age": 3, "id": 7}, **{"x-perennial-key": "k"})
    arms.ask({"age": 1}, **{"x-request-id": "r-1"})
    arms.observers.close()
    first, second = arms.log.answers
    assert first.keys == ["a", "k", "7"] and first.features["age"].tolist() == [1, 2, 3]
    assert second.keys == [None] and second.request_id == "r-1"


def test_an_observer_that_raises_or_falls_behind_is_counted() -> None:
    class Broken(Log):
        def observe(self, _answered: Answered) -> None:
            raise OSError("no space left on device")

    observers = ObserverQueue(Broken(), size=2)
    arms = Arms(lambda: 2.0)
    arms.ask()
    arms.observers.close()
    for _ in range(50):
        observers.put(arms.log.answers[0])
    observers.close()
    assert observers.failed + observers.dropped == 50 and observers.failed > 0


def test_the_metrics_of_versions_long_gone_are_forgotten() -> None:
    metrics = ArmMetrics()
    for number in range(200):
        metrics.count("1", "champion", "answered", 0.01)
        metrics.count(str(number), "challenger", "answered", 0.01)
    names = [sample for metric in metrics.collect() for sample in metric.samples]
    assert len(names) < 600
    assert any(
        sample.labels == {"version": "1", "arm": "champion", "result": "answered"}
        and sample.value == 200
        for sample in names
    )


@given(st.integers() | st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_a_key_is_the_same_in_every_form(value: object) -> None:
    text = key_text(value)
    assert text == key_text([value]) == key_text(str(value)) == key_text(str(value).encode())
    assert key_text(41) == key_text(41.0) == "41"
    for none in (None, True, {}, [], [1, 2], float("nan"), "", {"b64": "?"}):
        assert key_text(none) is None
