"""Decides what of a root may be removed: by age, and by what is still reached."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from perennial.ledger.events import Ledger, body_of
from perennial.package.store import package_name
from perennial.results.store import object_name
from perennial.storage.objects import ListedObject
from schemas.records import RunEnded, StepResult

# An object that no result names may be one of a result that is being published.
GRACE = timedelta(days=1)


@dataclass(frozen=True)
class Removal:
    """Removals in the order to do them: results first, so that none is ever half there.

    `kept` counts the results that stay; `packages` are those of projects.
    """

    results: list[ListedObject]
    objects: list[ListedObject]
    kept: int
    packages: list[ListedObject] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Sums the bytes."""
        return sum(each.size for each in (*self.results, *self.objects, *self.packages))


def plan_removal(
    results: Mapping[ListedObject, StepResult],
    objects: Iterable[ListedObject],
    needed: Collection[str],
    now: datetime,
    age: timedelta,
) -> Removal:
    """Decides what may be removed from a root.

    Args:
        results: All results, as they are listed.
        objects: All objects.
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
    return Removal(
        results=sorted(old),
        objects=sorted(
            listed
            for listed in objects
            if listed.name not in reached and now - listed.written > GRACE
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


def needed_packages(ledger: Ledger, now: datetime, age: timedelta) -> set[str]:
    """Names the packages of runs that are needed: for what served, or as they are recent.

    These are the runs whose models served, that have not ended, or that began within `age`, as a
    schedule gives the same package to each of its runs.
    """
    served = {deployment.version for _, deployment in ledger.deployments()}
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
