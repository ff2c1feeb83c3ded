"""What may be removed from a root, whatever lies there: never what is new, needed or reached."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from perennial.results.retention import (
    GRACE,
    choose_run_folders,
    newest_accumulators,
    plan_removal,
    run_folders,
)
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
    removal = plan_removal(there, stored, [], names, NOW, timedelta(days=age))
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
    assert plan_removal({}, [new, old], [], [], NOW, timedelta(days=30)).objects == [old]


def test_unfinished_work_is_as_old_as_its_newest_part():
    going_on = [listed("unfinished/train_model/a/1", 40), listed("unfinished/train_model/a/2", 1)]
    left = [listed("unfinished/tune_model/b/1", 41), listed("unfinished/tune_model/b/files/c", 40)]
    removal = plan_removal({}, [], [*going_on, *left], [], NOW, timedelta(days=30))
    assert removal.unfinished == left and removal.works == 1 and removal.size == 20


def test_of_a_span_s_accumulators_the_newest_stay():
    def accumulators(key: str, span: str) -> StepResult:
        return StepResult(step="analyse_span", key=key, outputs={}, value={"span": span})

    there = {
        listed("results/analyse_span/1.json", 9): accumulators("1", "2026-01-01"),
        listed("results/analyse_span/2.json", 5): accumulators("2", "2026-01-01"),
        listed("results/analyse_span/3.json", 9): accumulators("3", "2026-01-02"),
        listed("results/step/4.json", 1): result("4", []),
    }
    assert newest_accumulators(there, {"2026-01-01"}) == {"results/analyse_span/2.json"}


def test_a_run_s_folder_is_as_old_as_its_newest_file():
    files = [
        *(listed("runs/a/made/select_spans.json", 50), listed("runs/a/outcome.json", 40)),
        *(listed("runs/b/report.html", 60), listed("runs/c/report.html", 35)),
    ]
    folders = run_folders(files)
    assert [(each.run, each.size) for each in folders] == [("a", 20), ("b", 10), ("c", 10)]

    def chosen(age: int, count: int, *needed: str) -> str:
        old = choose_run_folders(folders, needed, NOW, timedelta(days=age), count)
        return "".join(each.run for each in old)

    assert chosen(30, 0) == "bac" and chosen(45, 0) == "b"
    assert chosen(30, 1) == "ba" and chosen(30, 2) == "b" and chosen(30, 3) == ""
    assert chosen(30, 1, "b") == "a"
