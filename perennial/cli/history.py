"""`perennial history`: what served when, who or what decided that, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.arguments import AsJson, Folder, load_repaired
from perennial.cli.formats import (
    describe_warnings,
    format_duration,
    format_time,
    plain_console,
    print_lines,
)
from schemas.triggers import TRIGGERS

if TYPE_CHECKING:
    from rich.console import Console

    from perennial.registry.serving_periods import Period

_VERBS = {"push": "pushed", "promote": "promoted", "rollback": "rolled back to"}


def history(
    folder: Folder,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Tell only what served at this time: ISO date or date-time, UTC unless it has an "
            "offset; a date means its end.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what served when, who or what decided, and why."""
    from perennial.registry.serving_periods import read_periods, served_at

    project = load_repaired(folder)
    now = datetime.now(UTC)
    moment = None if at is None else parse_moment(at, now)
    periods = read_periods(project, now)
    if moment is None:
        _show_all(periods, plain_console(), as_json)
    else:
        _show_one(served_at(periods, moment), moment, plain_console(), as_json)


def parse_moment(text: str, now: datetime) -> datetime:
    """Reads the time that a person names; a date alone means its end, or now if that is earlier.

    Raises:
        BadParameter: It is neither a date nor a time, or lies in the future.
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
        examples = "such as 2026-01-31 or 2026-01-31T14:05+01:00"
        message = f"must be an ISO date or date-time, {examples}. Received: {text}"
        raise typer.BadParameter(message, param_hint="--at") from None
    if moment > now:
        message = f"must not lie in the future: it is {format_time(now)} now. Received: {text}"
        raise typer.BadParameter(message, param_hint="--at")
    return moment


def describe_period(period: Period) -> str:
    """Describes a period in one line: when, which version, how, by whom, why, for how long."""
    begun = f", begun by {TRIGGERS[period.trigger]}" if period.trigger else ""
    act = f"version {period.version}  {_VERBS[period.action]} by {period.by}{begun} ({period.why})"
    serving = "serves since then" if period.until is None else "served"
    return f"{format_time(period.at)}  {act}, {serving} for {format_duration(period.seconds)}"


def _show_all(periods: Sequence[Period], console: Console, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([period.as_json() for period in periods], indent=2))
    elif periods:
        print_lines(console, (f"  {line}" for period in periods for line in _lines(period)))
    else:
        console.print("nothing was ever deployed")


def _show_one(period: Period | None, moment: datetime, console: Console, as_json: bool) -> None:
    if as_json:
        answer = {"at": moment.isoformat(), "served": period.as_json() if period else None}
        typer.echo(json.dumps(answer, indent=2))
    elif period is None:
        console.print(f"nothing served at {format_time(moment)}", highlight=False)
    else:
        headline = f"version {period.version} served at {format_time(moment)}"
        reasons = [f"  the gate: {reason}" for reason in period.decided]
        line, *warnings = (f"  {line}" for line in _lines(period))
        print_lines(console, [headline, line, *reasons, *warnings])


def _lines(period: Period) -> list[str]:
    """Describes a period, and the warnings of the run that decided it below."""
    warnings = describe_warnings(period.ended) if period.ended else ()
    return [describe_period(period), *(f"  {line}" for line in warnings)]
