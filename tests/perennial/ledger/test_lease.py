"""One run at a time, with real processes that are killed, stopped and raced; on both databases."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time

import pytest
from sqlalchemy import create_engine, text

from perennial.errors import LeaseLostError, RunInProgressError
from perennial.ledger import lease as leases
from perennial.ledger.events import Ledger, NewEvent
from perennial.ledger.lease import Lease, hold_lease
from perennial.ledger.owner import is_gone, this_process
from perennial.ledger.verification import verify_ledger
from tests.perennial.records import deployment, run_ended

FORK = multiprocessing.get_context("fork")
LONG, SHORT = 600.0, 0.6
RACERS = 5


def event_of(run: str, fence: int | None) -> NewEvent:
    return NewEvent("run_ended", run_ended(run).body, run, fence=fence)


def try_take(ledger: Ledger, run: str = "next", seconds: float = LONG) -> Lease | None:
    try:
        return Lease(ledger, "digits", run, seconds)
    except RunInProgressError:
        return None


def take_when_free(ledger: Ledger, run: str = "next") -> Lease:
    deadline = time.monotonic() + 20
    while (lease := try_take(ledger, run)) is None:
        assert time.monotonic() < deadline, "the lease never ran out"
        time.sleep(0.05)
    return lease


def taken_because(ledger: Ledger) -> tuple[str | None, str | None]:
    body = ledger.newest("lease_taken").body
    return body.from_run, body.because


class Owner:
    """Another process that holds the lease; `append` tries to record something of its run."""

    def __init__(self, url: str, seconds: float, elsewhere: bool = False) -> None:
        self._pipe, theirs = FORK.Pipe()
        arguments = url, seconds, elsewhere, theirs
        self.process = FORK.Process(target=_own, args=arguments, daemon=True)
        self.process.start()
        self.fence = self._pipe.recv()

    def append(self) -> str:
        self._pipe.send("append")
        assert self._pipe.poll(20)
        return self._pipe.recv()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.join(20)


def _own(url, seconds, elsewhere, pipe):
    here = this_process()
    if elsewhere:  # a process of a machine that cannot be seen from here
        leases.this_process = lambda: here.model_copy(update={"boot": "another machine"})
    ledger = Ledger(url)
    lease = Lease(ledger, "digits", "first", seconds)
    lost = []
    with lease.calling_on_loss(lambda: lost.append(True)):
        pipe.send(lease.fence)
        while pipe.recv():
            try:
                ledger.append(event_of("first", lease.fence))
                pipe.send("appended")
            except LeaseLostError as error:
                deadline = time.monotonic() + 20
                while not lost and time.monotonic() < deadline:
                    time.sleep(0.02)
                pipe.send(f"{error} called {lost}")


@pytest.fixture
def owned(ledger_url):
    """Makes owners, and ends them."""
    owners = []

    def own(seconds, elsewhere=False):
        owners.append(Owner(ledger_url, seconds, elsewhere))
        return owners[-1]

    yield own
    for owner in owners:
        owner.kill()


def test_a_second_run_learns_who_holds_the_project_since_when_and_for_how_long(ledger, owned):
    owner = owned(LONG)
    with pytest.raises(RunInProgressError) as refused, hold_lease(ledger, "digits", "next", LONG):
        pass
    pattern = (
        rf"project digits must have one run at a time\. Received: run first by process "
        rf"{owner.process.pid} on \S+ since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC .*runs out in "
        r"(599|600) s\)"
    )
    assert re.search(pattern, str(refused.value)) and refused.value.exit_code == 1
    assert [event.run for event in ledger.events("lease_taken")] == ["first"]


def test_a_lease_that_was_given_back_is_free_at_once(ledger):
    fences = []
    for run in ("a", "b"):
        with hold_lease(ledger, "digits", run, LONG) as lease:
            ledger.append(event_of(run, lease.fence))
            fences.append(lease.fence)
        assert taken_because(ledger) == (None, None)
        with pytest.raises(LeaseLostError, match="it gave the lease back"):
            ledger.append(event_of(run, lease.fence))
    assert fences == [1, 3] and ledger.fence_of("b") == 3 and ledger.fence_of("c") is None
    rows = ledger.read_chain(0, 10)
    assert [(row.kind, row.fence) for row in rows if row.kind != "lease_taken"] == [
        ("run_ended", 1),
        ("run_ended", 3),
    ]
    verify_ledger(ledger)


def test_signs_of_life_keep_the_lease_and_are_no_events(ledger):
    with hold_lease(ledger, "digits", "a", SHORT) as lease:
        until = time.monotonic() + 2 * SHORT
        while time.monotonic() < until:
            assert try_take(ledger) is None
            time.sleep(0.1)
        assert ledger.lease().beats >= 2 and len(ledger.events()) == 1
        ledger.append(event_of("a", lease.fence))
        lease.check()


def test_a_killed_owner_of_this_machine_is_not_waited_for(ledger, owned):
    owner = owned(LONG)
    assert try_take(ledger) is None
    owner.kill()
    with hold_lease(ledger, "digits", "next", LONG):
        run, because = taken_because(ledger)
        assert run == "first" and f"process {owner.process.pid} on" in because
        assert because.endswith("is gone")


def test_a_killed_owner_of_another_machine_is_waited_for_as_long_as_its_lease_lasts(ledger, owned):
    owned(SHORT, elsewhere=True).kill()
    assert try_take(ledger) is None
    take_when_free(ledger).release()
    assert "no sign of life" in taken_because(ledger)[1]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["this machine", "another"])
def test_an_owner_that_was_asleep_is_taken_over_and_can_record_nothing(ledger, owned, elsewhere):
    owner = owned(SHORT, elsewhere)
    assert owner.append() == "appended"
    owner.signal(signal.SIGSTOP)
    lease = take_when_free(ledger)
    before = ledger.events()
    owner.signal(signal.SIGCONT)
    answer = owner.append()
    assert "run first must hold the project's lease" in answer and "run next took over" in answer
    assert "no sign of life" in answer and answer.endswith("called [True]")
    assert ledger.events() == before
    with pytest.raises(LeaseLostError):
        ledger.deploy(deployment("1"), "first", owner.fence)
    ledger.append(event_of("next", lease.fence))
    lease.release()
    verify_ledger(ledger)


def _set_clock(url: str) -> None:
    """Makes the newest sign of life one that today's clock cannot have seen yet."""
    engine = create_engine(url)
    later = {
        "sqlite": "UPDATE lease SET boot = 'before the restart'",
        "postgresql": "UPDATE lease SET beat_at = beat_at + 86400",
    }
    with engine.begin() as connection:
        connection.execute(text(later[engine.dialect.name]))
    engine.dispose()


def test_after_a_clock_that_went_back_an_owner_that_is_dead_is_told_by_watching(
    ledger, ledger_url, owned
):
    owned(SHORT, elsewhere=True).kill()
    _set_clock(ledger_url)
    assert ledger.lease().age is None
    lease = try_take(ledger)
    assert lease is not None and "while it was watched" in taken_because(ledger)[1]
    lease.release()


def test_after_a_clock_that_went_back_an_owner_that_lives_keeps_its_lease(
    ledger, ledger_url, owned
):
    owner = owned(SHORT, elsewhere=True)
    _set_clock(ledger_url)
    assert try_take(ledger) is None
    assert owner.append() == "appended"


def test_of_runs_that_start_at_once_one_takes_the_lease(ledger, ledger_url):
    results, barrier = FORK.SimpleQueue(), FORK.Barrier(RACERS)
    racers = [
        FORK.Process(target=_race, args=(ledger_url, number, barrier, results))
        for number in range(RACERS)
    ]
    for racer in racers:
        racer.start()
    won = [results.get() for _ in racers]
    for racer in racers:
        racer.join(20)
    assert sorted(won) == [False] * (RACERS - 1) + [True]
    assert len(ledger.events("lease_taken")) == 1
    verify_ledger(ledger)


def _race(url, number, barrier, results):
    ledger = Ledger(url)
    barrier.wait(20)
    lease = try_take(ledger, f"racer-{number}")
    results.put(lease is not None)
    barrier.wait(20)  # until all have tried


def test_the_lease_passes_from_run_to_run_of_its_process(ledger):
    with hold_lease(ledger, "digits", "a", LONG) as lease:
        first = lease.fence
        lease.pass_to("b")
        assert taken_because(ledger) == (None, None) and lease.run == ledger.lease().run == "b"
        with pytest.raises(LeaseLostError, match="run b took over"):
            ledger.append(event_of("a", first))
        ledger.append(event_of("b", lease.fence))


def test_a_number_that_another_process_has_now_is_not_its_owner():
    here = this_process()
    assert not is_gone(here)
    assert is_gone(here.model_copy(update={"started": here.started - 1}))
    for elsewhere in ({"boot": "another"}, {"namespace": "pid:[1]"}):
        assert not is_gone(here.model_copy(update={"started": here.started - 1, **elsewhere}))
