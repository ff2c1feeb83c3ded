"""Bodies of the events in the ledger."""

from __future__ import annotations

from typing import Literal

from schemas.records.base import Record
from schemas.records.data import Span
from schemas.records.judgement import Decision
from schemas.records.models import Selection
from schemas.records.warning import RunWarning

Outcome = Literal["promoted", "kept_champion", "data_rejected", "nothing_new", "failed"]
EventKind = Literal[
    "lease_taken",
    "run_started",
    "step_failed",
    "span_accepted",
    "span_quarantined",
    "span_released",
    "span_reopened",
    "span_rejected",
    "schema_accepted",
    "hyperparameters_tuned",
    "registration_begun",
    "decision",
    "deployment",
    "run_ended",
    "ab_started",
    "ab_share_changed",
    "ab_ended",
    "load_failed",
    "retraining_due",
    "watch_changed",
    "message",
    "labels_queued",
]


class LedgerHead(Record):
    """The newest event of a ledger, its number and digest; without events 0 and an empty text.

    Since each event holds the digest of the one before, it stands for all events up to it.
    """

    number: int
    digest: str

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"


class LeaseOwner(Record):
    """The process that holds a lease, named so that another one can tell whether it is gone.

    `started` is in the ticks of its machine's clock since `boot`, the start of that machine's
    kernel; `namespace` is the one that the number `process` belongs to (a container has its own).
    Both are empty of a run whose tasks hold the lease one after the other: that one of them is gone
    tells nothing.
    """

    host: str
    process: int
    started: int
    boot: str
    namespace: str


class LeaseTaken(Record):
    """A run took the project's lease; the number of this event is the fencing number of the run.

    `from_run` is the run that held the lease until then without giving it back, and `because` why
    it holds it no more.
    """

    owner: LeaseOwner
    seconds: float
    from_run: str | None = None
    because: str | None = None


class RunStarted(Record):
    """A run began to work on this selection."""

    selection: Selection


class StepFailed(Record):
    """A step of a run failed, by its own message.

    `part` tells the tasks of a loop from each other: the name of a span or an instance. `final`:
    another attempt of the same run would fail in the same way. `exit_code` is that of the command.
    """

    step: str
    part: str = ""
    outcome: Literal["failed", "data_rejected"]
    message: str
    exit_code: int
    final: bool


class SpanJudged(Record):
    """A run accepted or quarantined a span version; or a person released, reopened or rejected it.

    `by` is the person, None for a run; `reasons` are then the person's own. What is not
    `readable` cannot be released. `rows_digest` tells the rows of the span, in whatever order they
    landed; None: their keys were not kept, or the verdict is older than the field.
    """

    span: Span
    rows: int
    reasons: list[str]
    set_aside: int = 0
    readable: bool = True
    by: str | None = None
    rows_digest: str | None = None


class SchemaAccepted(Record):
    """A person accepted a change of the schema.

    `changes` are the lines of the diff that was reviewed.
    """

    before: str
    after: str
    changes: list[str]
    by: str
    why: str


class RegistrationBegun(Record):
    """A run began to register its candidate; the decision that follows says that it is done.

    Where none follows, the run was cut short, and the next command completes what it had begun.
    """

    digest: str


class DecisionMade(Record):
    """The gate's decision on a registered candidate."""

    decision: Decision
    version: str
    digest: str


class Deployment(Record):
    """A version was made the one that serves.

    `replaces` is the ledger number of the deployment before it.
    """

    version: str
    digest: str
    action: Literal["push", "promote", "rollback"]
    by: str
    why: str
    replaces: int | None


class RunEnded(Record):
    """The end of a run.

    `warned` counts its warnings, and `not_compared` what could not be compared; `warnings` are the
    first of both. All of them lie beside the report, as `RunWarnings`. `exit_code` is that of the
    command, where the failure of a step decides it; None: the outcome decides it.
    """

    outcome: Outcome
    reasons: list[str]
    window: list[str]
    new_spans: list[str]
    version: str | None
    champion: str | None
    report: str | None
    warned: int = 0
    not_compared: int = 0
    warnings: list[RunWarning] = []
    exit_code: int | None = None
