"""Decides whether a run is due, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from perennial.cluster.cron import parse_cron, read_zone
from perennial.production.moments import newest_moment
from perennial.storage.digests import digest_value
from schemas.project import RetrainSettings
from schemas.records import RetrainingDue

_MOST_NAMED = 3


@dataclass(frozen=True)
class Landing:
    """A version of a span that no run has worked on yet."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Alarm:
    """A verdict of monitoring that makes a run due: `id` names it, so that it does so once."""

    kind: Literal["drift", "metrics"]
    id: str
    because: str


@dataclass(frozen=True)
class Interrupted:
    """A run that was ended before it came to its end, and is not going on any more."""

    run: str


@dataclass(frozen=True)
class Facts:
    """All that the decision rests on.

    Attributes:
        since: The schedule's moments until then are answered.
        answered: Causes that made a run due before.
        paused: Whether a person paused the project.
        last_end: When the newest run ended; None: none has.
        open: What was found due and no run has answered yet.
        landings: What has landed whole and waits for a run.
        new_labels: Their rows together; None: not counted, as the settings do not ask for it, or
            as a file cannot be read, which a run then tells of.
        interrupted: The newest run, where it was begun by a watch and cut short.
        alarms: Verdicts of monitoring.
    """

    since: datetime
    answered: frozenset[str] = frozenset()
    paused: bool = False
    last_end: datetime | None = None
    open: RetrainingDue | None = None
    landings: Sequence[Landing] = ()
    new_labels: int | None = None
    interrupted: Interrupted | None = None
    alarms: Sequence[Alarm] = ()


def decide_due(now: datetime, settings: RetrainSettings, facts: Facts) -> RetrainingDue | None:
    """Gives the run that is due; None: none is.

    One cause makes one run due. Moments of the schedule that were missed count as one, the newest.
    Whatever comes within the cool-down waits for its end.
    """
    if facts.paused or now < cooled_down(settings, facts.last_end, now):
        return None
    if facts.open is not None:
        return facts.open
    candidates = (
        _by_schedule(now, settings, facts),
        _by_interruption(facts),
        _by_landing(settings, facts),
        *(
            RetrainingDue(cause=f"{each.kind}:{each.id}", trigger=each.kind, because=each.because)
            for each in facts.alarms
        ),
    )
    return next(
        (due for due in candidates if due is not None and due.cause not in facts.answered), None
    )


def cooled_down(settings: RetrainSettings, last_end: datetime | None, now: datetime) -> datetime:
    """Gives when the next run may begin, as far as the cool-down decides it."""
    if last_end is None or not settings.cool_down_minutes:
        return now
    return last_end + timedelta(minutes=settings.cool_down_minutes)


def check_schedule(settings: RetrainSettings) -> None:
    """Checks that the schedule is one, in a time zone that there is.

    Raises:
        PerennialError: It is none.
        ProjectError: The time zone does not exist.
    """
    if settings.schedule is not None:
        parse_cron(settings.schedule)
        read_zone(settings.time_zone)


def schedule_text(settings: RetrainSettings) -> str:
    """Writes the schedule with its time zone; empty without one."""
    return f"{settings.schedule} {settings.time_zone}" if settings.schedule else ""


def _by_schedule(now: datetime, settings: RetrainSettings, facts: Facts) -> RetrainingDue | None:
    if settings.schedule is None:
        return None
    zone = read_zone(settings.time_zone)
    moment = newest_moment(parse_cron(settings.schedule), zone, facts.since, now)
    if moment is None:
        return None
    return RetrainingDue(
        cause=f"schedule:{moment.astimezone(UTC).isoformat(timespec='minutes')}",
        trigger="schedule",
        because=f"scheduled for {moment.astimezone(zone):%Y-%m-%d %H:%M} {settings.time_zone}",
        moment=moment.astimezone(UTC).isoformat(),
    )


def _by_interruption(facts: Facts) -> RetrainingDue | None:
    if facts.interrupted is None:
        return None
    run = facts.interrupted.run
    because = f"run {run} was ended before it came to its end"
    return RetrainingDue(cause=f"interrupted:{run}", trigger="landing", because=because)


def _by_landing(settings: RetrainSettings, facts: Facts) -> RetrainingDue | None:
    if not settings.landings or not facts.landings:
        return None
    landed = [[each.name, each.fingerprint] for each in facts.landings]
    cause = f"landing:{digest_value(landed)[:16]}"
    because = f"landed: {_list([each.name for each in facts.landings])}"
    if settings.new_labels is None or facts.new_labels is None:
        return RetrainingDue(cause=cause, trigger="landing", because=because)
    if facts.new_labels < settings.new_labels:
        return None
    because = f"{because}, {facts.new_labels:,} rows (enough: {settings.new_labels:,})"
    return RetrainingDue(cause=cause, trigger="labels", because=because)


def _list(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = ", ".join(names[:_MOST_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown
