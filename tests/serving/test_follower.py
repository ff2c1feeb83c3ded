"""Following the ledger: decisions as pure functions, and a follower whose far sides fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from perennial.errors import LedgerError, ServingError
from perennial.export.served_model import ServedModel
from perennial.ledger.events import Ledger
from schemas.records import Champion, Deployment, ModelContract
from serving.domains import DomainCheck
from serving.follower import LONGEST_WAIT, Failure, Follower, after_failure, should_load
from serving.metrics import ArmMetrics, SlotCollector
from serving.observer import NoObserver, ObserverQueue
from serving.runtime import LoadedModel
from serving.slot import LiveArms, Slot

MODEL = LoadedModel(
    "tiny", "1", "d1", (), ServedModel("tiny", ModelContract(features=[], tasks=[]), {}, None)
)
NEXT = Champion(version="2", digest="d2", deployment=8)


def test_serving_champion_and_empty_ledger_stay() -> None:
    assert not should_load(None, MODEL, None, 0)
    assert not should_load(Champion(version="1", digest="d1", deployment=9), MODEL, None, 0)


def test_new_version_and_changed_digest_load() -> None:
    assert should_load(NEXT, MODEL, None, 0)
    assert should_load(Champion(version="1", digest="d9", deployment=9), MODEL, None, 0)


def test_failed_deployment_waits_and_newer_one_does_not() -> None:
    failure = Failure(number=8, attempts=1, retry_at=10)
    assert not should_load(NEXT, MODEL, failure, 9.9)
    assert should_load(NEXT, MODEL, failure, 10)
    assert should_load(NEXT.model_copy(update={"deployment": 9}), MODEL, failure, 0)


@given(st.integers(1, 100), st.floats(0.01, 5))
def test_wait_grows_to_a_limit(attempts: int, poll_seconds: float) -> None:
    before = Failure(8, attempts, 0)
    waits = [
        after_failure(8, before, 0, poll_seconds),
        after_failure(8, replace(before, attempts=attempts + 1), 0, 1),
    ]
    assert waits[0].attempts == attempts + 1
    assert 0 < waits[0].retry_at <= LONGEST_WAIT
    assert after_failure(8, Failure(7, attempts, 0), 0, poll_seconds).attempts == 1


class Shelf:
    """Models by version; those that are missing cannot be loaded."""

    def __init__(self, *versions: str) -> None:
        self.versions, self.calls = set(versions), 0

    def load(self, champion: Champion) -> LoadedModel:
        self.calls += 1
        if champion.version not in self.versions:
            raise ServingError(
                f"version {champion.version}", "must be on the shelf", "nothing", "Wait."
            )
        return replace(MODEL, version=champion.version, digest=champion.digest)


def deploy(ledger: Ledger, version: str) -> None:
    champion = ledger.champion()
    number = champion.deployment if champion else None
    ledger.deploy(
        Deployment(
            version=version, digest=f"d{version}", action="push", by="test", why="", replaces=number
        ),
        None,
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_failing_load_keeps_the_model_and_is_retried(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    shelf, slot = Shelf(), Slot(MODEL)
    follower = Follower(ledger, shelf.load, slot, poll_seconds=0.0001)
    deploy(ledger, "2")
    follower.poll()
    assert slot.model is MODEL and slot.failed_loads == 1
    lines = [
        line
        for line in caplog.messages
        if "version 2 (deployment 1) cannot be loaded, version 1 keeps" in line
    ]
    assert len(lines) == 1 and "\n" not in lines[0]
    shelf.versions.add("2")
    while slot.model is MODEL:
        follower.poll()
    assert slot.model.version == "2"


def test_waiting_for_a_retry_does_not_load(ledger: Ledger) -> None:
    shelf, slot = Shelf("3"), Slot(MODEL)
    follower = Follower(ledger, shelf.load, slot, poll_seconds=5)
    deploy(ledger, "2")
    follower.poll()
    follower.poll()
    assert shelf.calls == 1
    deploy(ledger, "3")
    follower.poll()
    assert slot.model.version == "3"


class FailingLedger:
    """A ledger whose reads fail while `down`."""

    def __init__(self) -> None:
        self.down, self.closed = True, 0

    def champion(self) -> Champion:
        if self.down:
            raise LedgerError("ledger", "must be readable", "disk I/O error", "Check the disk.")
        return NEXT

    def running_test(self) -> None:
        return None

    def close(self) -> None:
        self.closed += 1


def test_failing_ledger_keeps_serving_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    ledger, slot = FailingLedger(), Slot(MODEL)
    follower = Follower(ledger, Shelf("2").load, slot, 1)  # type: ignore[arg-type]
    follower.poll()
    follower.poll()
    assert slot.model is MODEL and slot.failed_reads == 2 and ledger.closed == 2
    assert len([line for line in caplog.messages if "disk I/O error" in line]) == 1
    ledger.down = False
    follower.poll()
    assert slot.model.version == "2"


def test_metrics_show_one_model_and_the_failures() -> None:
    registry, slot = CollectorRegistry(), Slot(MODEL)
    domains = DomainCheck("count")
    domains.counts.update({"city": 3})
    observers = ObserverQueue(NoObserver())
    registry.register(SlotCollector(slot, domains, ArmMetrics(), observers))
    slot.arms, slot.failed_loads = LiveArms(replace(MODEL, version="2", digest="d2")), 3
    text = generate_latest(registry).decode()
    assert 'perennial_model_info{digest="d2",name="tiny",version="2"} 1.0' in text
    assert text.count("perennial_model_info{") == 1
    assert "perennial_failed_loads_total 3.0" in text
    assert 'perennial_values_outside_domain_total{feature="city"} 3.0' in text


def test_blank_arrays_have_the_form_of_the_features() -> None:
    from serving.features import Feature
    from serving.runtime import _blank

    assert _blank(Feature("x", "float32", (2, None))).shape == (1, 2, 1)
    assert _blank(Feature("s", "string", ())).tolist() == [b""]
    assert _blank(Feature("n", "int64", (3,))).dtype == np.int64
    assert _blank(Feature("d", "int64", (2,), (7, 8))).tolist() == [[7, 8]]
