"""The push: once, only after its checks, and only over the champion that it was compared with."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from components.push_model.step import push_model
from perennial.errors import IntegrityError, LedgerError, ServingError
from perennial.ledger.events import Ledger
from perennial.registry.versions import Registry
from schemas.records import ServingCheck
from tests.perennial.folders import make_model, make_project

PASSED = ServingCheck(
    passed=True, requests=16, largest_difference=0, seconds_to_ready=1, message=""
)
FAILED = ServingCheck(
    passed=False, requests=16, largest_difference=1, seconds_to_ready=1, message="they differ"
)
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "digits")


@pytest.fixture
def versions(project, tmp_path):
    registry = Registry(project)
    return [registry.register(make_model(tmp_path / name, name)) for name in "abc"]


def _deployed(project):
    return [
        (event.run, made.version, made.replaces)
        for event, made in Ledger(project.ledger_url).deployments()
    ]


def test_the_first_champion(project, versions):
    champion = push_model(project, "r1", versions[0], None, PASSED)
    assert (champion.version, champion.digest) == ("1", versions[0].digest)
    assert Ledger(project.ledger_url).champion() == champion and _deployed(project) == [
        ("r1", "1", None)
    ]
    assert Registry(project).aliases() == {"champion": "1", "challenger": "3"}


def test_the_next_champion_replaces_the_one_that_it_was_compared_with(project, versions):
    first = push_model(project, "r1", versions[0], None, PASSED)
    second = push_model(project, "r2", versions[1], first, PASSED)
    assert second.version == "2"
    assert _deployed(project) == [("r1", "1", None), ("r2", "2", first.deployment)]


def test_repeating_it_records_nothing(project, versions):
    first = push_model(project, "r1", versions[0], None, PASSED)
    assert push_model(project, "r1", versions[0], None, PASSED) == first
    assert len(_deployed(project)) == 1


def test_stale_champion_is_refused(project, versions):
    first = push_model(project, "r1", versions[0], None, PASSED)
    second = push_model(project, "r2", versions[1], first, PASSED)
    for stale in (None, first):
        with pytest.raises(LedgerError, match="Run again to compare with the version that serves"):
            push_model(project, "r3", versions[2], stale, PASSED)
    assert Ledger(project.ledger_url).champion() == second


def test_failed_check_is_refused(project, versions):
    with pytest.raises(ServingError, match=r"must pass the serving check\. Received: they differ"):
        push_model(project, "r1", versions[0], None, FAILED)
    assert _deployed(project) == []


@pytest.mark.parametrize("name", ["saved_model.pb", "variables.index"])
def test_a_flipped_byte_is_refused_and_the_champion_stays(project, versions, name):
    first = push_model(project, "r1", versions[0], None, PASSED)
    stored = next(Path(versions[1].source.removeprefix("file://")).rglob(name))
    healthy = stored.read_bytes()
    stored.write_bytes(healthy[:-1] + bytes([healthy[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=f"must have the SHA-256 {versions[1].digest}"):
        push_model(project, "r2", versions[1], first, PASSED)
    assert (
        Ledger(project.ledger_url).champion() == first
        and Registry(project).aliases()["champion"] == "1"
    )


def test_a_version_of_other_bytes_is_refused(project, versions):
    swapped = versions[0].model_copy(update={"digest": versions[1].digest})
    with pytest.raises(IntegrityError, match="version 1 in the registry must have the digest"):
        push_model(project, "r1", swapped, None, PASSED)
    assert _deployed(project) == []


def test_of_two_pushes_at_once_one_wins(project, versions):
    first = push_model(project, "r1", versions[0], None, PASSED)
    barrier, results = FORK.Barrier(2), FORK.SimpleQueue()
    racers = [
        FORK.Process(target=_push, args=(project, v, first, barrier, results)) for v in versions[1:]
    ]
    for racer in racers:
        racer.start()
    found = sorted(results.get() for _ in racers)
    for racer in racers:
        racer.join(30)
    assert [outcome for outcome, _ in found] == ["LedgerError", "pushed"]
    assert [made[1] for made in _deployed(project)] == ["1", found[1][1]]


def _push(project, version, champion, barrier, results):
    barrier.wait(30)
    try:
        results.put(
            (
                "pushed",
                push_model(project, f"r-{version.version}", version, champion, PASSED).version,
            )
        )
    except Exception as error:
        results.put((type(error).__name__, str(error)))
