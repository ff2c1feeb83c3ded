"""The ledger: the append-only record of spans, runs, decisions and deployments.

One table of events. State (the champion, the accepted spans, the unfinished run) is never stored:
it is read off the events, so it cannot disagree with them. An event may carry a key; the key is
unique, which makes a repeated step append nothing and lets only one of two concurrent writers win.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar, cast

from perennial.errors import BusyError, LeaseLostError, LedgerError
from perennial.ledger.database import open_table, public_url
from perennial.ledger.migration import other_format
from perennial.ledger.table import (
    ChainedRow,
    DuplicateKeyError,
    FormatError,
    LeaseClaim,
    LeaseRow,
    NewRow,
    Row,
    StaleFenceError,
    StorageError,
)
from schemas.records import (
    ABEnded,
    ABShareChanged,
    ABStarted,
    Champion,
    DecisionMade,
    Deployment,
    EventKind,
    LabelsQueued,
    LeaseTaken,
    LedgerHead,
    LoadFailed,
    MessageState,
    Record,
    RegistrationBegun,
    RetrainingDue,
    RunEnded,
    RunStarted,
    SchemaAccepted,
    SpanJudged,
    StepFailed,
    Tuned,
    WatchChanged,
)

BODIES: dict[EventKind, type[Record]] = {
    "lease_taken": LeaseTaken,
    "run_started": RunStarted,
    "step_failed": StepFailed,
    "span_accepted": SpanJudged,
    "span_quarantined": SpanJudged,
    "span_released": SpanJudged,
    "span_reopened": SpanJudged,
    "span_rejected": SpanJudged,
    "schema_accepted": SchemaAccepted,
    "hyperparameters_tuned": Tuned,
    "registration_begun": RegistrationBegun,
    "decision": DecisionMade,
    "deployment": Deployment,
    "run_ended": RunEnded,
    "ab_started": ABStarted,
    "ab_share_changed": ABShareChanged,
    "ab_ended": ABEnded,
    "load_failed": LoadFailed,
    "retraining_due": RetrainingDue,
    "watch_changed": WatchChanged,
    "message": MessageState,
    "labels_queued": LabelsQueued,
}
PATIENCE = 900.0  # seconds: another process may be storing a large model
NO_EVENTS = LedgerHead(number=0, digest="")
B = TypeVar("B", bound=Record)
Verdict = Literal["accepted", "quarantined", "released", "reopened", "rejected"]
_VERDICTS: dict[EventKind, Verdict] = {
    "span_accepted": "accepted",
    "span_quarantined": "quarantined",
    "span_released": "released",
    "span_reopened": "reopened",
    "span_rejected": "rejected",
}


@dataclass(frozen=True)
class NewEvent:
    """An event to append. One with a key is appended once, however often it is tried.

    `fence` is the number of the lease that its writer holds: the event is refused once that lease
    is not held any more. None: it is written by a person, or to complete what a dead run began.
    """

    kind: EventKind
    body: Record
    run: str | None = None
    key: str | None = None
    fence: int | None = None

    def row(self) -> NewRow:
        """Makes the row of the table, dated now."""
        body = self.body.model_dump_json()
        return NewRow(_now(), self.kind, self.run, self.key, body, self.fence)


@dataclass(frozen=True)
class Event:
    """An appended event: number in the ledger, time (UTC, ISO 8601) and content."""

    number: int
    at: str
    kind: EventKind
    run: str | None
    body: Record


@dataclass(frozen=True)
class SpanVerdict:
    """A verdict on a span version: the event's number, time, run (None: a person), and content."""

    number: int
    at: str
    run: str | None
    verdict: Verdict
    judged: SpanJudged


class Ledger:
    """Reads and appends events.

    Args:
        url: SQLAlchemy URL: `sqlite:///PATH` for one machine, PostgreSQL for many.

    Attributes:
        where: The ledger, as messages name it.

    Raises:
        LedgerError: The database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self.where = "ledger"
        with self._reported("be readable"):
            self.where = f"ledger at {public_url(url)}"
            self._table = open_table(url)

    def close(self) -> None:
        """Closes the connections."""
        self._table.close()

    def append(self, *new: NewEvent) -> None:
        """Appends events in one transaction: all of them, or none.

        Raises:
            LeaseLostError: The run that appends them has lost its lease.
            LedgerError: An event's key is taken already, or the database does not accept it.
        """
        try:
            with self._reported("accept new events"):
                self._table.insert([event.row() for event in new])
        except StaleFenceError as error:
            run = next(event.run for event in new if event.fence is not None)
            raise self.lease_lost(run or "") from error
        except DuplicateKeyError as error:
            keys = ", ".join(e.key for e in new if e.key)
            raise LedgerError(
                "ledger", "must not hold the same event twice", keys, "It was recorded before."
            ) from error

    def append_once(self, new: NewEvent) -> bool:
        """Appends an event unless its key is in the ledger; tells whether it was appended."""
        try:
            self.append(new)
        except LedgerError as error:
            if not isinstance(error.__cause__, DuplicateKeyError):
                raise
            return False
        return True

    @contextmanager
    def exclusive(self, patience: float = PATIENCE) -> Iterator[None]:
        """Lets only one of all processes that share this ledger run the block at a time.

        Raises:
            BusyError: Another one held it for `patience` seconds.
        """
        with ExitStack() as stack:
            with self._reported("be readable"):
                held = stack.enter_context(self._table.hold_lock(patience))
            if not held:
                remedy = "Try again when it is done."
                raise BusyError(
                    self.where,
                    "must be free to change the registry",
                    "another process at work",
                    remedy,
                )
            yield

    def events(self, *kinds: EventKind, run: str | None = None, after: int = 0) -> list[Event]:
        """Reads all events of the given kinds (of every kind when none is given), oldest first.

        Args:
            kinds: Of what.
            run: Only of this run.
            after: Only those with a higher number.
        """
        with self._reported("be readable"):
            rows = self._table.select(kinds, run=run, after=after)
        return [_parse(row) for row in rows]

    def newest(self, kind: EventKind) -> Event | None:
        """Reads only the newest event of a kind, if there is one."""
        with self._reported("be readable"):
            rows = self._table.select([kind], newest=1)
        return _parse(rows[0]) if rows else None

    def deployments(self) -> list[tuple[Event, Deployment]]:
        """Reads every deployment, oldest first."""
        return [(e, body_of(e, Deployment)) for e in self.events("deployment")]

    def champion(self) -> Champion | None:
        """Gives the version that serves now: the newest deployment."""
        newest = self.newest("deployment")
        if newest is None:
            return None
        deployment = body_of(newest, Deployment)
        return Champion(
            version=deployment.version, digest=deployment.digest, deployment=newest.number
        )

    def highest_version(self) -> int:
        """Gives the highest number of a registry version that is recorded, 0 without one."""
        made = [body_of(event, DecisionMade).version for event in self.events("decision")]
        deployed = [deployment.version for _, deployment in self.deployments()]
        return max((int(number) for number in made + deployed), default=0)

    def deploy(
        self,
        deployment: Deployment,
        run: str | None,
        fence: int | None = None,
        ended: ABEnded | None = None,
    ) -> None:
        """Makes a version the champion, if the champion is still the one that it `replaces`.

        A test between arms that is running ends with it, in the same transaction.

        Args:
            deployment: What is deployed.
            run: The run that deploys it; None: a person, or a test.
            fence: The number of that run's lease.
            ended: How the test ends that decided this, which must be running still; None: no test
                decided it, and one that is running is stopped.

        Raises:
            LeaseLostError: The run that deploys has lost its lease.
            LedgerError: Another deployment came in between, or the test has ended already.
        """
        current = self.champion()
        number = current.deployment if current else None
        if number != deployment.replaces:
            raise _stale_champion(deployment, current)
        ending = ended or self._stopped_by(deployment)
        # The keys let only one of two concurrent deployments replace the same champion, and only
        # one end a test.
        events = [NewEvent("deployment", deployment, run, f"deployment-after:{number}", fence)]
        if ending is not None:
            events.append(end_of_test(ending))
        try:
            self.append(*events)
        except LedgerError as error:
            if not isinstance(error.__cause__, DuplicateKeyError):
                raise
            replaced = self.champion()
            if replaced != current:
                raise _stale_champion(deployment, replaced) from error
            if ended is not None:
                raise _ended_before(ended) from error
            self.deploy(deployment, run, fence)  # the test alone ended in between

    def running_test(self) -> tuple[Event, ABStarted] | None:
        """Gives the test between arms that is running; None: there is none.

        One whose champion was replaced is over, also where no event says so.
        """
        began, ended = self.newest("ab_started"), self.newest("ab_ended")
        if began is None or (ended and body_of(ended, ABEnded).test == began.number):
            return None
        test, champion = body_of(began, ABStarted), self.champion()
        if champion is None or champion.deployment != test.champion_deployment:
            return None
        return began, test

    def _stopped_by(self, deployment: Deployment) -> ABEnded | None:
        running = self.running_test()
        if running is None:
            return None
        reason = f"version {deployment.version} was deployed: {deployment.why}"
        return ABEnded(test=running[0].number, outcome="stopped", reasons=[reason])

    def judged_spans(self) -> dict[str, list[SpanVerdict]]:
        """Gives for each span's name every verdict on any of its versions, oldest first."""
        verdicts: dict[str, list[SpanVerdict]] = {}
        for e in self.events(*_VERDICTS):
            judged = body_of(e, SpanJudged)
            verdicts.setdefault(judged.span.name, []).append(
                SpanVerdict(e.number, e.at, e.run, _VERDICTS[e.kind], judged)
            )
        return verdicts

    def runs(self) -> list[tuple[Event, RunStarted, Event | None]]:
        """Reads every run, oldest first: its start, what it selected, and its end if it has one."""
        ends = {e.run: e for e in self.events("run_ended")}
        return [(e, body_of(e, RunStarted), ends.get(e.run)) for e in self.events("run_started")]

    def newest_run(self) -> tuple[Event, RunStarted, Event | None] | None:
        """Reads the newest run in the same form; None: there was none."""
        start = self.newest("run_started")
        if start is None:
            return None
        ends = self.events("run_ended", run=start.run)
        return start, body_of(start, RunStarted), ends[-1] if ends else None

    def tuned(self) -> Tuned | None:
        """Gives the outcome of the newest search for hyperparameters."""
        event = self.newest("hyperparameters_tuned")
        return body_of(event, Tuned) if event else None

    def run_end(self, run: str) -> RunEnded | None:
        """Tells how a run ended; None while it has not.

        Of a run that failed, was tried again under its name and succeeded, the newest end counts.
        """
        ends = self.events("run_ended", run=run)
        return body_of(ends[-1], RunEnded) if ends else None

    def head(self) -> LedgerHead:
        """Gives the number and the digest of the newest event, which stand for all events."""
        with self._reported("be readable"):
            newest = self._table.newest_link()
        return LedgerHead(number=newest.number, digest=newest.digest) if newest else NO_EVENTS

    def read_chain(self, after: int, count: int) -> list[ChainedRow]:
        """Reads at most `count` events numbered above `after`, whole, oldest first."""
        with self._reported("be readable"):
            return self._table.read_chain(after, count)

    def lease(self) -> LeaseRow | None:
        """Reads the project's lease as it is now; None: no run ever took it."""
        with self._reported("be readable"):
            return self._table.read_lease()

    def take_lease(self, claim: Callable[[LeaseRow | None], LeaseClaim | None]) -> int | None:
        """Takes the lease where `claim` gives one for the lease as it is; gives its number."""
        with self._reported("accept new events"):
            return self._table.take_lease(claim)

    def renew_lease(self, fence: int) -> bool:
        """Records that the owner of a lease is alive; False: it has lost the lease."""
        with self._reported("accept a sign of life"):
            return self._table.renew_lease(fence)

    def release_lease(self, fence: int) -> None:
        """Gives a lease back, unless another run has taken it over."""
        with self._reported("accept the lease back"):
            self._table.release_lease(fence)

    def fence_of(self, run: str) -> int | None:
        """Gives the number of the lease that a run took; None: it took none."""
        with self._reported("be readable"):
            rows = self._table.select(["lease_taken"], run=run, newest=1)
        return rows[0].number if rows else None

    def lease_lost(self, run: str) -> LeaseLostError:
        """Makes the message for a run that has lost its lease."""
        lease = self.lease()
        if lease is None or lease.run == run:
            received = "it gave the lease back"
        else:
            (taken,) = self.events("lease_taken", run=lease.run)[-1:]
            received = f"run {lease.run} took over at {taken.at}"
            if because := body_of(taken, LeaseTaken).because:
                received += f", since {because}"
        return LeaseLostError(
            f"run {run}",
            "must hold the project's lease to record anything",
            received,
            "Nothing is lost: the next run goes on with what this one had finished. `perennial "
            "status` shows it.",
        )

    @contextmanager
    def _reported(self, expected: str) -> Iterator[None]:
        """Turns database errors, other than those that the caller explains, into a message."""
        try:
            yield
        except (DuplicateKeyError, StaleFenceError):
            raise
        except FormatError as error:
            raise other_format(self.where, error) from error
        except (StorageError, OSError) as error:
            remedy = "Check ledger.url and free disk space."
            raise LedgerError(self.where, f"must {expected}", error, remedy) from error


def body_of(event: Event, kind: type[B]) -> B:
    """Reads the body of an event as the record that belongs to its kind.

    Raises:
        LedgerError: The event is of another kind.
    """
    if not isinstance(event.body, kind):
        raise LedgerError(
            f"ledger event {event.number}", f"must be a {kind.__name__}", event.kind, "Report this."
        )
    return event.body


def end_of_test(ended: ABEnded) -> NewEvent:
    """Makes the event that ends a test between arms, which only one writer can append."""
    return NewEvent("ab_ended", ended, key=f"ab-ended:{ended.test}")


def started(runs: Sequence[tuple[Event, RunStarted, Event | None]]) -> list[RunStarted]:
    """Lists interrupted or failed runs, oldest first: the next run continues where they stopped."""
    return [
        start for _, start, end in runs if end is None or body_of(end, RunEnded).outcome == "failed"
    ]


def _parse(row: Row) -> Event:
    kind = cast("EventKind", row.kind)
    return Event(
        row.number, row.at, kind, row.run, BODIES[kind].model_validate(json.loads(row.body))
    )


def _stale_champion(deployment: Deployment, current: Champion | None) -> LedgerError:
    return LedgerError(
        f"deployment of version {deployment.version}",
        f"must replace deployment {deployment.replaces}, which it was compared with",
        f"deployment {current.deployment} (version {current.version}) serves now"
        if current
        else "nothing serves now",
        "Run again to compare with the version that serves.",
    )


def _ended_before(ended: ABEnded) -> LedgerError:
    return LedgerError(
        f"test {ended.test}",
        "must be running, as it decides what is deployed",
        "it has ended already",
        "`perennial history` shows what serves.",
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
