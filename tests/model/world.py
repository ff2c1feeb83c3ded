"""A project with its real ledger, root and registry, and the plain model of what must hold in it."""

from __future__ import annotations

import functools
import hashlib
import importlib
import io
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from mlflow import MlflowClient
from rich.console import Console

from components.select_spans.step import find_window
from perennial.cli import clean as clean_command
from perennial.errors import LeaseLostError, PerennialError, RunInProgressError
from perennial.ledger.chain import find_fault
from perennial.ledger.events import Ledger, body_of
from perennial.ledger.migration import migrate_ledger
from perennial.ledger.table import ChainedRow
from perennial.ledger.task_lease import RUN_VARIABLE
from perennial.project import Project, load_project
from perennial.registry.deployments import promote_version, roll_back, serving_stack
from perennial.registry.versions import CHAMPION_ALIAS, Registry
from perennial.results.store import Results
from perennial.runner import project_run
from perennial.runner.project_run import RunOptions, RunResult, run_project
from perennial.spans.prepared import PreparedSpans
from perennial.spans.quarantine import Act, decide_span
from perennial.storage.digests import digest_file, digest_folder
from perennial.storage.objects import FolderObjects, ListedObject, RemoteObjects
from schemas.records import DecisionMade, Deployment, RunEnded
from tests.model.steps import MadeUp, SteppedRun, replacements
from tests.model.workers import Worker, owner_here, with_lock, with_point, worker_here
from tests.perennial.folders import make_project

WINDOW = 3
LEASE_SECONDS = 3600.0  # no lease runs out and nobody beats by itself while an example goes on
_MONTHS = timedelta(days=90)
# What a step of a worker changes outside its process: each call is a point at which it may stop.
_POINTS: list[tuple[str, str, tuple[str, ...]]] = [
    ("perennial.ledger.sqlite", "SqliteTable", ("insert", "take_lease", "release_lease")),
    ("perennial.ledger.server", "ServerTable", ("insert", "take_lease", "release_lease")),
    ("perennial.storage.objects", "FolderObjects", ("write_once", "add", "delete")),
    ("perennial.storage.objects", "RemoteObjects", ("write_once", "add", "delete")),
    (
        "mlflow",
        "MlflowClient",
        (
            *("create_run", "log_batch", "log_artifacts", "log_artifact", "set_terminated"),
            *("create_model_version", "delete_model_version", "delete_run"),
            *("set_registered_model_alias", "delete_registered_model_alias"),
        ),
    ),
]


class Version(NamedTuple):
    """A version of a span: its name and the fingerprint of its bytes."""

    name: str
    fingerprint: str


class Holder(NamedTuple):
    """Who holds the lease, by the model: whether another process sees that it is dead."""

    worker: Worker
    expired: bool


class World:
    """One project, everything that happens to it, and what must hold after each of these.

    Args:
        folder: An empty folder.
        ledger_url: The ledger's database; None: a file of the project.
        registry: An MLflow database without a model, which is copied.
        root: URL of an empty root; None: the project's own folder.
    """

    def __init__(
        self, folder: Path, ledger_url: str | None, registry: Path, root: str | None
    ) -> None:
        changes: dict[str, Any] = {
            "data": {"spans": "data/{YYYY}-{MM}-{DD}.txt", "window": WINDOW, "format": "jsonl"},
            "gate": {"repeats": 1},
            "runner": {"lease_seconds": LEASE_SECONDS},
            "kubeflow": {"lease_minutes": LEASE_SECONDS / 60, "run_minutes": 1_000_000},
            **({"ledger": {"url": ledger_url}} if ledger_url else {}),
            **({"root": root} if root else {}),
        }
        self.project: Project = _shorten(make_project(folder, **changes))
        self._landed = folder / "data"
        self._landed.mkdir()
        self.project.state.mkdir()
        shutil.copy(registry, self.project.state / "registry.db")
        self.ledger = Ledger(self.project.ledger_url)
        self.made_up = MadeUp()
        self.workers: list[Worker] = []  # those that have not ended
        self._cleaning: list[Worker] = []
        self.clock = timedelta(0)  # by how much this machine's clock is off
        self._names = 0
        self._age: dict[str, timedelta] = {}  # object -> how much older it is than it says
        # The model.
        self._rows: list[ChainedRow] = []
        self._published: dict[str, bytes | None] = {}  # results of steps, by their names
        self._contents: dict[str, str] = {}  # name -> fingerprint of what lies there
        self._states: dict[Version, str] = {}  # those that are not new
        self._trained: set[Version] = set()
        self._deployed: list[Deployment] = []
        self._holder: Holder | None = None

    # What happens.

    def land(self, name: str, contents: str, seconds_back: int = 0) -> None:
        """Lands a span; what lay there is gone."""
        path = self._landed / f"{name}.txt"
        path.write_text(contents, encoding="utf-8")
        if seconds_back:
            before = path.stat().st_mtime - seconds_back
            os.utime(path, (before, before))
        self._contents[name] = hashlib.sha256(contents.encode()).hexdigest()

    def land_again(self, name: str) -> None:
        """Lands the same bytes again."""
        path = self._landed / f"{name}.txt"
        path.write_bytes(path.read_bytes())

    def landed(self) -> list[str]:
        """Lists what lies there."""
        return sorted(self._contents)

    def judged(self) -> list[str]:
        """Lists the spans that runs or people have decided about."""
        return sorted({version.name for version in self._states})

    def start_run(self, gate: str, retrain: bool = False, in_pods: bool = False) -> Worker:
        """Starts a run, on this machine or in pods of a cluster; it stands before its first point.

        Of a run in pods there are only tasks, so that nobody sees that it is gone.
        """
        self.made_up.gate = gate
        options = RunOptions(retrain=retrain)
        run = self._run_in_pods if in_pods else self._run
        return self._start(lambda: run(options), seen=not in_pods)

    def start_clean(self, days: int) -> Worker:
        """Starts `perennial clean --yes`, which stands before its first point."""
        worker = self._start(lambda: clean_command.clean(self.project.folder, days, True))
        self._cleaning.append(worker)
        return worker

    def advance(self, worker: Worker, points: int, anywhere: bool = False) -> None:
        """Lets a worker pass so many points, then looks at what came of it."""
        rows = len(self._rows)
        before = self._holder
        worker.advance(points, anywhere)
        self.check(worker)
        took = [row for row in self._rows[rows:] if row.kind == "lease_taken"]
        if took:
            assert self._is_free(before, worker), "a lease was taken that another process held"
            self._holder = Holder(worker, expired=False)
        if worker.ended:
            self._end(worker, before, took)

    def finish(self, worker: Worker) -> None:
        """Lets a worker come to its end."""
        self.advance(worker, 1_000_000)

    def kill(self, worker: Worker) -> None:
        """Kills a worker where it stands; nothing of it goes on."""
        before = self._read()
        worker.kill()
        assert self._read() == before, "a dead process recorded something"
        self.workers.remove(worker)

    def sleep(self) -> None:
        """Has the lease's owner sleep for longer than the lease lasts."""
        statement = f"UPDATE lease SET beat_at = beat_at - {2 * LEASE_SECONDS} WHERE id = 1"
        self._execute(statement)
        if self._holder is not None:
            self._holder = self._holder._replace(expired=True)

    def decide(self, act: Act, name: str) -> None:
        """Has a person decide about a span, where that can be decided."""
        try:
            decision = decide_span(self.project, act, name, None, "a test")
        except PerennialError as error:
            self.check(None)
            possible = [each for each in self._states if each.name == name]
            needed = ({"release", "judge"} & {act} and {"quarantined"}) or {
                "quarantined",
                "reopened",
                "released",
                "accepted",
            }
            held = {self._states[each] for each in possible}
            torn = act == "release" and "readable" in str(error)
            assert torn or not held & needed, f"{act} {name} was refused: {error}"
            return
        version = Version(name, decision.judged.span.fingerprint)
        self._states[version] = {
            "release": "released",
            "judge": "reopened",
            "reject": "rejected",
        }[act]
        self.check(None)

    def promote(self, number: str | None) -> None:
        """Has a person promote a version (None: the newest); refused if it serves or is not there."""
        known = [version.version for version in Registry(self.project).versions()]
        chosen = number or (known[-1] if known else None)
        serving = self._deployed[-1].version if self._deployed else None
        expected = chosen if chosen in known and chosen != serving else None
        self._deploy(lambda: promote_version(self.project, number, "a test"), expected)

    def roll_back(self) -> None:
        """Has a person roll back; refused where nothing served before."""
        stack = serving_stack(self._deployed)
        expected = stack[-2].version if len(stack) > 1 else None
        self._deploy(lambda: roll_back(self.project, "a test"), expected)

    def let_months_pass(self) -> None:
        """Makes all that lies there three months older."""
        for each in self._results().objects.list(""):
            self._age[each.name] = self._age.get(each.name, timedelta(0)) + _MONTHS
        milliseconds = int(_MONTHS.total_seconds() * 1000)
        with sqlite3.connect(self.project.state / "registry.db") as registry:
            for table, column in (
                ("model_versions", "creation_time"),
                ("runs", "start_time"),
                ("runs", "end_time"),
            ):
                registry.execute(f"UPDATE {table} SET {column} = {column} - {milliseconds}")
        registry.close()

    def migrate(self) -> None:
        """Makes the ledger one of the older format, and migrates it."""
        if self.project.ledger_url.startswith("sqlite"):
            _make_format_1_of_sqlite(self.project.ledger_url.removeprefix("sqlite:///"))
        else:
            _make_format_1_of_postgresql(self.project.ledger_url)
        assert migrate_ledger(self.project.ledger_url) == 1
        self._holder = None  # format 1 has no lease
        columns = [row[:6] for row in self._rows]
        self._rows = self._read()
        assert [row[:6] for row in self._rows] == columns, "migration changed an event"
        self.check(None)

    def settle(self) -> None:
        """Lets everybody come to an end, then runs until nothing is new.

        Then every span of the window was trained on, once, or waits for a person.
        """
        for worker in list(self.workers):
            self.finish(worker)
        self.sleep()
        for _ in range(4 * WINDOW):
            worker = self.start_run("promote")
            self.finish(worker)
            assert worker.error is None, f"a run that nobody disturbed ended by {worker.error!r}"
            if self.ledger.run_end(worker.runs[-1]).outcome == "nothing_new":  # type: ignore[union-attr]
                break
        else:
            raise AssertionError("runs that nobody disturbed do not come to an end")
        assert not self._window()[1]
        for version in self._window()[0]:
            assert self._states[version] == "accepted" and version in self._trained
        self.check_kept()
        registry, champion = Registry(self.project), self.ledger.champion()
        assert registry.aliases().get(CHAMPION_ALIAS) == (champion.version if champion else None)

    # What must hold.

    def check(self, actor: Worker | None) -> None:
        """Checks the ledger after something happened, and brings the model up to it.

        Args:
            actor: The worker that did it; None: a person.
        """
        rows = self._read()
        assert rows[: len(self._rows)] == self._rows, "an event was lost or changed"
        assert find_fault(rows) is None
        new, self._rows = rows[len(self._rows) :], rows
        runs = actor.runs if actor is not None else []
        for row in new:
            repaired = row.kind == "decision" and row.fence is None
            of_actor = row.run is None or row.run.removeprefix("clean-") in runs
            assert of_actor or repaired, f"{row} is of nobody at work"
        self._check_fences()
        self._check_published()
        self._note_ends(new)
        self._check_champion()
        window = find_window(self.project, self.ledger.judged_spans())
        spans = [Version(span.name, span.fingerprint) for span in window.spans]
        expected, expected_new = self._window()
        assert spans == expected, "another window"
        assert set(window.new) == {version.name for version in expected_new}, "others are new"

    def check_kept(self) -> None:
        """Checks that all that is reached is there: the window, and what served."""
        results = self._results()
        for result in results.all().values():
            for output in result.outputs.values():
                for file in output.files:
                    data = results.read_file(file)
                    assert hashlib.sha256(data).hexdigest() == file.digest, "a damaged object"
        registry = Registry(self.project)
        shutil.rmtree(self.project.state / "models", ignore_errors=True)
        known = {version.version: version for version in registry.versions()}
        for deployment in self._deployed:
            folder = registry.fetch(known[deployment.version])
            assert digest_folder(folder) == deployment.digest

    def prepared(self) -> set[Version]:
        """Lists the spans of the window whose results lie in the root, and can be staged."""
        results = self._results()
        window = find_window(self.project, self.ledger.judged_spans()).spans
        known = PreparedSpans.of_project(results, self.project)
        whole = set()
        pending = {span.name for span in known.pending(window)}
        for span in window:
            if span.name in pending:
                continue
            (made,) = known.read([span])
            place = self.project.folder / f"staged-{self._names}"
            self._names += 1
            results.stage(made.checked, place / "checked")
            results.stage(made.statistics, place / "statistics")
            assert digest_file(place / "checked" / "contents") == span.fingerprint
            whole.add(Version(span.name, span.fingerprint))
            shutil.rmtree(place)
        return whole

    def close(self) -> None:
        """Ends what still stands."""
        for worker in self.workers:
            worker.kill()
        self.ledger.close()

    # How.

    def _run(self, options: RunOptions) -> RunResult:
        project = load_project(self.project.folder)
        return run_project(project, options, Console(file=io.StringIO()))

    def _run_in_pods(self, options: RunOptions) -> None:
        name = self.name_run()
        folder = self.project.state / "runs" / name
        run = SteppedRun(folder, environment={RUN_VARIABLE: name})
        run.execute({"project": str(self.project.folder), **options.arguments})
        if isinstance(run.error, RunInProgressError | LeaseLostError):
            raise run.error

    def _start(self, does: Callable[[], object], seen: bool = True) -> Worker:
        worker = Worker(does, seen)
        self.workers.append(worker)
        return worker

    def _end(self, worker: Worker, before: Holder | None, took: list[ChainedRow]) -> None:
        """Looks at how a worker ended, other than by being killed."""
        self.workers.remove(worker)
        error = worker.error
        if isinstance(error, RunInProgressError) and not took:
            assert not self._is_free(before, worker), f"a free lease was refused: {error}"
            return
        if self._holder is not None and self._holder.worker is worker:
            self._holder = None
            lost = isinstance(error, LeaseLostError)
            assert error is None or (lost and before and before.expired), repr(error)
            return
        # Another one had taken over. It may have had its last word before; else it is told so.
        run = worker.runs[-1] if worker.runs else ""
        done = self.ledger.run_end(run) is not None or worker in self._cleaning
        assert isinstance(error, LeaseLostError | RunInProgressError) or done, repr(error)
        # Where it slept between looking at the lease and deleting, it deletes once more.
        assert worker.late_deletions <= 1, "clean went on without the lease"

    def _is_free(self, holder: Holder | None, worker: Worker) -> bool:
        """Tells whether a worker may take the lease, by the model."""
        if holder is None or holder.worker is worker or holder.expired:
            return True
        return holder.worker.killed and holder.worker.seen

    def _read(self) -> list[ChainedRow]:
        return self.ledger.read_chain(0, 1_000_000)

    def _check_fences(self) -> None:
        """Checks that what a run recorded was recorded while it held the lease."""
        holder: ChainedRow | None = None
        for row in self._rows:
            if row.kind == "lease_taken":
                holder = row
            elif row.run is not None and not (row.kind == "decision" and row.fence is None):
                held = holder is not None and row.run == holder.run
                assert held, f"{row.kind} of run {row.run}, which another had taken over"

    def _check_published(self) -> None:
        """Checks that no result of a step is another one than it was: the first writer's stands."""
        objects = self._results().objects
        there = {each.name: objects.read(each.name) for each in objects.list("results")}
        for name, before in self._published.items():
            assert there.get(name, before) == before, f"{name} was written anew"
        self._published = there

    def _note_ends(self, new: list[ChainedRow]) -> None:
        """Follows what runs came to: each span version is trained as new exactly once."""
        for row in new:
            if row.kind != "run_ended":
                continue
            run, ended = row.run or "", RunEnded.model_validate_json(row.body)
            accepted = {
                Version(event.body.span.name, event.body.span.fingerprint)  # type: ignore[attr-defined]
                for event in self.ledger.events("span_accepted", run=run)
            }
            if ended.outcome not in ("promoted", "kept_champion"):
                assert not accepted, "a run that did not train accepted spans"
            trained = self.made_up.runs.get(run)
            if trained is None or ended.outcome == "failed":
                continue
            for span in trained.judged:
                version = Version(span.span.name, span.span.fingerprint)
                if self._states.get(version) == "rejected":
                    continue
                if span.quarantined:
                    self._states[version] = "quarantined"
                elif ended.outcome != "data_rejected":
                    self._states[version] = "accepted"
            if ended.outcome in ("promoted", "kept_champion"):
                given = {Version(*each) for each in trained.new}
                assert accepted == given, "what was trained on as new is not what was accepted"
                assert not given & self._trained, "a span version was trained on as new twice"
                self._trained |= given

    def _check_champion(self) -> None:
        """Checks that each deployment replaced the champion of its time, and who made it."""
        made = [
            (row, Deployment.model_validate_json(row.body)) for row in self._rows_of("deployment")
        ]
        previous: int | None = None
        for row, deployment in made:
            assert deployment.replaces == previous, "a deployment replaced no champion"
            previous = row.number
            if deployment.action == "push":
                decisions = self.ledger.events("decision", run=row.run)
                decided = [body_of(event, DecisionMade) for event in decisions]
                assert [(each.decision.promote, each.digest) for each in decided] == [
                    (True, deployment.digest)
                ], "a deployment without its decision"
        pushed = [row.run for row, deployment in made if deployment.action == "push"]
        assert len(pushed) == len(set(pushed)), "a run deployed twice"
        self._deployed = [deployment for _, deployment in made]
        champion = self.ledger.champion()
        serves = (champion.version, champion.digest) if champion else None
        newest = self._deployed[-1] if self._deployed else None
        assert serves == ((newest.version, newest.digest) if newest else None)

    def _rows_of(self, kind: str) -> Iterator[ChainedRow]:
        return (row for row in self._rows if row.kind == kind)

    def _window(self) -> tuple[list[Version], list[Version]]:
        """Gives the window by the model, and what in it is new."""
        usable = [Version(name, self._contents[name]) for name in sorted(self._contents)]
        usable = [
            version
            for version in usable
            if self._states.get(version) not in ("quarantined", "rejected")
        ][-WINDOW:]
        return usable, [each for each in usable if self._states.get(each) != "accepted"]

    def _deploy(self, act: Callable[[], Deployment], expected: str | None) -> None:
        """Has a person deploy the version that is expected, or be refused (None)."""
        count = len(self._deployed)
        try:
            made = act().version
        except PerennialError:
            made = None
        self.check(None)
        assert made == expected, "another version was deployed, or refused"
        new = [deployment.version for deployment in self._deployed[count:]]
        assert new == ([expected] if expected else [])

    def _results(self) -> Results:
        return Results(self.project.root, self.project.state)

    def _execute(self, statement: str) -> None:
        url = self.project.ledger_url
        if url.startswith("sqlite"):
            with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
                connection.execute(statement)
            connection.close()
            return
        import psycopg

        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            connection.execute(statement)

    # What the product's functions are replaced by, while a test goes on.

    def name_run(self) -> str:
        """Makes the name of a run, by the clock as it is set."""
        self._names += 1
        at = datetime(2026, 6, 1) + self.clock + timedelta(seconds=self._names)
        name = f"{at:%Y%m%d-%H%M%S}-{self._names:04x}"
        if (worker := worker_here()) is not None:
            worker.runs.append(name)
        return name

    def date_event(self) -> str:
        """Dates an event, by the clock as it is set."""
        at = datetime(2026, 6, 1) + self.clock + timedelta(seconds=self._names)
        return f"{at.isoformat(timespec='milliseconds')}+00:00"

    def listing(self, of: Callable[..., Iterator[ListedObject]]) -> Callable[..., Any]:
        """Makes what lies in a root as old as it is by the model."""

        def listed(objects: Any, folder: str) -> Iterator[ListedObject]:
            for each in of(objects, folder):
                age = self._age.get(each.name, timedelta(0))
                yield each._replace(written=each.written - age)

        return listed

    def deleting(self, of: Callable[..., None]) -> Callable[..., None]:
        """Forgets the age of what is removed: what has its name afterwards is new."""

        def delete(objects: Any, name: str) -> None:
            of(objects, name)
            self._age.pop(name, None)
            worker = worker_here()
            if worker is not None and worker in self._cleaning:
                lease = self.ledger.lease()
                holds = lease is not None and lease.run == f"clean-{worker.runs[-1]}"
                worker.late_deletions += not holds

        return delete


@contextmanager
def replaced(world: World) -> Iterator[None]:
    """Replaces functions of the product while the block runs, as `steps` and `workers` say."""
    undo: list[tuple[Any, str, Any]] = []

    def put(holder: Any, name: str, value: Any) -> None:
        undo.append((holder, name, getattr(holder, name)))
        setattr(holder, name, value)

    SteppedRun.made_up = world.made_up
    for objects in (FolderObjects, RemoteObjects):
        put(objects, "list", world.listing(objects.list))
        put(objects, "delete", world.deleting(objects.delete))
    for module, holder, names in _POINTS:
        kind = (
            MlflowClient if module == "mlflow" else getattr(importlib.import_module(module), holder)
        )
        for name in names:
            put(kind, name, with_point(getattr(kind, name)))
    put(Ledger, "exclusive", with_lock(Ledger.exclusive))
    for module, name, function in replacements():
        put(importlib.import_module(module), name, function)
    for module in ("perennial.ledger.lease", "perennial.ledger.owner"):
        put(importlib.import_module(module), "this_process", owner_here)
    put(importlib.import_module("perennial.ledger.task_lease"), "_LONGEST_BEAT", LEASE_SECONDS)
    put(importlib.import_module("perennial.ledger.events"), "_now", world.date_event)
    put(project_run, "new_run_name", world.name_run)
    # Each run digests the environment: the same, but faster.
    archive = importlib.import_module("perennial.package.archive")
    put(archive, "environment_digest", functools.cache(archive.environment_digest))
    try:
        yield
    finally:
        for holder, name, value in reversed(undo):
            setattr(holder, name, value)


def _shorten(project: Project) -> Project:
    """Leaves out the settings that these runs can do without: every step reads them all."""
    path = project.folder / "project.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section in ("stabilise", "train", "evaluate"):
        del settings[section]
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return load_project(project.folder)


def _make_format_1_of_sqlite(path: str) -> None:
    """Takes from a file what format 2 added: digests, fences, the lease and the format's number."""
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            DROP TRIGGER IF EXISTS events_no_update; DROP TRIGGER IF EXISTS events_no_delete;
            ALTER TABLE events RENAME TO chained;
            CREATE TABLE events (
                number INTEGER PRIMARY KEY AUTOINCREMENT, at VARCHAR(32) NOT NULL,
                kind VARCHAR(32) NOT NULL, run VARCHAR(64), key VARCHAR(256) UNIQUE,
                body TEXT NOT NULL
            );
            INSERT INTO events SELECT number, at, kind, run, key, body FROM chained;
            DROP TABLE chained; DROP TABLE lease; DROP TABLE ledger_format;
            """
        )
    connection.close()


def _make_format_1_of_postgresql(url: str) -> None:
    """Takes from a database what format 2 added."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(
            "ALTER TABLE events DROP COLUMN fence, DROP COLUMN previous, DROP COLUMN digest"
        )
        connection.execute("DROP TABLE lease")
        connection.execute("DROP TABLE ledger_format")
