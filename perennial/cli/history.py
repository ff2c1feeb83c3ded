"""`perennial history`: what served when, who or what decided that, and why, as the ledger has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta

import typer
from rich.console import Console

from perennial.cli.words import lasted, parse_time, plain_console, print_lines, when
from perennial.ledger import Event, Ledger, body_of
from perennial.project import Project
from schemas.records import DecisionMade, Deployment

_VERBS = {"push": "pushed", "promote": "promoted", "rollback": "rolled back to"}


@dataclass(frozen=True)
class Period:
    """How long a version served after a deployment: from `at` until `until` (None: it serves), UTC, ISO 8601.

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

    def describe(self) -> str:
        """One line: when, which version, how, by whom, why, for how long."""
        reach = "serves since then" if self.until is None else "served"
        return (
            f"{when(self.at)}  version {self.version}  {_VERBS[self.action]} by {self.by} ({self.why}), "
            f"{reach} for {lasted(self.seconds)}"
        )


def tell_history(project: Project, at: str | None, as_json: bool) -> None:
    """Prints every deployment, or what served at a time.

    Raises:
        BadParameter: The time cannot be read, or lies in the future.
    """
    now = datetime.now(UTC)
    moment = None if at is None else parse_moment(at, now)
    periods = read_periods(project, now)
    if moment is None:
        _show_all(periods, plain_console(), as_json)
    else:
        _show_one(served_at(periods, moment), moment, plain_console(), as_json)


def parse_moment(text: str, now: datetime) -> datetime:
    """The time that a person means; the end of the day, or now if that is earlier, where they name a date alone.

    Raises:
        BadParameter: It is neither, or lies in the future.
    """
    try:
        try:
            day = date.fromisoformat(text)
            begins = datetime(day.year, day.month, day.day, tzinfo=UTC)
            moment = min(begins + timedelta(days=1, microseconds=-1), max(now, begins))
        except ValueError:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        expected = "must be an ISO date or date-time, such as 2026-01-31 or 2026-01-31T14:05+01:00"
        raise typer.BadParameter(f"{expected}. Received: {text}", param_hint="--at") from None
    if moment > now:
        expected = f"must not lie in the future: it is {when(now)} now"
        raise typer.BadParameter(f"{expected}. Received: {text}", param_hint="--at")
    return moment


def read_periods(project: Project, now: datetime) -> list[Period]:
    """Every deployment in the ledger with how long it served, oldest first."""
    ledger = Ledger(project.ledger_url)
    made, decisions = ledger.deployments(), ledger.events("decision")
    ledger.close()
    ends = [event.at for event, _ in made[1:]] + [None]
    return [_period(*each, until, decisions, now) for each, until in zip(made, ends, strict=False)]


def served_at(periods: Sequence[Period], moment: datetime) -> Period | None:
    """The period that a time lies in: the newest deployment until then."""
    before = [period for period in periods if parse_time(period.at) <= moment]
    return before[-1] if before else None


def _period(event: Event, made: Deployment, until: str | None, decisions: Sequence[Event], now: datetime) -> Period:
    end = parse_time(until) if until else now
    judged = [body_of(decision, DecisionMade) for decision in decisions if decision.run == event.run]
    decided = [reason for each in judged if each.version == made.version for reason in each.decision.reasons]
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
        seconds=max(0.0, (end - parse_time(event.at)).total_seconds()),
        decided=decided if event.run else [],
    )


def _show_all(periods: Sequence[Period], console: Console, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([asdict(period) for period in periods], indent=2))
    elif periods:
        print_lines(console, (f"  {period.describe()}" for period in periods))
    else:
        console.print("nothing was ever deployed")


def _show_one(period: Period | None, moment: datetime, console: Console, as_json: bool) -> None:
    if as_json:
        found = {"at": moment.isoformat(), "served": asdict(period) if period else None}
        typer.echo(json.dumps(found, indent=2))
    elif period is None:
        console.print(f"nothing served at {when(moment)}", highlight=False)
    else:
        reasons = [f"  the gate: {reason}" for reason in period.decided]
        print_lines(console, [f"version {period.version} served at {when(moment)}", f"  {period.describe()}", *reasons])
