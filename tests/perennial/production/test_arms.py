"""Arms: the split of keys, and what the ledger says of a test at each moment of its life."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import LedgerError, ServingError
from perennial.ledger.events import Ledger, body_of
from perennial.production.arms import (
    Challenger,
    change_share,
    end_test,
    find_arms,
    read_arms,
    split_point,
    start_test,
)
from schemas.records import ABEnded, ABStarted
from tests.perennial.records import deployment

CHALLENGER = Challenger(7, "2", "d2", 0.2, False, "salt", "2026-01-01T00:00:00+00:00", 14)


@pytest.fixture
def ledger(ledger_url):
    """A ledger with version 1 deployed by event 1."""
    ledger = Ledger(ledger_url)
    ledger.deploy(deployment("1"), "r1")
    yield ledger
    ledger.close()


def started(champion_deployment: int = 1, version: str = "2", **changes) -> ABStarted:
    values = {"share": 0.2, "shadow": False, "salt": "salt", "max_days": 14.0} | changes
    return ABStarted(
        champion_deployment=champion_deployment,
        challenger_version=version,
        challenger_digest=f"digest-{version}",
        started_by="a test",
        **values,
    )


@given(st.text(), st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_the_keys_that_it_had(salt, key, one, other):
    smaller, larger = sorted((one, other))
    few, many = (replace(CHALLENGER, salt=salt, share=share) for share in (smaller, larger))
    assert not few.takes(key) or many.takes(key)
    assert 0 <= split_point(salt, key) < 1
    assert replace(CHALLENGER, share=1).takes(key)
    assert not replace(CHALLENGER, share=0).takes(key)
    assert not replace(CHALLENGER, share=1, shadow=True).takes(key)


def test_keys_are_spread_by_the_share_and_anew_by_each_salt():
    """Of 20,000 keys 20% within 5 standard errors; two tests split them independently."""
    keys = [f"person-{number}" for number in range(20_000)]
    other = replace(CHALLENGER, salt="another")
    taken = {key for key in keys if CHALLENGER.takes(key)}
    both = {key for key in taken if other.takes(key)}
    assert abs(len(taken) / len(keys) - 0.2) < 5 * (0.2 * 0.8 / len(keys)) ** 0.5
    assert abs(len(both) / len(keys) - 0.04) < 5 * (0.04 * 0.96 / len(keys)) ** 0.5


def test_another_process_gives_a_key_to_the_same_arm():
    """Python's own hash of a text differs from process to process."""
    call = "from perennial.production.arms import split_point; print(split_point('s', 'Łódź'))"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    assert float(done.stdout) == split_point("s", "Łódź") == 0.19642845121419317


def test_a_test_begins_changes_its_share_and_ends(ledger):
    assert read_arms(ledger).challenger is None
    challenger = start_test(ledger, started())
    assert (challenger.test, challenger.version, challenger.digest) == (2, "2", "digest-2")
    assert (challenger.share, challenger.arm) == (0.2, "challenger")
    with pytest.raises(LedgerError, match="test 2 of version 2"):
        start_test(ledger, started(version="3"))
    assert change_share(ledger, 0.5, "it does well").share == 0.5
    assert read_arms(ledger).challenger == replace(challenger, share=0.5)
    assert end_test(ledger, 2, "stopped", ["enough"])
    assert not end_test(ledger, 2, "expired", ["too late"])
    assert read_arms(ledger).challenger is None
    with pytest.raises(LedgerError, match="must hold a test that is running"):
        change_share(ledger, 0.1, "too late")
    # The share of the earlier test is none of the next one's.
    assert start_test(ledger, started(share=0.1, version="3")).share == 0.1


def test_a_shadow_takes_no_share(ledger):
    assert start_test(ledger, started(shadow=True, share=0.0)).arm == "shadow"
    with pytest.raises(LedgerError, match="it is a shadow"):
        change_share(ledger, 0.5, "")


def test_a_deployment_ends_the_test_in_the_same_transaction(ledger):
    start_test(ledger, started())
    ledger.deploy(deployment("3", replaces=1), "r2")
    made, ended = ledger.events(after=2)
    assert (made.kind, ended.kind) == ("deployment", "ab_ended")
    stopped = body_of(ended, ABEnded)
    assert (stopped.test, stopped.outcome) == (2, "stopped")
    assert stopped.reasons == ["version 3 was deployed: a test"]
    assert read_arms(ledger).challenger is None


def test_a_test_that_promotes_ends_with_the_deployment_or_not_at_all(ledger):
    start_test(ledger, started())
    promoted = ABEnded(test=2, outcome="promoted", reasons=["better"])
    end_test(ledger, 2, "stopped", ["a person was first"])
    with pytest.raises(LedgerError, match="test 2 must be running"):
        ledger.deploy(deployment("2", replaces=1), None, ended=promoted)
    assert read_arms(ledger).champion.version == "1"
    test = start_test(ledger, started()).test
    ledger.deploy(
        deployment("2", replaces=1), None, ended=promoted.model_copy(update={"test": test})
    )
    assert [body_of(e, ABEnded).outcome for e in ledger.events("ab_ended")] == [
        "stopped",
        "promoted",
    ]
    assert read_arms(ledger).champion.version == "2"


def test_a_test_with_another_champion_is_refused(ledger):
    with pytest.raises(LedgerError, match=r"deployment 1 \(version 1\) serves now"):
        start_test(ledger, started(champion_deployment=9))


def test_without_a_deployment_there_are_no_arms(tmp_path):
    empty = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert find_arms(empty) is None
    with pytest.raises(ServingError, match="no deployment"):
        read_arms(empty)
