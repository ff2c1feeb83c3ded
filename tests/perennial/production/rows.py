"""Answers as the prediction log takes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from perennial.production.prediction_log import Array, LoggedAnswer

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
CITY, IMAGE = "city", "image"


def answer(
    request: str,
    keys: Sequence[str | None],
    time: datetime = NOON,
    arm: str = "champion",
    chance: float = 1.0,
    scores: Array | None = None,
    contract: str = "c" * 64,
) -> LoggedAnswer:
    """An answer by a model of three classes that takes a text and an image of 2 x 2 pixels."""
    count = len(keys)
    probabilities = np.full((count, 3), 1 / 3, np.float32) if scores is None else scores
    cities = np.array([b"Turin", b"\xffyyd"], dtype=object)[np.arange(count) % 2]
    return LoggedAnswer(
        request=request,
        arm=arm,
        assigned="champion" if arm == "shadow" else arm,
        test=None if arm == "champion" else 7,
        version="1" if arm == "champion" else "2",
        contract=contract,
        time=time,
        latency_ms=1.5,
        chance=chance,
        keys=keys,
        features={CITY: cities, IMAGE: np.arange(4 * count, dtype=np.float32).reshape(count, 2, 2)},
        outputs={"class": probabilities.argmax(axis=1), "probabilities": probabilities},
    )
