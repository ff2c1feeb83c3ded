"""Sends the messages that are due: each notice once to each target, whoever sends it.

How far each message is stands in the ledger, so that any process of any machine goes on where
another one was ended. A message is planned before it is sent: it keeps its id and its contents
through all attempts. Only where a process is ended between the answer of a target and its own
record of it is a message sent twice, with the same id (docs/adr/0033-messages-in-the-ledger.md).
"""

from __future__ import annotations

import json
import platform
import secrets
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from perennial.errors import (
    DeliveryError,
    GoneTargetError,
    PerennialError,
    RefusedMessageError,
    describe_error,
)
from perennial.ledger.events import Event, Ledger, NewEvent, body_of
from perennial.production.message import Message, message_id
from perennial.production.notices import NOTICED, find_notices
from perennial.project import Project
from perennial.storage.locks import hold_file_lock
from schemas.project import MailSettings, SlackSettings, WebhookSettings
from schemas.records import MessageState, Notice

Target = WebhookSettings | SlackSettings | MailSettings

FOLDER, DEAD_LETTERS = "messages", "dead-letters.jsonl"
_BEFORE_BEGIN = timedelta(hours=24)  # what happened earlier is not told to a new target
_OTHERS_TURN = timedelta(minutes=2)  # for a message that another machine is about to send
_WAITS = (1.0, 3.0)  # seconds between the attempts of one process
_PATIENCE = 30.0  # seconds for another process of this machine that sends


@dataclass(frozen=True)
class Delivery:
    """The state of a message in one process: `why` tells of what was not delivered."""

    target: str
    notices: int
    outcome: Literal["delivered", "waits", "given_up"]
    why: str = ""

    def __str__(self) -> str:
        told = f"message of {self.notices} notice{'s' * (self.notices != 1)} to {self.target}"
        if self.outcome == "delivered":
            return f"{told}: delivered"
        words = "waits for another attempt" if self.outcome == "waits" else "given up"
        return f"{told}: {words}: {self.why}"


def targets_of(project: Project) -> list[Target]:
    """Lists all targets of a project's messages."""
    settings = project.settings.messages
    return [*settings.webhooks, *settings.slack, *settings.mail]


def send_due_messages(
    project: Project,
    extra: Sequence[Notice] = (),
    waits: Sequence[float] = _WAITS,
    patience: float = _PATIENCE,
) -> list[Delivery]:
    """Sends what targets have not been told yet.

    Within `messages.digest_minutes` after a message nothing more is sent to its target; all that
    happened until then goes as one message, from whichever process asks next.

    Args:
        project: The project.
        extra: Notices of what the ledger does not hold.
        waits: Seconds before each further attempt.
        patience: How long to wait for another process of this machine that sends, in seconds.

    Raises:
        LedgerError: The ledger cannot be read or written.
        OSError: The state folder cannot be written.
    """
    if not targets_of(project):
        return []
    folder = project.state / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with hold_file_lock(folder / "lock", patience) as held:
        return _send_all(project, extra, waits) if held else []


def send_or_tell(project: Project) -> list[str]:
    """Sends what is due after a command's work; gives a line for each message that waits.

    Whatever goes wrong is a line too: the command's own work is done.
    """
    try:
        deliveries = send_due_messages(project)
    except (PerennialError, OSError) as error:
        return [f"messages are not sent: {describe_error(error)}"]
    return [str(delivery) for delivery in deliveries if delivery.outcome != "delivered"]


def send_test(project: Project, target: Target) -> None:
    """Sends a test message, which is not recorded.

    Raises:
        DeliveryError: It did not arrive.
    """
    name = f"msg_{secrets.token_hex(16)}"
    _deliver(target, Message(name, _text(datetime.now(UTC)), project.settings.name, ()))


def _send_all(project: Project, extra: Sequence[Notice], waits: Sequence[float]) -> list[Delivery]:
    now, settings = datetime.now(UTC), project.settings.messages
    deliveries = []
    with closing(Ledger(project.ledger_url)) as ledger:
        notices = [*find_notices(ledger.events(*NOTICED), settings, now), *extra]
        states = [(event, body_of(event, MessageState)) for event in ledger.events("message")]
        for target in targets_of(project):
            of_target = [(event, state) for event, state in states if state.target == target.name]
            sender = _Sender(project, ledger, target, now, waits)
            deliveries += sender.send(of_target, notices)
    return deliveries


@dataclass(frozen=True)
class _Sender:
    """Sends to one target."""

    project: Project
    ledger: Ledger
    target: Target
    now: datetime
    waits: Sequence[float]

    def send(
        self, states: Sequence[tuple[Event, MessageState]], notices: Sequence[Notice]
    ) -> list[Delivery]:
        begun = self._begin(states)
        planned = [(event, state) for event, state in states if state.status == "planned"]
        done = {state.message for _, state in states if state.status in ("delivered", "given_up")}
        deliveries = [
            self._attempt(event.at, state)
            for event, state in planned
            if state.message not in done and self._is_turn(event, state)
        ]
        told = {notice.id for _, state in planned for notice in state.notices}
        due = [
            notice
            for notice in notices
            if notice.id not in told and _time(notice.at) >= begun - _BEFORE_BEGIN
        ]
        window = timedelta(minutes=self.project.settings.messages.digest_minutes)
        if not due or (planned and self.now < _time(planned[-1][0].at) + window):
            return deliveries
        state = self._plan(due, len(planned) + 1)
        return deliveries if state is None else [*deliveries, self._attempt(_text(self.now), state)]

    def _begin(self, states: Sequence[tuple[Event, MessageState]]) -> datetime:
        """Gives when messages to this target began; now, if they begin."""
        if states:
            return _time(states[0][0].at)
        name = self.target.name
        state = MessageState(target=name, status="begun")
        self.ledger.append_once(NewEvent("message", state, key=f"messages-begun:{name}"))
        return self.now

    def _is_turn(self, event: Event, state: MessageState) -> bool:
        """Tells whether no other machine is about to send a message that it has planned."""
        return state.host == platform.node() or self.now > _time(event.at) + _OTHERS_TURN

    def _plan(self, notices: Sequence[Notice], number: int) -> MessageState | None:
        """Records what the next message holds; None: another machine did so."""
        target = self.target.name
        state = MessageState(
            target=target,
            status="planned",
            message=message_id(self.project.settings.name, target, notices),
            notices=list(notices),
            host=platform.node(),
        )
        new = NewEvent("message", state, key=f"message-planned:{target}:{number}")
        return state if self.ledger.append_once(new) else None

    def _attempt(self, planned: str, state: MessageState) -> Delivery:
        """Sends a message, several times where that may help, and records what came of it."""
        message = Message(state.message, planned, self.project.settings.name, state.notices)
        count = len(state.notices)
        for wait in (*self.waits, None):
            try:
                _deliver(self.target, message)
            except DeliveryError as error:
                failure = error
            else:
                self._conclude(state, "delivered", "")
                return Delivery(self.target.name, count, "delivered")
            if wait is None or isinstance(failure, RefusedMessageError):
                break
            time.sleep(wait)
        hours = timedelta(hours=self.project.settings.messages.give_up_hours)
        if isinstance(failure, GoneTargetError) or self.now > _time(planned) + hours:
            self._bury(message, str(failure))
            self._conclude(state, "given_up", str(failure))
            return Delivery(self.target.name, count, "given_up", str(failure))
        return Delivery(self.target.name, count, "waits", str(failure))

    def _conclude(
        self, state: MessageState, status: Literal["delivered", "given_up"], why: str
    ) -> None:
        done = MessageState(target=state.target, status=status, message=state.message, why=why)
        self.ledger.append_once(NewEvent("message", done, key=f"message-done:{state.message}"))

    def _bury(self, message: Message, why: str) -> None:
        """Adds a message to the file of dead letters."""
        letter = {
            "at": _text(self.now),
            "target": self.target.name,
            "message": message.id,
            "why": why,
            "title": message.title,
            "notices": [notice.model_dump(mode="json") for notice in message.notices],
        }
        with dead_letters(self.project).open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(letter)}\n")


def dead_letters(project: Project) -> Path:
    """Gives the file of messages that were given up, one JSON object a line."""
    return project.state / FOLDER / DEAD_LETTERS


def _deliver(target: Target, message: Message) -> None:
    """Sends a message once.

    Raises:
        DeliveryError: It did not arrive.
    """
    from perennial.production.mail import send_mail
    from perennial.production.webhook import post_slack, post_webhook

    if isinstance(target, WebhookSettings):
        post_webhook(target, message)
    elif isinstance(target, SlackSettings):
        post_slack(target, message)
    else:
        send_mail(target, message)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
