"""The ledger's promises, on both databases.

Append-only, all or nothing, once, and in one order for everybody.
"""

from __future__ import annotations

import gc
import math
import multiprocessing

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DatabaseError

from perennial.errors import LedgerError
from perennial.ledger.events import Ledger, NewEvent, body_of, started
from perennial.ledger.verification import verify_ledger
from schemas.records import Decision, DecisionMade, Deployment, RunEnded, SpanJudged
from tests.perennial.records import deployment, judged, run_ended, run_started, span

FORK = multiprocessing.get_context("fork")
WRITERS = 4


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET run = 'other'",
        "DELETE FROM events",
        "DELETE FROM events WHERE number = 1",
    ],
)
def test_what_was_appended_cannot_be_changed(ledger, ledger_url, change):
    ledger.append(run_started("r1"))
    before = ledger.events()
    engine = create_engine(ledger_url)
    with pytest.raises(DatabaseError, match="append-only"), engine.begin() as connection:
        connection.execute(text(change))
    engine.dispose()
    assert ledger.events() == before


def test_postgresql_refuses_to_truncate(postgres):
    url = postgres.new_ledger()
    ledger, engine = Ledger(url), create_engine(url)
    ledger.append(run_started("r1"))
    with pytest.raises(DatabaseError, match="append-only"), engine.begin() as connection:
        connection.execute(text("TRUNCATE events"))
    engine.dispose()
    assert len(ledger.events()) == 1
    ledger.close()


def test_events_come_back_in_order_and_whole(ledger):
    new = [
        run_started("r1"),
        judged(True, span()),
        NewEvent("deployment", deployment("1"), "r1"),
        run_ended("r1"),
    ]
    ledger.append(*new)
    found = ledger.events()
    assert [(e.kind, e.run, e.body) for e in found] == [(n.kind, n.run, n.body) for n in new]
    assert [e.number for e in found] == sorted({e.number for e in found})
    assert [e.kind for e in ledger.events("run_ended", "run_started")] == [
        "run_started",
        "run_ended",
    ]


def test_text_and_numbers_survive(ledger):
    decided = Decision(
        promote=False,
        criteria=[],
        reasons=["„Größe“ ≥ 3 % \U0001f600 'quoted' %s"],
        not_compared=[],
    )
    ledger.append(NewEvent("decision", DecisionMade(decision=decided, version="1", digest="d")))
    assert body_of(ledger.events()[0], DecisionMade).decision == decided


def test_an_event_with_a_key_is_appended_once(ledger):
    assert ledger.append_once(run_started("r1"))
    assert not ledger.append_once(run_started("r1"))
    with pytest.raises(LedgerError, match="twice"):
        ledger.append(run_started("r1"))
    assert len(ledger.events()) == 1


def test_several_events_are_appended_together_or_not_at_all(ledger):
    ledger.append(judged(True, span("b")))
    with pytest.raises(LedgerError):
        ledger.append(judged(True, span("a")), judged(True, span("b")), run_ended("r1"))
    assert list(ledger.judged_spans()) == ["b"]
    assert ledger.run_end("r1") is None


def test_verdicts_on_a_span_come_in_order_with_who_gave_them(ledger):
    ledger.append(judged(False, span()), judged(True, span("b")))
    released = SpanJudged(span=span(), rows=3, reasons=["looked at it"], by="user ada")
    ledger.append(NewEvent("span_released", released, key="span-decision-after:1"))
    first, second = ledger.judged_spans()[span().name]
    assert (first.verdict, first.run, first.judged.by) == ("quarantined", "r", None)
    assert (second.verdict, second.run, second.judged) == ("released", None, released)
    assert first.number < second.number and first.at <= second.at


def test_a_ledger_is_there_when_it_is_opened_again(ledger, ledger_url):
    ledger.append(run_started("r1"))
    assert [e.run for e in Ledger(ledger_url).events()] == ["r1"]


def test_the_champion_is_the_newest_deployment(ledger):
    assert ledger.champion() is None
    ledger.deploy(deployment("1"), "r1")
    first = ledger.champion()
    ledger.deploy(deployment("2", first.deployment), "r2")
    assert (first.version, ledger.champion().version, ledger.champion().digest) == (
        "1",
        "2",
        "digest-2",
    )
    assert [d.version for _, d in ledger.deployments()] == ["1", "2"]


def test_a_deployment_that_replaces_another_than_the_champion_is_refused(ledger):
    ledger.deploy(deployment("1"), None)
    first = ledger.champion()
    ledger.deploy(deployment("2", first.deployment), None)
    for replaces in (None, first.deployment, 999):
        with pytest.raises(LedgerError, match=r"version 2\) serves now"):
            ledger.deploy(deployment("3", replaces), None)
    assert ledger.champion().version == "2"


def test_a_first_deployment_that_expects_another_is_refused(ledger):
    with pytest.raises(LedgerError, match="nothing serves now"):
        ledger.deploy(deployment("2", replaces=7), None)
    assert ledger.champion() is None


def test_runs_are_told_with_their_ends(ledger):
    for run, outcome in (("a", "promoted"), ("b", None), ("c", "failed"), ("d", "nothing_new")):
        ledger.append(run_started(run), *([run_ended(run, outcome)] if outcome else []))
    ends = {
        start.selection.run: end and body_of(end, RunEnded).outcome
        for _, start, end in ledger.runs()
    }
    assert ends == {"a": "promoted", "b": None, "c": "failed", "d": "nothing_new"}
    assert [start.selection.run for start in started(ledger.runs())] == ["b", "c"]
    assert ledger.run_end("b") is None and ledger.run_end("d").outcome == "nothing_new"


def test_an_event_of_another_kind_is_not_mistaken(ledger):
    ledger.append(run_started("r1"))
    with pytest.raises(LedgerError, match="must be a Deployment"):
        body_of(ledger.events()[0], Deployment)


def test_a_loss_that_is_no_number_survives():
    from schemas.records import WeightDraw

    draw = WeightDraw(
        seed=1,
        losses=[math.inf],
        gradient_norm=math.nan,
        gradient_variance=0,
        dead_units=None,
        finite=False,
    )
    again = WeightDraw.model_validate_json(draw.model_dump_json())
    assert again.losses == [math.inf] and math.isnan(again.gradient_norm)


def test_processes_that_append_at_once_lose_nothing_and_agree_on_one_winner(ledger_url):
    """They open a database without tables, append their own events, and race for one key and one deployment."""
    won = _at_once(_append_many, ledger_url)
    ledger = Ledger(ledger_url)
    runs = [e.run for e in ledger.events("run_started")]
    assert sorted(runs) == sorted(f"{writer}-{i}" for writer in range(WRITERS) for i in range(5))
    assert sum(once for once, _ in won) == 1 and sum(deployed for _, deployed in won) == 1
    assert len(ledger.deployments()) == 1
    verify_ledger(ledger)
    ledger.close()


def _append_many(url: str, writer: int) -> tuple[bool, bool]:
    ledger = Ledger(url)
    for i in range(5):
        ledger.append(run_started(f"{writer}-{i}"))
    once = ledger.append_once(judged(True, span()))
    try:
        ledger.deploy(deployment(str(writer)), None)
    except LedgerError:
        return once, False
    return once, True


def _at_once(work, url):
    results, barrier = FORK.SimpleQueue(), FORK.Barrier(WRITERS)
    writers = [
        FORK.Process(target=_work, args=(work, url, i, barrier, results)) for i in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    found = [results.get() for _ in writers]
    for writer in writers:
        writer.join(20)
    errors = [result for result in found if isinstance(result, str)]
    assert not errors, errors
    return found


def _work(work, url, number, barrier, results):
    barrier.wait(20)
    try:
        results.put(work(url, number))
    except BaseException as error:
        results.put(f"{type(error).__name__}: {error}")


def test_a_ledger_that_nobody_uses_any_more_keeps_no_connection(ledger_url):
    """A process that opens many, one after the other, such as a watching one, uses up no server."""
    gc.disable()  # they are not in circles
    try:
        for _ in range(120):  # PostgreSQL takes 100 connections
            Ledger(ledger_url).head()
    finally:
        gc.enable()
