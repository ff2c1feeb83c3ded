"""Lists what served when, who or what decided that, and why, as the ledger has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from perennial.ledger.events import Event, Ledger, body_of
from perennial.project import Project
from schemas.records import DecisionMade, Deployment


@dataclass(frozen=True)
class Period:
    """A version's time as champion: from `at` until `until` (None: it serves), UTC, ISO 8601.

    `decided` are the gate's reasons where a run's gate decided, as it was recorded on the version.
    """

    deployment: int
    version: str
    digest: str
    action: str
    by: str
    run: str | None
    why: str
    at: str
    until: str | None
    seconds: float
    decided: list[str]


def read_periods(project: Project, now: datetime) -> list[Period]:
    """Lists every deployment in the ledger with how long it served, oldest first."""
    ledger = Ledger(project.ledger_url)
    made, decisions = ledger.deployments(), ledger.events("decision")
    ledger.close()
    ends = [event.at for event, _ in made[1:]] + [None]
    return [_period(*each, until, decisions, now) for each, until in zip(made, ends, strict=False)]


def served_at(periods: Sequence[Period], moment: datetime) -> Period | None:
    """Finds the period that a time lies in: the newest deployment until then."""
    before = [period for period in periods if datetime.fromisoformat(period.at) <= moment]
    return before[-1] if before else None


def _period(
    event: Event, made: Deployment, until: str | None, decisions: Sequence[Event], now: datetime
) -> Period:
    end = datetime.fromisoformat(until) if until else now
    judged = [
        body_of(decision, DecisionMade) for decision in decisions if decision.run == event.run
    ]
    decided = [
        reason
        for each in judged
        if each.version == made.version
        for reason in each.decision.reasons
    ]
    return Period(
        deployment=event.number,
        version=made.version,
        digest=made.digest,
        action=made.action,
        by=made.by,
        run=event.run,
        why=made.why,
        at=event.at,
        until=until,
        seconds=max(0.0, (end - datetime.fromisoformat(event.at)).total_seconds()),
        decided=decided if event.run else [],
    )
