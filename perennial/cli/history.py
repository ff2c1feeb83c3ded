"""`perennial history`: what served when, who or what decided that, and why, as the ledger has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

import typer
from rich.console import Console

from perennial.cli.formats import lasted, plain_console, print_lines, when
from perennial.project import Project
from perennial.registry.serving_periods import Period, read_periods, served_at

_VERBS = {"push": "pushed", "promote": "promoted", "rollback": "rolled back to"}


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


def describe_period(period: Period) -> str:
    """Describes a period in one line: when, which version, how, by whom, why, for how long."""
    reach = "serves since then" if period.until is None else "served"
    return (
        f"{when(period.at)}  version {period.version}  {_VERBS[period.action]} by {period.by} ({period.why}), "
        f"{reach} for {lasted(period.seconds)}"
    )


def _show_all(periods: Sequence[Period], console: Console, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([asdict(period) for period in periods], indent=2))
    elif periods:
        print_lines(console, (f"  {describe_period(period)}" for period in periods))
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
        print_lines(
            console, [f"version {period.version} served at {when(moment)}", f"  {describe_period(period)}", *reasons]
        )
