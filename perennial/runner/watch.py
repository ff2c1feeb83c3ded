"""Watches projects: begins runs when they are due, judges A/B tests, and sends messages.

Runs are child processes, `perennial run --trigger …`, one at a time over all projects. What was
due, and whether a project is paused, stands in the ledger: a watch that was ended and begins again
knows what was answered, and so does one on another machine.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from components.ingest_examples.sources import open_source
from components.select_spans.step import find_window
from perennial.cluster.cron import parse_cron, read_zone
from perennial.errors import DataError, PerennialError, describe_error
from perennial.ledger.events import Event, Ledger, NewEvent, SpanVerdict, body_of
from perennial.ledger.lease import describe_owner
from perennial.ledger.owner import is_gone
from perennial.ledger.people import person
from perennial.ledger.table import LeaseRow
from perennial.production.due import (
    Facts,
    Interrupted,
    Landing,
    check_schedule,
    decide_due,
    schedule_text,
)
from perennial.production.messages import send_due_messages, targets_of
from perennial.production.moments import next_moment
from perennial.project import Project, load_project
from perennial.readers.read import read_rows
from perennial.runner.judge_tests import judge_tests
from perennial.settings import SETTINGS_FILE
from perennial.spans.landed import stat_landed
from perennial.spans.window import Window
from schemas.records import (
    LeaseOwner,
    LeaseTaken,
    LedgerHead,
    Notice,
    Outcome,
    RetrainingDue,
    RunEnded,
    RunStarted,
    WatchChanged,
)

if TYPE_CHECKING:
    from perennial.runner.warm import WarmProcess

FOLDER = "watch"
_MESSAGE_SECONDS, _LONGEST_BACKOFF = 5.0, 600.0
_AFTER_TROUBLE = 60.0  # seconds until a run that cannot be begun is tried again
_OVERDUE_SECONDS = 60.0  # between two looks at whether runs are overdue
Kind = Literal[
    "watching",
    "paused",
    "resumed",
    "due",
    "began",
    "ended",
    "waits",
    "message",
    "decided",
    "trouble",
    "stopped",
]


@dataclass(frozen=True)
class WatchEvent:
    """One thing that happened, for a line: `outcome` and `run` of a run's end."""

    project: str
    kind: Kind
    text: str
    run: str | None = None
    outcome: Outcome | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


Tell = Callable[[WatchEvent], None]
Stats = Mapping[str, list[int | str] | None]


def change_watch(project: Project, state: Literal["on", "paused"]) -> bool:
    """Pauses or resumes a project, wherever it is watched; tells whether that is a change."""
    ledger = Ledger(project.ledger_url)
    newest = ledger.newest("watch_changed")
    before = body_of(newest, WatchChanged) if newest else None
    if (before.state if before else "on") == state:
        return False
    text = schedule_text(project.settings.retrain)
    ledger.append(NewEvent("watch_changed", WatchChanged(state=state, schedule=text, by=person())))
    return True


def watch_projects(projects: Sequence[Project], tell: Tell, stop: threading.Event) -> None:
    """Watches projects until `stop` is set; a run that goes on is interrupted then.

    Raises:
        PerennialError: A schedule is none, or a ledger cannot be read at the start.
    """
    lock = threading.Lock()

    def tell_one_by_one(event: WatchEvent) -> None:
        with lock:
            tell(event)

    watched = [_Watched(project, tell_one_by_one) for project in projects]
    for each in watched:
        each.begin()
    messages = threading.Thread(
        target=_send_messages, args=(watched, tell_one_by_one, stop), name="messages", daemon=True
    )
    messages.start()

    def tell_of_test(project: Project, text: str, trouble: bool) -> None:
        kind: Kind = "trouble" if trouble else "decided"
        tell_one_by_one(WatchEvent(project.settings.name, kind, text))

    judging = threading.Thread(
        target=judge_tests, args=(list(watched), tell_of_test, stop), name="tests", daemon=True
    )
    judging.start()
    with contextlib.ExitStack() as stack:
        _work(watched, stop, stack)
    for each in watched:
        each.tell("stopped", "the watch ended")


def _work(watched: list[_Watched], stop: threading.Event, stack: contextlib.ExitStack) -> None:
    """Looks at each project in turn, and runs what is due, one run at a time."""
    ready = stack.enter_context(_Ready())
    ready.hold(watched[0].project)
    running: _Watched | None = None
    while not stop.is_set():
        if running is not None and running.has_ended():
            watched.remove(running)
            watched.append(running)  # the others come first now
            running = None
        for each in watched:
            due = each.look(idle=running is None)
            if due is not None and running is None:
                ready.hold(each.project)
                if each.try_start(due):
                    running = each
        stop.wait(min(each.next_look for each in watched) - time.monotonic())
    if running is not None:
        running.interrupt()


class _Ready:
    """Keeps the warm process alive between runs."""

    def __init__(self) -> None:
        self._process: WarmProcess | None = None

    def __enter__(self) -> _Ready:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.__exit__(None, None, None)

    def hold(self, project: Project) -> None:
        """Holds the one that a run of this project uses, started anew where it was ended."""
        from perennial.runner.warm import WarmProcess, is_off
        from perennial.runner.warm_place import WarmUnavailableError

        settings = project.settings.runner
        before, self._process = self._process, None
        with contextlib.suppress(WarmUnavailableError):
            if not is_off(settings.warm):
                self._process = WarmProcess(settings.warm_minutes)
        if before is not None:
            before.__exit__(None, None, None)


class _History(NamedTuple):
    """The contents of a ledger, as of its newest event."""

    head: LedgerHead
    starts: list[tuple[int, RunStarted]]
    ended: frozenset[str | None]
    last_end: datetime | None
    dues: list[tuple[Event, RetrainingDue]]
    last_lease: int
    watch: tuple[Event, WatchChanged] | None
    judged: dict[str, list[SpanVerdict]]


@dataclass
class _Run:
    """A run that was begun: its process, what made it due, and the ledger's end before it."""

    process: subprocess.Popen[bytes]
    due: RetrainingDue
    after: int
    output: Path


class _Watched:
    """One project that is watched."""

    def __init__(self, project: Project, tell: Tell) -> None:
        self.project, self._tell = project, tell
        self.next_look = 0.0
        self.notices: list[Notice] = []  # of runs that could not begin
        self._ledger = Ledger(project.ledger_url)
        self._settings_stat = _settings_stat(project)
        self._stats: Stats | None = None
        self._history: _History | None = None
        self._landings: Sequence[Landing] = ()
        self._new_labels: int | None = None
        self._looked_at: tuple[Stats, LedgerHead] | None = None
        self._tried: set[str] = set()  # causes whose run could not begin
        self._waits_for: str | None = None
        self._paused: bool | None = None
        self._trouble, self._told_trouble = "", ""
        self._run: _Run | None = None

    def tell(
        self, kind: Kind, text: str, run: str | None = None, outcome: Outcome | None = None
    ) -> None:
        """Tells of something that happened."""
        self._tell(WatchEvent(self.project.settings.name, kind, text, run, outcome))

    def begin(self) -> None:
        """Begins to watch: the schedule counts from now, or from when it was first watched."""
        settings = self.project.settings.retrain
        check_schedule(settings)
        self._note_schedule()
        text = schedule_text(settings) or "no schedule"
        if settings.schedule is not None:
            zone = read_zone(settings.time_zone)
            moment = next_moment(parse_cron(settings.schedule), zone, datetime.now(UTC))
            at = f"{moment.astimezone(zone):%Y-%m-%d %H:%M}" if moment else "never"
            text = f"schedule {text}, next {at}"
        self.tell("watching", f"{text}; {'new data' if settings.landings else 'no landings'}")

    def look(self, idle: bool) -> RetrainingDue | None:
        """Looks at the landing place and the ledger when it is time; gives the run that is due.

        Args:
            idle: Whether a run could begin now; else it only looks whether files change.
        """
        if time.monotonic() < self.next_look:
            return None
        self.next_look = time.monotonic() + self.project.settings.watch.poll_seconds
        try:
            self._reload()
            due = self._look(idle)
        except (PerennialError, OSError) as error:
            self._troubled(describe_error(error))
            return None
        if self._told_trouble:
            self.tell("watching", "all can be read again")
        self._trouble = self._told_trouble = ""
        return due

    def try_start(self, due: RetrainingDue) -> bool:
        """Begins a run; False: another watch did, or it cannot be begun for now."""
        try:
            return self._start(due)
        except (PerennialError, OSError) as error:
            self.tell("trouble", describe_error(error))
            self.next_look = time.monotonic() + _AFTER_TROUBLE
            return False

    def _start(self, due: RetrainingDue) -> bool:
        head = self._ledger.head()
        new = NewEvent("retraining_due", due, key=f"retraining-due:{due.cause}")
        history = self._history
        known = history is not None and any(each.cause == due.cause for _, each in history.dues)
        if not known and not self._ledger.append_once(new):
            return False
        self.tell("due", due.because)
        folder = self.project.state / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "perennial.cli.main", "run", str(self.project.folder)]
        command += ["--trigger", due.trigger, "--json"]
        if due.trigger in ("drift", "metrics") or (
            due.trigger == "schedule" and self.project.settings.retrain.without_new_data
        ):
            command.append("--retrain")
        output = folder / "run.json"
        with output.open("wb") as result, (folder / "run.log").open("wb") as log:
            # In a session of its own, so that Ctrl-C in a terminal reaches it once, from here.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=result, stderr=log, start_new_session=True
            )
        self._run = _Run(process, due, head.number, output)
        self.tell("began", f"process {process.pid}")
        return True

    def has_ended(self) -> bool:
        """Tells whether the run that was begun has ended, and says how."""
        assert self._run is not None
        if self._run.process.poll() is None:
            return False
        run, self._run = self._run, None
        try:
            ended = self._ends(run)
        except (PerennialError, OSError) as error:
            self._troubled(describe_error(error))
            return True
        for name, end in ended:
            text = f"run {name} {end.outcome}"
            self.tell("ended", "; ".join([text, *end.reasons[:1]]), name, end.outcome)
        if not ended:
            self._not_begun(run)
        return True

    def interrupt(self) -> None:
        """Ends the run that goes on as Ctrl-C would, and waits for it."""
        assert self._run is not None
        self.tell("waits", "the run is interrupted; it goes on when the watch begins again")
        self._run.process.send_signal(signal.SIGINT)
        self._run.process.wait()

    def _ends(self, run: _Run) -> list[tuple[str, RunEnded]]:
        """Lists how the runs of a process ended: one, and its repetitions."""
        process = run.process.pid
        leases = self._ledger.events("lease_taken", after=run.after)
        names = {
            event.run for event in leases if body_of(event, LeaseTaken).owner.process == process
        }
        ends = self._ledger.events("run_ended", after=run.after)
        return [(e.run, body_of(e, RunEnded)) for e in ends if e.run is not None and e.run in names]

    def _not_begun(self, run: _Run) -> None:
        """Tells of a process that ended before a run's end; its cause waits for a change."""
        lease = self._ledger.lease()
        if lease is not None and _is_held(lease):  # another run began first: it is due after that
            return
        self._tried.add(run.due.cause)
        why = _reason_in(run.output) or f"exit code {run.process.returncode}"
        self.tell("trouble", f"the process of the run ended before the run did: {why}")
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.notices.append(
            Notice(
                id=f"failed-{run.due.cause}",
                kind="failed",
                at=now,
                summary=f"a run that was due ({run.due.because}) did not come to an end",
                reasons=[why],
            )
        )

    def _look(self, idle: bool) -> RetrainingDue | None:
        stats = stat_landed(self.project)
        settled, self._stats = stats == self._stats, stats
        if not idle:
            return None
        history = self._read_history()
        if settled and self._looked_at != (stats, history.head):
            self._look_at_landings(history)
            self._looked_at = stats, history.head
        due = decide_due(datetime.now(UTC), self.project.settings.retrain, self._facts(history))
        if due is None or self._must_wait(due):
            return None
        return due

    def _read_history(self) -> _History:
        """Reads the ledger where it has changed."""
        head = self._ledger.head()
        if self._history is None or self._history.head != head:
            self._history = _read_history(self._ledger, head)
        watch = self._history.watch
        paused = watch is not None and watch[1].state == "paused"
        if self._paused is None:
            if paused:
                self.tell("paused", "`perennial watch resume` lets runs begin again")
        elif paused != self._paused:
            by = watch[1].by if watch else ""
            self.tell("paused" if paused else "resumed", f"by {by}")
        self._paused = paused
        return self._history

    def _look_at_landings(self, history: _History) -> None:
        chosen = find_window(self.project, history.judged)
        self._landings = _untried(chosen, history)
        self._new_labels = None
        if self._landings and self.project.settings.retrain.new_labels is not None:
            names = {landing.name for landing in self._landings}
            self._new_labels = _count_rows(self.project, chosen, names)

    def _facts(self, history: _History) -> Facts:
        watch_at = history.watch[0].at if history.watch else datetime.now(UTC).isoformat()
        moments = [due.moment for _, due in history.dues if due.moment is not None]
        open_due = None
        if history.dues and history.dues[-1][0].number > history.last_lease:
            newest = history.dues[-1][1]
            open_due = newest if newest.cause not in self._tried else None
        return Facts(
            since=max(datetime.fromisoformat(each) for each in (watch_at, *moments)),
            answered=frozenset(due.cause for _, due in history.dues),
            paused=bool(self._paused),
            last_end=history.last_end,
            open=open_due,
            landings=self._landings,
            new_labels=self._new_labels,
            interrupted=self._interrupted(history),
        )

    def _interrupted(self, history: _History) -> Interrupted | None:
        """Finds the newest run where a watch began it and it was cut short, once in a row."""
        if not history.starts:
            return None
        selection = history.starts[-1][1].selection
        if selection.run in history.ended or selection.trigger == "hand" or selection.resumes:
            return None
        return Interrupted(selection.run)

    def _must_wait(self, due: RetrainingDue) -> bool:
        """Tells whether a run of another process goes on, and says so once."""
        lease = self._ledger.lease()
        if lease is None or not _is_held(lease):
            self._waits_for = None
            return False
        if self._waits_for != lease.run:
            self._waits_for = lease.run
            owner = describe_owner(self._ledger, lease)
            self.tell("waits", f"due ({due.because}), after {owner}")
        return True

    def _reload(self) -> None:
        """Loads the project again where its settings were changed."""
        stat = _settings_stat(self.project)
        if stat == self._settings_stat:
            return
        project = load_project(self.project.folder)
        check_schedule(project.settings.retrain)
        self.project, self._settings_stat = project, stat
        self._ledger = Ledger(self.project.ledger_url)
        self._history = self._looked_at = None
        self._tried.clear()
        self._note_schedule()
        self.tell("watching", "the settings were read again")

    def _note_schedule(self) -> None:
        """Records a new schedule: it counts from now on."""
        text = schedule_text(self.project.settings.retrain)
        newest = self._ledger.newest("watch_changed")
        before = body_of(newest, WatchChanged) if newest else None
        if before is None or before.schedule != text:
            state = before.state if before else "on"
            changed = WatchChanged(state=state, schedule=text, by=person())
            self._ledger.append(NewEvent("watch_changed", changed))

    def _troubled(self, text: str) -> None:
        """Tells of something that cannot be read, once it was so twice in a row."""
        if text == self._trouble and text != self._told_trouble:
            self._told_trouble = text
            self.tell("trouble", text)
        self._trouble = text


def _read_history(ledger: Ledger, head: LedgerHead) -> _History:
    starts: list[tuple[int, RunStarted]] = []
    dues: list[tuple[Event, RetrainingDue]] = []
    ended: set[str | None] = set()
    last_end: datetime | None = None
    last_lease = 0
    watch = None
    for event in ledger.events(
        "run_started", "run_ended", "lease_taken", "retraining_due", "watch_changed"
    ):
        if event.kind == "run_started":
            starts.append((event.number, body_of(event, RunStarted)))
        elif event.kind == "run_ended":
            ended.add(event.run)
            last_end = datetime.fromisoformat(event.at)
        elif event.kind == "lease_taken":
            last_lease = event.number
        elif event.kind == "retraining_due":
            dues.append((event, body_of(event, RetrainingDue)))
        else:
            watch = event, body_of(event, WatchChanged)
    judged = ledger.judged_spans()
    return _History(head, starts, frozenset(ended), last_end, dues, last_lease, watch, judged)


def _untried(chosen: Window, history: _History) -> list[Landing]:
    """Lists new spans of the window that no run has worked on to its end since a verdict on them.

    Spans of a run that refused its data, or failed, stay new; but they were tried.
    """
    tried: dict[tuple[str, str], int] = {}
    for number, start in history.starts:
        selection = start.selection
        if selection.run in history.ended:
            new = set(selection.new_spans)
            tried |= {(s.name, s.fingerprint): number for s in selection.window if s.name in new}
    untried = []
    for span in chosen.spans:
        if span.name not in chosen.new:
            continue
        verdicts = [
            verdict.number
            for verdict in history.judged.get(span.name, [])
            if verdict.judged.span.fingerprint == span.fingerprint and verdict.run is None
        ]
        if tried.get((span.name, span.fingerprint), -1) <= max(verdicts, default=-1):
            untried.append(Landing(span.name, span.fingerprint))
    return untried


def _count_rows(project: Project, chosen: Window, names: set[str]) -> int | None:
    """Counts the rows of spans; None: one cannot be read, which a run then tells of."""
    features = [feature.name for feature in project.schema.feature]
    rows = 0
    try:
        for span in chosen.spans:
            if span.name in names:
                for part in open_source(project, span, features).parts:
                    rows += sum(1 for _ in read_rows(part, project.settings.data.max_value_mb))
    except DataError:
        return None
    return rows


def _is_held(lease: LeaseRow) -> bool:
    """Tells whether a run holds a lease and may be alive."""
    if lease.released or (lease.age is not None and lease.age > lease.seconds):
        return False
    return not is_gone(LeaseOwner.model_validate_json(lease.owner))


def _settings_stat(project: Project) -> tuple[int, int]:
    stat = (project.folder / SETTINGS_FILE).stat()
    return stat.st_mtime_ns, stat.st_size


def _reason_in(output: Path) -> str | None:
    """Reads why there was no run from the line that `perennial run --json` prints."""
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    with contextlib.suppress(ValueError, IndexError, KeyError, TypeError):
        return str(json.loads(lines[-1])["reasons"][0])
    return None


class _Turn(NamedTuple):
    """When messages of a project are looked at again, and what was seen last."""

    at: float
    backoff: float
    head: LedgerHead | None
    looked: float


def _send_messages(watched: Sequence[_Watched], tell: Tell, stop: threading.Event) -> None:
    """Sends the messages of all projects, beside everything else, until `stop` is set."""
    turns = {id(each): _Turn(0.0, _MESSAGE_SECONDS, None, 0.0) for each in watched}
    projects = list(watched)
    while not stop.wait(min(_MESSAGE_SECONDS, 1.0)):
        for each in projects:
            turn = turns[id(each)]
            if time.monotonic() >= turn.at and targets_of(each.project):
                turns[id(each)] = _take_turn(each, turn, tell)


def _take_turn(each: _Watched, turn: _Turn, tell: Tell) -> _Turn:
    now, name = time.monotonic(), each.project.settings.name
    try:
        with contextlib.closing(Ledger(each.project.ledger_url)) as ledger:
            head = ledger.head()
        waits_long = now - turn.looked < _OVERDUE_SECONDS
        if head == turn.head and waits_long and not each.notices:
            return turn._replace(at=now + _MESSAGE_SECONDS)
        deliveries = send_due_messages(each.project, tuple(each.notices), waits=(), patience=0.0)
    except Exception as error:  # whatever it is, the thread goes on
        backoff = min(turn.backoff * 2, _LONGEST_BACKOFF)
        tell(WatchEvent(name, "trouble", f"messages are not sent: {describe_error(error)}"))
        return _Turn(now + backoff, backoff, None, now)
    for delivery in deliveries:
        tell(WatchEvent(name, "message", str(delivery)))
    if any(delivery.outcome == "waits" for delivery in deliveries):
        backoff = min(turn.backoff * 2, _LONGEST_BACKOFF)
        return _Turn(now + backoff, backoff, None, now)
    return _Turn(now + _MESSAGE_SECONDS, _MESSAGE_SECONDS, head, now)
