"""The models that answer now: one value, which the follower replaces, read once by each request.

Replacing it is one assignment, which Python makes atomic: a request keeps the arms that it read
until it is answered.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from perennial.production.arms import Challenger
from schemas.records import Arm
from serving.runtime import LoadedModel

_FAILURES = 100  # that wait to be recorded


@dataclass(frozen=True)
class LiveTest:
    """The test that is followed; `model` None: it cannot be loaded, the champion answers."""

    challenger: Challenger
    model: LoadedModel | None


@dataclass(frozen=True)
class LiveArms:
    """The models that answer."""

    champion: LoadedModel
    test: LiveTest | None = None


@dataclass(frozen=True)
class ArmFailure:
    """An arm could not be loaded, or raised on a request.

    `number` is that of its deployment or test.
    """

    arm: Arm
    number: int
    version: str
    digest: str
    reason: str


class Slot:
    """Holds what answers, and what failed.

    Attributes:
        arms: The models that answer now.
        failed_loads: Attempts to load a version that failed.
        failed_reads: Reads of the ledger that failed.
        ledger_readable: Whether the newest read did not fail.
        failures: What the ledger is to know of, the oldest first.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.arms = LiveArms(model)
        self.failed_loads = 0
        self.failed_reads = 0
        self.ledger_readable = True
        self.failures: deque[ArmFailure] = deque(maxlen=_FAILURES)

    @property
    def model(self) -> LoadedModel:
        """The champion, which describes the server's model to clients."""
        return self.arms.champion

    def set_test(self, test: LiveTest | None) -> None:
        """Replaces the test, and keeps the champion."""
        self.arms = replace(self.arms, test=test)
