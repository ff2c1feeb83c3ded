"""From a request to its arm, and to the answer: the champion's, wherever another arm fails.

Runs in worker threads. A shadow answers a copy of each request, in a thread of its own behind a
bounded queue: no answer waits for it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from perennial.errors import InputError
from schemas.records import Arm
from serving.answers import REQUEST_ID_HEADER, ArmRequest, Computed
from serving.domains import DomainCheck
from serving.follower import in_one_line
from serving.metrics import ArmMetrics, Cause, Result
from serving.model_calls import Steps, await_steps, run_steps
from serving.observer import Answered, ObserverQueue
from serving.runtime import LoadedModel
from serving.slot import ArmFailure, LiveArms, LiveTest, Slot

SHADOWED = 128  # requests that wait for the shadow


@dataclass(frozen=True)
class Reply:
    """An answer, in the form of its request's protocol, and what gave it."""

    answer: Any
    arm: Arm
    model: LoadedModel
    request_id: str

    def headers(self) -> dict[str, str]:
        """Gives what stands in the headers of an answer over HTTP."""
        headers = {
            "x-model-version": self.model.version,
            "x-model-arm": self.arm,
            "x-model-contract": self.model.contract_digest,
        }
        if self.request_id.isascii() and self.request_id.isprintable():
            headers[REQUEST_ID_HEADER] = self.request_id
        return headers


@dataclass(frozen=True)
class _Arrival:
    """A request as it is answered: by which arms, and since when (UTC, and `perf_counter`)."""

    request: ArmRequest
    live: LiveArms
    time: datetime
    began: float


class _CannotAnswer(Exception):
    """The challenger has no answer to a request, and the champion is to give one."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


class Router:
    """Chooses the arm of each request, and has it answered.

    Args:
        slot: The models that answer.
        domains: What becomes of values outside their domains.
        metrics: Where requests are counted.
        observers: What learns of the answers.
    """

    def __init__(
        self, slot: Slot, domains: DomainCheck, metrics: ArmMetrics, observers: ObserverQueue
    ) -> None:
        self.slot = slot
        self._domains, self._metrics, self._observers = domains, metrics, observers
        self._shadowed: queue.Queue[_Arrival] = queue.Queue(SHADOWED)
        threading.Thread(target=self._answer_by_shadow, name="shadow", daemon=True).start()

    def answer(self, parse: Callable[[], ArmRequest], began: float) -> Reply:
        """Answers one request; this thread waits for the models.

        Args:
            parse: Makes the request of what was received.
            began: When it was received, by `time.perf_counter`.

        Raises:
            InputError: The request does not fit the champion.
        """
        return run_steps(self._answer(parse, began))

    async def answer_soon(self, parse: Callable[[], ArmRequest], began: float) -> Reply:
        """Answers one request as `answer` does; no thread waits for the models.

        All but the models' calls is done in the event loop: for requests that are small.
        """
        return await await_steps(self._answer(parse, began))

    def _answer(self, parse: Callable[[], ArmRequest], began: float) -> Steps[Reply]:
        live = self.slot.arms  # read once
        try:
            request = parse()
        except InputError:
            self._count(live.champion, "champion", "refused", began)
            raise
        waited = timedelta(seconds=time.perf_counter() - began)
        arrival = _Arrival(request, live, datetime.now(UTC) - waited, began)
        test = _assigned_test(arrival)
        if test is None:
            reply = yield from self._by_champion(arrival, "champion")
            self._copy_to_shadow(arrival)
            return reply
        try:
            return (yield from self._by_challenger(arrival, test))
        except _CannotAnswer as unable:
            reply = yield from self._by_champion(arrival, "challenger")
            self._metrics.count_fallback(test.challenger.version, unable.cause)
            return reply

    def _by_challenger(self, arrival: _Arrival, test: LiveTest) -> Steps[Reply]:
        """Answers by the challenger.

        Raises:
            _CannotAnswer: It is not loaded, the request does not fit it, or it raised.
        """
        model = test.model
        if model is None:
            raise _CannotAnswer("not_loaded")
        try:
            computed = yield from arrival.request.compute(model, self._domains)
            return self._reply(arrival, computed, "challenger", "challenger")
        except InputError:
            self._count(model, "challenger", "refused", arrival.began)
            raise _CannotAnswer("refused") from None
        except Exception as error:  # whatever it raises, the champion answers
            self._count(model, "challenger", "failed", arrival.began)
            self._note(test, error)
            raise _CannotAnswer("failed") from error

    def _by_champion(self, arrival: _Arrival, assigned: Arm) -> Steps[Reply]:
        model = arrival.live.champion
        try:
            computed = yield from arrival.request.compute(model, self._domains)
            reply = self._reply(arrival, computed, "champion", assigned)
        except InputError:
            self._count(model, "champion", "refused", arrival.began)
            raise
        except Exception:
            self._count(model, "champion", "failed", arrival.began)
            raise
        return reply

    def _reply(self, arrival: _Arrival, computed: Computed, arm: Arm, assigned: Arm) -> Reply:
        request = arrival.request
        answer = request.render(computed, arm)
        self._finish(arrival, computed, arm, assigned, time.perf_counter() - arrival.began)
        return Reply(answer, arm, computed.model, request.request_id)

    def _finish(
        self, arrival: _Arrival, computed: Computed, arm: Arm, assigned: Arm, seconds: float
    ) -> None:
        """Counts an answer and tells it to the observer."""
        self._metrics.count(computed.model.version, arm, "answered", seconds)
        test = arrival.live.test
        self._observers.put(
            Answered(
                request_id=arrival.request.request_id,
                arm=arm,
                assigned=assigned,
                test=None if test is None else test.challenger.test,
                model=computed.model,
                features=computed.arrays,
                predictions=computed.outputs,
                keys=computed.keys,
                time=arrival.time,
                latency_ms=seconds * 1000,
            )
        )

    def _copy_to_shadow(self, arrival: _Arrival) -> None:
        test = arrival.live.test
        if test is None or test.model is None or not test.challenger.shadow:
            return
        try:
            self._shadowed.put_nowait(arrival)
        except queue.Full:
            self._metrics.count_dropped()

    def _answer_by_shadow(self) -> None:
        """Answers what was copied to the shadow, one request after the other."""
        domains = DomainCheck("count")  # the champion's answer has counted the values already
        while True:
            arrival = self._shadowed.get()
            test = arrival.live.test
            if test is None or test.model is None:
                continue
            began = time.perf_counter()
            try:
                computed = run_steps(arrival.request.compute(test.model, domains))
                seconds = time.perf_counter() - began
                self._finish(arrival, computed, "shadow", "shadow", seconds)
            except InputError:
                self._count(test.model, "shadow", "refused", began)
            except Exception as error:  # whatever it raises, the next request comes
                self._count(test.model, "shadow", "failed", began)
                self._note(test, error)

    def _count(self, model: LoadedModel, arm: Arm, result: Result, began: float) -> None:
        self._metrics.count(model.version, arm, result, time.perf_counter() - began)

    def _note(self, test: LiveTest, error: Exception) -> None:
        """Leaves what an arm raised for the ledger."""
        tested = test.challenger
        reason = f"raised on a request: {in_one_line(error)}"
        self.slot.failures.append(
            ArmFailure(tested.arm, tested.test, tested.version, tested.digest, reason)
        )


def _assigned_test(arrival: _Arrival) -> LiveTest | None:
    """Gives the test whose challenger the request is the one of; None: the champion's."""
    test = arrival.live.test
    if test is None or not test.challenger.takes(arrival.request.split_key):
        return None
    return test
