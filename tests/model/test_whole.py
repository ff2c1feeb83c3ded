"""Everything that can happen to a project, in any order: what must hold afterwards does hold.

Hypothesis draws what happens: spans land and are corrected, runs start side by side, are killed
where they stand or sleep through their lease, people decide, promote, roll back and clean, the
clock is set back, the ledger is migrated. The model beside it (`world.py`) is plain: which version
of which span is in which state, who holds the lease, what serves.

`make hunt` draws others, for minutes.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.model.steps import GATE, VERDICTS
from tests.model.workers import Worker
from tests.model.world import World, replaced

MOST_POINTS = 60  # a run passes so many, or a few more
NAMES = [f"2026-01-0{day}" for day in range(1, 6)]
POINTS = st.sampled_from(range(MOST_POINTS))
AT_ONCE = 3


Then = Literal["ends", "stands", "killed"]
THEN = st.sampled_from(["ends", "stands", "killed"])


class Asked(NamedTuple):
    """What a run is asked, by what has just landed, and where it is: on this machine, or in pods."""

    gate: str
    corrected: str | None  # the span that has just landed with other contents
    retrain: bool
    in_pods: bool


ASKED = st.builds(
    Asked,
    gate=st.sampled_from(GATE),
    corrected=st.sampled_from([*NAMES, None, None]),
    retrain=st.booleans(),
    in_pods=st.booleans(),
)


class Project(RuleBasedStateMachine):
    """What happens to a project; the places of its ledger and its root are set by the tests."""

    registry: Path
    new_ledger: Any = staticmethod(lambda: None)
    new_root: Any = staticmethod(lambda: None)

    @initialize()
    def begin(self) -> None:
        """Makes the project."""
        self.folder = Path(tempfile.mkdtemp(prefix="model-"))
        self.world = World(
            self.folder / "project", self.new_ledger(), self.registry, self.new_root()
        )
        self.corrections = 9
        self.replaced = replaced(self.world)
        self.replaced.__enter__()
        for name in NAMES[:2]:
            self.world.land(name, "good 0")

    @rule(
        name=st.sampled_from(NAMES),
        word=st.sampled_from(["good", "good", "same", *VERDICTS]),
        number=st.integers(0, 2),
        seconds_back=st.sampled_from([0, 0, 86400]),
    )
    def land(self, name: str, word: str, number: int, seconds_back: int) -> None:
        """A span lands, or lands again: as it is, or with other contents and an older date."""
        if word != "same":
            self.world.land(name, f"{word} {number}", seconds_back)
        elif name in self.world.landed():
            self.world.land_again(name)
        self.world.check(None)

    @rule(asked=ASKED, points=POINTS, then=THEN, overtakes=st.booleans())
    def run(self, asked: Asked, points: int, then: Then, overtakes: bool) -> None:
        """A run starts; it may overtake another, which sleeps for longer than its lease lasts."""
        if overtakes and self.world.workers:
            self.world.sleep()
        if asked.corrected is not None:
            self.corrections += 1
            self.world.land(asked.corrected, f"good {self.corrections}")
        worker = self.world.start_run(asked.gate, asked.retrain, asked.in_pods)
        self._go_on(worker, points, then)

    @rule(days=st.sampled_from([1, 30]), points=POINTS, then=THEN, old=st.booleans())
    def clean(self, days: int, points: int, then: Then, old: bool) -> None:
        """A person cleans up, perhaps after months."""
        if old:
            self.world.let_months_pass()
        prepared = self.world.prepared()
        self._go_on(self.world.start_clean(days), points, then)
        assert prepared <= self.world.prepared(), "clean removed what the window needs"
        self.world.check_kept()

    @precondition(lambda self: self.world.workers)
    @rule(data=st.data(), points=POINTS, then=THEN)
    def go_on(self, data: Any, points: int, then: Then) -> None:
        """A run or a clean that stood still goes on, perhaps after another one took over."""
        workers = self.world.workers
        number: int = data.draw(st.integers(0, len(workers) - 1))
        self._go_on(workers[number], points, then)

    @rule(what=st.sampled_from(["sleep", "months", "hour back", "days back", "day on", "migrate"]))
    def pass_time(self, what: str) -> None:
        """Time passes: the lease runs out, all becomes older, the clock is set, an upgrade comes."""
        if what == "sleep":
            self.world.sleep()
        elif what == "months":
            self.world.let_months_pass()
        elif what == "migrate":
            if not self.world.workers:
                self.world.migrate()
        else:
            self.world.clock += timedelta(
                hours={"hour back": -1, "days back": -48, "day on": 30}[what]
            )

    @precondition(lambda self: self.world.judged())
    @rule(act=st.sampled_from(["release", "judge", "reject"]), data=st.data())
    def decide(self, act: Any, data: Any) -> None:
        """A person decides about a span."""
        self.world.decide(act, data.draw(st.sampled_from(self.world.judged())))

    @rule(number=st.sampled_from(["newest", "1", "2", "earlier"]))
    def deploy(self, number: str) -> None:
        """A person promotes a version, or rolls back."""
        if number == "earlier":
            self.world.roll_back()
        else:
            self.world.promote(None if number == "newest" else number)

    def teardown(self) -> None:
        """Lets everything come to rest, and looks at it once more."""
        if not hasattr(self, "world"):
            return
        try:
            if sys.exc_info()[0] is None:
                self.world.settle()
        finally:
            self.world.close()
            self.replaced.__exit__(None, None, None)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _go_on(self, worker: Worker, points: int, then: Then) -> None:
        if then == "ends" or len(self.world.workers) > AT_ONCE:
            self.world.finish(worker)
            return
        self.world.advance(worker, points, anywhere=then == "killed")
        if then == "killed" and not worker.ended:
            self.world.kill(worker)


def _hold_whatever_happens(machine: type[Project], examples: int) -> None:
    steady = settings.default is settings.get_profile("steady")
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples if steady else 4 * examples,
            stateful_step_count=20 if steady else 50,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_of_sqlite(blank_registry):
    class OfSqlite(Project):
        registry = blank_registry

    _hold_whatever_happens(OfSqlite, 10)


def test_of_postgresql(blank_registry, postgres):
    class OfPostgresql(Project):
        registry = blank_registry
        new_ledger = staticmethod(postgres.new_ledger)

    _hold_whatever_happens(OfPostgresql, 7)
