"""Decides what of a root may be removed: by age, and by what is still reached."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from perennial.ledger.events import Ledger, body_of
from perennial.package.store import package_name
from perennial.results.store import SPAN_STEP, object_name
from perennial.storage.objects import ListedObject
from schemas.records import RunEnded, StepResult

# An object that no result names may be one of a result that is being published.
GRACE = timedelta(days=1)


class RunFolder(NamedTuple):
    """What a run left of itself: its records, its report, its log; as old as its newest file."""

    run: str
    written: datetime
    size: int


@dataclass(frozen=True)
class Removal:
    """Removals in the order to do them: results first, so that none is ever half there.

    `unfinished` are parts of work that nobody went on with, and `packages` those of projects that
    no run needs. `kept` counts the results that stay.
    """

    results: list[ListedObject]
    objects: list[ListedObject]
    unfinished: list[ListedObject]
    kept: int
    packages: list[ListedObject] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Sums the bytes."""
        return sum(each.size for each in self.all)

    @property
    def all(self) -> list[ListedObject]:
        """Gives everything, in the order to remove it."""
        return [*self.results, *self.objects, *self.unfinished, *self.packages]

    @property
    def works(self) -> int:
        """Counts the pieces of work that the unfinished parts are of."""
        return len({_work_of(part) for part in self.unfinished})


def plan_removal(
    results: Mapping[ListedObject, StepResult],
    objects: Iterable[ListedObject],
    unfinished: Sequence[ListedObject],
    needed: Collection[str],
    now: datetime,
    age: timedelta,
) -> Removal:
    """Decides what may be removed from a root.

    Args:
        results: All results, as they are listed.
        objects: All objects.
        unfinished: All parts of unfinished work; a piece is as old as its newest part.
        needed: Names of results that stay, however old.
        now: The time.
        age: How old a result must be.
    """
    old = {
        listed
        for listed in results
        if listed.name not in needed and now - listed.written > max(age, GRACE)
    }
    reached = {
        object_name(file.digest)
        for listed, result in results.items()
        if listed not in old
        for output in result.outputs.values()
        for file in output.files
    }
    newest: dict[str, datetime] = {}
    for part in unfinished:
        work = _work_of(part)
        newest[work] = max(part.written, newest.get(work, part.written))
    return Removal(
        results=sorted(old),
        objects=sorted(
            listed
            for listed in objects
            if listed.name not in reached and now - listed.written > GRACE
        ),
        unfinished=sorted(
            part for part in unfinished if now - newest[_work_of(part)] > max(age, GRACE)
        ),
        kept=len(results) - len(old),
    )


def choose_packages(
    packages: Iterable[ListedObject],
    needed: Collection[str],
    now: datetime,
    age: timedelta,
) -> list[ListedObject]:
    """Chooses the packages of projects that may be removed.

    Args:
        packages: All packages.
        needed: Names of packages that stay, however old.
        now: The time.
        age: How old a package must be.
    """
    return sorted(
        listed
        for listed in packages
        if listed.name not in needed and now - listed.written > max(age, GRACE)
    )


def run_folders(files: Iterable[ListedObject]) -> list[RunFolder]:
    """Sums the files of each run's folder, as they are listed."""
    folders: dict[str, RunFolder] = {}
    for file in files:
        run = file.name.split("/")[1]
        before = folders.get(run, RunFolder(run, file.written, 0))
        folders[run] = RunFolder(run, max(before.written, file.written), before.size + file.size)
    return list(folders.values())


def choose_run_folders(
    folders: Iterable[RunFolder],
    needed: Collection[str],
    now: datetime,
    age: timedelta,
    count: int,
) -> list[RunFolder]:
    """Chooses the folders of runs that may be removed, oldest first.

    Args:
        folders: All folders of one place.
        needed: Names of runs whose folders stay, however old.
        now: The time.
        age: How old a folder must be.
        count: So many of the newest stay, however old.
    """
    newest_first = sorted(folders, key=lambda each: each.written, reverse=True)
    return [
        folder
        for folder in reversed(newest_first[count:])
        if folder.run not in needed and now - folder.written > max(age, GRACE)
    ]


def needed_runs(ledger: Ledger) -> set[str]:
    """Names the runs whose folders are needed, however old.

    These are the runs whose models served, that have not ended, and on whose findings about a span
    in quarantine a person has yet to decide.
    """
    served = _served_versions(ledger)
    newest_verdicts = {
        (name, verdict.judged.span.version): verdict
        for name, verdicts in ledger.judged_spans().items()
        for verdict in verdicts
    }
    return {
        start.selection.run
        for _, start, end in ledger.runs()
        if end is None or body_of(end, RunEnded).version in served
    } | {
        verdict.run
        for verdict in newest_verdicts.values()
        if verdict.verdict == "quarantined" and verdict.run is not None
    }


def needed_packages(ledger: Ledger, now: datetime, age: timedelta) -> set[str]:
    """Names the packages of runs that are needed: for what served, or as they are recent.

    These are the runs whose models served, that have not ended, or that began within `age`, as a
    schedule gives the same package to each of its runs.
    """
    served = _served_versions(ledger)
    return {
        package_name(start.selection.package)
        for event, start, end in ledger.runs()
        if start.selection.package is not None
        and (
            end is None
            or body_of(end, RunEnded).version in served
            or now - datetime.fromisoformat(event.at) <= max(age, GRACE)
        )
    }


def _served_versions(ledger: Ledger) -> set[str]:
    return {deployment.version for _, deployment in ledger.deployments()}


def newest_accumulators(
    results: Mapping[ListedObject, StepResult], spans: Collection[str]
) -> set[str]:
    """Names the newest accumulators of each of these spans, which the next analysis reads."""
    newest: dict[str, ListedObject] = {}
    for listed, result in results.items():
        if result.step == SPAN_STEP and (span := result.value["span"]) in spans:
            newest[span] = max(newest.get(span, listed), listed, key=lambda each: each.written)
    return {listed.name for listed in newest.values()}


def _work_of(part: ListedObject) -> str:
    """Names the work that a part belongs to: its step and its key."""
    return "/".join(part.name.split("/")[:3])
