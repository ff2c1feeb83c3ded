"""Records of the messages that a project sends, and of what makes a run due."""

from __future__ import annotations

from typing import Literal

from schemas.notices import NoticeKind
from schemas.records.base import Record
from schemas.triggers import Trigger


class Notice(Record):
    """One thing that people are told of.

    `id` names it among the notices of its project, and `at` is when it happened (UTC, ISO 8601);
    `run` is the run that it happened in, and `report` where that run's report lies.
    """

    id: str
    kind: NoticeKind
    at: str
    summary: str
    reasons: list[str] = []
    run: str | None = None
    report: str | None = None


class MessageState(Record):
    """The state of a message to one target.

    A target's first event is `begun`, without a message: what happened long before it is not told.
    A message is `planned` before it is sent, so that it stays the same through all attempts; then
    it is `delivered`, or `given_up` with the reason. `host` is the machine that planned it.
    """

    target: str
    status: Literal["begun", "planned", "delivered", "given_up"]
    message: str = ""
    notices: list[Notice] = []
    host: str = ""
    why: str = ""


class RetrainingDue(Record):
    """`perennial watch` found that a run is due; the next run answers it.

    `cause` names it: one cause makes one run due. `moment` is that of the schedule.
    """

    cause: str
    trigger: Trigger
    because: str
    moment: str | None = None


class WatchChanged(Record):
    """`perennial watch` began with a schedule (empty: none), or a person paused or resumed it."""

    state: Literal["on", "paused"]
    schedule: str
    by: str
