"""Records of an A/B test: what it compared, and what follows."""

from __future__ import annotations

from typing import Literal

from schemas.records.base import Record

ABMeasure = Literal["accuracy", "brier", "absolute_error", "slow", "failed"]
ABAction = Literal["promote", "roll_back", "wait", "expire", "invalid"]


class ABComparison(Record):
    """Both versions by one measure, up to one look; a positive `gain`: the challenger is better.

    `champion` and `challenger` are the means over units (the answers to one key, or to one group):
    the share of right answers, or the mean loss. `low` and `high` are the bounds of the gain, which
    hold at all looks at once; `exact`: at any number of units, else when there are many.
    `allowed`: what the gain may be below 0.
    """

    measure: ABMeasure
    champion: float
    challenger: float
    champion_units: int
    challenger_units: int
    rows: int
    gain: float
    low: float
    high: float
    exact: bool
    allowed: float = 0.0

    @property
    def breached(self) -> bool:
        """Tells whether the challenger is worse, for certain, by more than is allowed."""
        return self.high < -self.allowed


class ABVerdict(Record):
    """A decision on a test, from what is known now.

    `quality` is the measure that decides; None: no label has come. `guards` are those that may only
    harm: slow and failed answers.
    """

    action: ABAction
    reasons: list[str]
    days: float
    quality: ABComparison | None
    guards: list[ABComparison] = []
