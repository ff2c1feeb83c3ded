"""Observers learn of every answer, off the request's path: the seam of the prediction log.

An answer is put into a bounded queue and its request goes on at once. One thread hands the answers
to the observer. What does not fit into the queue is dropped and counted.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from perennial.project import Project
from schemas.records import Arm
from serving.features import Array
from serving.runtime import LoadedModel, Predictions

QUEUED = 4096  # answers that wait for the observer
_PATIENCE = 20.0  # seconds for the answers that still wait when the server stops

logger = logging.getLogger("perennial.serving")


@dataclass(frozen=True)
class Answered:
    """One request as one arm answered it.

    Attributes:
        request_id: The same for all arms that answered the request.
        arm: Which one answered; answers of `shadow` were never returned.
        assigned: The arm that the split gave the request; another one than `arm` where the
            champion answered for a challenger that could not.
        test: The test that was running, by the number of its `ab_started`; None: there was none.
        model: The version, with its contract.
        features: What the model took, defaults filled in: one array [n, ...] for each feature.
        predictions: What it gave: one array [n, ...] for each output that was computed.
        keys: The key of each instance, by which traffic is split; None: it has none.
        time: When the request came, UTC.
        latency_ms: From then until its answer was computed; of a shadow, its own computing alone.
    """

    request_id: str
    arm: Arm
    assigned: Arm
    test: int | None
    model: LoadedModel
    features: Mapping[str, Array]
    predictions: Predictions
    keys: Sequence[str | None]
    time: datetime
    latency_ms: float


class AnswerObserver(Protocol):
    """Learns of answers. Both methods are called from one thread, which they may keep busy."""

    def observe(self, answered: Answered) -> None:
        """Takes one answer. What it raises is counted and logged; the server goes on."""

    def close(self) -> None:
        """Ends: no answer comes after."""


class NoObserver:
    """Forgets every answer."""

    def observe(self, answered: Answered) -> None:
        """Forgets it."""

    def close(self) -> None:
        """Has nothing to end."""


def make_observer(project: Project) -> AnswerObserver:
    """Gives what learns of the answers of a project's server.

    Raises:
        ProjectError: The settings of the prediction log do not fit the project.
        StoreError: The root's file system has no driver here.
    """
    if not project.settings.serving.log.enabled:
        return NoObserver()
    from serving.prediction_logger import PredictionLogger

    return PredictionLogger(project)


class ObserverQueue:
    """Hands answers to an observer, in a thread of its own.

    Attributes:
        dropped: How many answers found the queue full.
        failed: How many the observer raised on.
    """

    def __init__(self, observer: AnswerObserver, size: int = QUEUED) -> None:
        self._observer = observer
        self._waiting: queue.Queue[Answered | None] = queue.Queue(size)
        self._counting = threading.Lock()
        self.dropped = 0
        self.failed = 0
        self._thread = threading.Thread(target=self._work, name="observer", daemon=True)
        self._thread.start()

    def put(self, answered: Answered) -> None:
        """Leaves an answer for the observer; never waits, never raises."""
        try:
            self._waiting.put_nowait(answered)
        except queue.Full:
            with self._counting:
                self.dropped += 1

    def close(self) -> None:
        """Hands over the answers that wait, and ends the observer."""
        try:
            self._waiting.put(None, timeout=_PATIENCE)
        except queue.Full:
            logger.error("the answers that wait for the log are lost: it takes none")
            return
        self._thread.join(_PATIENCE)

    def _work(self) -> None:
        while (answered := self._waiting.get()) is not None:
            try:
                self._observer.observe(answered)
            except Exception:
                self.failed += 1
                if self.failed == 1:  # the counter tells of the others
                    logger.exception("an answer could not be logged")
        self._observer.close()
