"""Chooses the earlier champions that the present one is held against."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from perennial.ledger.events import Event
from schemas.records import Champion, Deployment

MOST = 3
"""Each is loaded and predicts the test examples in every run; small losses that add up show in a
few that are far apart."""


def choose_former(
    made: Sequence[tuple[Event, Deployment]], days: float, now: datetime
) -> list[Champion]:
    """Chooses versions that served within so many days, other than the one that serves.

    Oldest first, at most `MOST`: the oldest, the newest, and others evenly between them.

    Args:
        made: Every deployment, oldest first.
        days: How far back; 0: none is chosen.
        now: The time of the run.
    """
    served: dict[str, Champion] = {}
    for (event, deployment), (next_event, _) in pairwise(made):
        if days > 0 and datetime.fromisoformat(next_event.at) >= now - timedelta(days=days):
            served.setdefault(
                deployment.digest,
                Champion(
                    version=deployment.version, digest=deployment.digest, deployment=event.number
                ),
            )
    former = [each for each in served.values() if each.digest != made[-1][1].digest]
    if len(former) <= MOST:
        return former
    return [former[round(number * (len(former) - 1) / (MOST - 1))] for number in range(MOST)]
