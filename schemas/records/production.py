"""Bodies of the ledger's events about arms: tests between versions, and loads that failed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.records.base import Record

Arm = Literal["champion", "challenger", "shadow"]
ABOutcome = Literal["promoted", "rolled_back", "stopped", "expired", "invalid"]
Share = Annotated[float, Field(ge=0, le=1)]


class ABStarted(Record):
    """A test between the champion and another version began; the event's number names the test.

    `champion_deployment` is the ledger number of the champion's deployment: once another version
    is deployed, the test is over. `share` is the challenger's part of the traffic, by the key of
    the request and `salt`. A `shadow` gets a copy of each request, its answers are never returned,
    and its share is 0. `max_days` is the longest that the test may go on.
    """

    champion_deployment: int
    challenger_version: str
    challenger_digest: str
    share: Share
    shadow: bool
    salt: str
    started_by: str
    max_days: float


class ABShareChanged(Record):
    """The challenger of a test gets another part of the traffic from now on."""

    test: int
    share: Share
    why: str


class ABEnded(Record):
    """A test ended: the champion answers all requests again, whichever version that is."""

    test: int
    outcome: ABOutcome
    reasons: list[str]


class LoadFailed(Record):
    """A server could not load or warm up a version, which therefore answers nothing there.

    `server` is its host and the number of its process.
    """

    version: str
    digest: str
    arm: Arm
    reason: str
    server: str


class LabelsQueued(Record):
    """People were asked to label examples of the prediction log.

    `versions` answered about the `population`, the champion first; `examples` of it were drawn.
    """

    queue: str
    versions: list[str]
    examples: int
    population: int
    by: str
