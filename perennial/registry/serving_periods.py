"""Lists what served when, who or what decided that, and why, as the ledger has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from perennial.ledger.events import Event, Ledger, body_of
from perennial.project import Project
from schemas.records import DecisionMade, Deployment, RunEnded, RunStarted
from schemas.triggers import Trigger


@dataclass(frozen=True)
class Period:
    """A version's time as champion: from `at` until `until` (None: it serves), UTC, ISO 8601.

    `decided` are the gate's reasons where a run's gate decided, as it was recorded on the version;
    `ended` is that run's end, with its warnings, and `trigger` what began it.
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
    ended: RunEnded | None = None
    trigger: Trigger | None = None

    def as_json(self) -> dict[str, Any]:
        """Gives the period as JSON values, with the warnings of the run that decided it."""
        values = asdict(replace(self, ended=None))
        del values["ended"]
        ended = self.ended.model_dump(mode="json") if self.ended else {}
        return values | {
            "report": ended.get("report"),
            "warned": ended.get("warned", 0),
            "not_compared": ended.get("not_compared", 0),
            "warnings": ended.get("warnings", []),
        }


def read_periods(project: Project, now: datetime) -> list[Period]:
    """Lists every deployment in the ledger with how long it served, oldest first."""
    ledger = Ledger(project.ledger_url)
    made, decisions = ledger.deployments(), ledger.events("decision")
    ended = {each.run: body_of(each, RunEnded) for each in ledger.events("run_ended")}
    starts = {each.run: body_of(each, RunStarted) for each in ledger.events("run_started")}
    ledger.close()
    ends = [event.at for event, _ in made[1:]] + [None]
    periods = [
        _period(*each, until, decisions, now) for each, until in zip(made, ends, strict=False)
    ]
    return [
        replace(
            period,
            ended=ended.get(period.run),
            trigger=starts[period.run].selection.trigger if period.run in starts else None,
        )
        if period.run
        else period
        for period in periods
    ]


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
