"""`perennial clean`: removes what nothing needs any more: results, records of runs, models."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.arguments import Folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from perennial.ledger.events import Ledger
    from perennial.ledger.lease import Lease
    from perennial.production.log_files import LogFile
    from perennial.project import Project
    from perennial.registry.unserved import UnservedModel
    from perennial.results.retention import Removal, RunFolder
    from perennial.results.store import Results
    from perennial.storage.objects import ListedObject, Objects
    from schemas.records import Span

DAYS, RUNS = 30, 10


def clean(
    folder: Folder,
    days: Annotated[
        int, typer.Option(min=1, help="What is older than so many days is removed.")
    ] = DAYS,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it; without it, say what would be removed.")
    ] = False,
    runs: Annotated[
        int,
        typer.Option(min=0, help="The reports and records of so many newest runs stay."),
    ] = RUNS,
) -> None:
    """Remove what nothing needs any more: results, records of runs, models that never served."""
    from perennial.project import load_project
    from perennial.runner.project_run import hold_project, new_run_name

    project = load_project(folder)
    with hold_project(project, f"clean-{new_run_name()}") if yes else nullcontext() as lease:
        plan = CleanPlan.of_project(project, days, runs)
        if lease is not None:
            plan.models = plan.remove(lease)
        for line in plan.describe(done=yes):
            typer.echo(line)
        if not yes:
            typer.echo("nothing was removed: say --yes to do it")


@dataclass
class CleanPlan:
    """All that is to be removed of a project.

    Attributes:
        project: The project.
        days: How old it must be.
        root: Where results lie.
        removal: Results, what no result names, unfinished work, packages.
        runs: What runs left of themselves, by place.
        copies: Copies of objects of the root on this machine.
        models: Models of the registry.
        log: Files of the prediction log and of its labels that are older than `serving.log.days`.
    """

    project: Project
    days: int
    root: Objects
    removal: Removal
    runs: list[LeftByRuns]
    copies: list[ListedObject]
    models: list[UnservedModel]
    log: list[LogFile | ListedObject]

    @classmethod
    def of_project(cls, project: Project, days: int, runs: int) -> CleanPlan:
        """Makes the plan; `runs` newest ones keep what they left."""
        from datetime import UTC, datetime, timedelta

        from perennial.ledger.events import Ledger
        from perennial.registry.unserved import find_unserved
        from perennial.results.store import COPIES, Results
        from perennial.storage.objects import FolderObjects

        now, age = datetime.now(UTC), timedelta(days=days)
        ledger, results = Ledger(project.ledger_url), Results(project.root, project.state)
        here = FolderObjects(project.state)
        places = [results.objects, *([here] if here.location != results.objects.location else [])]
        return cls(
            project,
            days,
            results.objects,
            _plan(project, results, now, age),
            [LeftByRuns.find(place, ledger, now, age, runs) for place in places],
            [copy for copy in here.list(COPIES) if now - copy.written > age],
            find_unserved(project, ledger, now - age),
            _old_log(project, results.objects, now),
        )

    def remove(self, lease: Lease) -> list[UnservedModel]:
        """Removes all of it; gives the models that were removed, as some may serve by now.

        Raises:
            LeaseLostError: Another run has taken the project over.
            StoreError: The root lets nothing be removed.
        """
        from perennial.ledger.events import Ledger
        from perennial.package.store import remove_unpacked
        from perennial.registry.unserved import remove_unserved
        from perennial.storage.objects import FolderObjects

        for listed in self.removal.all:
            lease.check()
            self.root.delete(listed.name)
        for listed in self.removal.packages:
            remove_unpacked(listed.name, self.project.state)
        for each in self.runs:
            each.remove(lease)
        for file in self.log:
            self.root.delete(file.name)
        for copy in self.copies:
            FolderObjects(self.project.state).delete(copy.name)
        ledger, removed = Ledger(self.project.ledger_url), []
        for model in self.models:
            lease.check()
            if remove_unserved(self.project, ledger, model):
                removed.append(model)
        return removed

    def describe(self, done: bool) -> Iterator[str]:
        """Describes it by lines; `done`: it was removed."""
        yield _describe(self.removal, self.root.location, self.days, done)
        for each in self.runs:
            yield each.describe(self.days, done)
        if self.copies:
            yield _describe_copies(self.copies, self.days, done)
        yield _describe_models(self.models, self.days, done)
        if self.log:
            yield _describe_log(self.log, self.project.settings.serving.log.days, done)


def window_of(project: Project) -> list[Span]:
    """Lists the spans that the next run would train on."""
    from components.select_spans.step import find_window
    from perennial.ledger.events import Ledger

    return find_window(project, Ledger(project.ledger_url).judged_spans()).spans


@dataclass(frozen=True)
class LeftByRuns:
    """What old runs left of themselves in one place; `kept` counts those that stay."""

    place: Objects
    folders: list[RunFolder]
    kept: int

    @classmethod
    def find(
        cls, place: Objects, ledger: Ledger, now: datetime, age: timedelta, count: int
    ) -> LeftByRuns:
        """Finds what may be removed."""
        from perennial.results.retention import choose_run_folders, needed_runs, run_folders
        from perennial.results.run_records import RUNS

        folders = run_folders(place.list(RUNS))
        old = choose_run_folders(folders, needed_runs(ledger), now, age, count)
        return cls(place, old, len(folders) - len(old))

    def remove(self, lease: Lease) -> None:
        """Removes it.

        Raises:
            LeaseLostError: Another run has taken the project over.
            StoreError: The root lets nothing be removed.
        """
        from perennial.results.run_records import RUNS

        for folder in self.folders:
            lease.check()
            self.place.delete_folder(f"{RUNS}/{folder.run}")

    def describe(self, days: int, done: bool) -> str:
        """Describes it in one line."""
        from perennial.cli.formats import format_bytes

        count = len(self.folders)
        size = format_bytes(sum(folder.size for folder in self.folders))
        return (
            f"{'removed' if done else 'would remove'} reports and records of {count} "
            f"run{'s' * (count != 1)} older than {days} days, {size} in all, from "
            f"{self.place.location}; those of {self.kept} stay"
        )


def _plan(project: Project, results: Results, now: datetime, age: timedelta) -> Removal:
    from dataclasses import replace

    from perennial.ledger.events import Ledger
    from perennial.package.store import PACKAGES
    from perennial.results.retention import (
        choose_packages,
        needed_packages,
        newest_accumulators,
        plan_removal,
    )
    from perennial.results.unfinished import UNFINISHED

    window, there = window_of(project), results.all()
    removal = plan_removal(
        there,
        results.objects.list("objects"),
        list(results.objects.list(UNFINISHED)),
        {
            *_needed(project, results, window),
            *newest_accumulators(there, {span.name for span in window}),
        },
        now,
        age,
    )
    needed = needed_packages(Ledger(project.ledger_url), now, age)
    packages = choose_packages(results.objects.list(PACKAGES), needed, now, age)
    return replace(removal, packages=packages)


def _needed(project: Project, results: Results, window: list[Span]) -> Iterator[str]:
    """Names the results that the next run reads: what became of the window's spans."""
    from perennial.results.store import result_name
    from perennial.spans.prepared import PreparedSpans

    prepared = PreparedSpans.of_project(results, project)
    return (result_name(step, key) for step, key in prepared.results_of(window))


def _describe(removal: Removal, location: str, days: int, done: bool) -> str:
    from perennial.cli.formats import format_bytes

    results, objects, packages = map(len, (removal.results, removal.objects, removal.packages))
    works = removal.works
    return (
        f"{'removed' if done else 'would remove'} {results} result{'s' * (results != 1)} older "
        f"than {days} days, {objects} object{'s' * (objects != 1)} that no result names, "
        f"{works} piece{'s' * (works != 1)} of unfinished work and "
        f"{packages} package{'s' * (packages != 1)} that no run needs, "
        f"{format_bytes(removal.size)} in all, from {location}; {removal.kept} results stay"
    )


def _describe_copies(copies: list[ListedObject], days: int, done: bool) -> str:
    from perennial.cli.formats import format_bytes

    count, size = len(copies), format_bytes(sum(copy.size for copy in copies))
    return (
        f"{'removed' if done else 'would remove'} {count} cop{'ies' if count != 1 else 'y'} of "
        f"objects of the root older than {days} days, {size} in all, from this machine"
    )


def _describe_models(models: list[UnservedModel], days: int, done: bool) -> str:
    from perennial.cli.formats import format_bytes

    numbers = [model.version.version for model in models if model.version is not None]
    versions = f" (version{'s' * (len(numbers) != 1)} {', '.join(numbers)})" if numbers else ""
    return (
        f"{'removed' if done else 'would remove'} {len(models)} model{'s' * (len(models) != 1)} "
        f"older than {days} days that never served{versions}, "
        f"{format_bytes(sum(model.size for model in models))} in all, from the registry"
    )


def _old_log(project: Project, root: Objects, now: datetime) -> list[LogFile | ListedObject]:
    from datetime import timedelta

    from perennial.production.labels import LABELS
    from perennial.production.log_files import LogFiles

    age = timedelta(days=project.settings.serving.log.days)
    labels = [listed for listed in root.list(LABELS) if now - listed.written > age]
    return [*LogFiles.of_project(project).older_than((now - age).date()), *labels]


def _describe_log(files: list[LogFile | ListedObject], days: int, done: bool) -> str:
    from perennial.cli.formats import format_bytes

    count, size = len(files), format_bytes(sum(file.size for file in files))
    return (
        f"{'removed' if done else 'would remove'} {count} file{'s' * (count != 1)} of the "
        f"prediction log older than {days} days (serving.log.days), {size} in all"
    )
