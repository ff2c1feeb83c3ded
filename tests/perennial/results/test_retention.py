"""What may be removed from a root, whatever lies there: never what is new, needed or reached."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from perennial.results.retention import GRACE, plan_removal
from perennial.results.store import object_name
from perennial.storage.objects import ListedObject
from schemas.records import StepResult, StoredFile, StoredOutput

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DIGESTS = st.lists(st.sampled_from(["aa1", "bb2", "cc3", "dd4"]), unique=True)
DAYS = st.integers(0, 100)


def listed(name: str, days: int) -> ListedObject:
    return ListedObject(name, 10, NOW - timedelta(days=days))


def result(key: str, digests: list[str]) -> StepResult:
    files = [StoredFile(path=digest, digest=digest, size=10) for digest in digests]
    output = StoredOutput(digest="", files=files)
    return StepResult(step="step", key=key, outputs={"made": output})


@given(
    results=st.lists(st.tuples(DAYS, DIGESTS), max_size=6),
    objects=st.lists(DAYS, min_size=4, max_size=4),
    needed=st.sets(st.integers(0, 5)),
    age=st.integers(1, 60),
)
def test_what_stays_is_whole_and_what_goes_is_old(results, objects, needed, age):
    there = {
        listed(f"results/step/{number}.json", days): result(str(number), digests)
        for number, (days, digests) in enumerate(results)
    }
    stored = [
        listed(object_name(digest), days)
        for digest, days in zip(["aa1", "bb2", "cc3", "dd4"], objects, strict=True)
    ]
    names = {f"results/step/{number}.json" for number in needed}
    removal = plan_removal(there, stored, names, NOW, timedelta(days=age))
    gone = {each.name for each in removal.objects}
    for each, made in there.items():
        old = NOW - each.written > timedelta(days=age)
        assert (each in removal.results) == (old and each.name not in names)
        if each not in removal.results:
            assert not {object_name(file.digest) for file in made.outputs["made"].files} & gone
    assert all(NOW - each.written > GRACE for each in removal.objects)
    assert removal.kept + len(removal.results) == len(there)
    assert removal.size == 10 * (len(removal.results) + len(removal.objects))


def test_an_object_that_nothing_names_goes_after_a_day():
    new, old = listed("objects/aa/aa1", 0), listed("objects/bb/bb2", 2)
    assert plan_removal({}, [new, old], [], NOW, timedelta(days=30)).objects == [old]
