"""Decides what of a root may be removed: by age, and by what is still reached. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from perennial.results.store import object_name
from perennial.storage.objects import ListedObject
from schemas.records import StepResult

# An object that no result names may be one of a result that is being published.
GRACE = timedelta(days=1)


@dataclass(frozen=True)
class Removal:
    """Removals in the order to do them: results first, so that none is ever half there.

    `kept` counts the results that stay.
    """

    results: list[ListedObject]
    objects: list[ListedObject]
    kept: int

    @property
    def size(self) -> int:
        """Sums the bytes."""
        return sum(each.size for each in (*self.results, *self.objects))


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
