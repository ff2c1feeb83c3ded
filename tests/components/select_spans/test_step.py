"""What a run works on, read off real files and a real ledger."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from components.conclude_run.step import judge_spans
from components.select_spans.step import select_spans
from perennial.errors import DataError
from perennial.ledger.events import Ledger, NewEvent
from perennial.project import load_project
from perennial.spans.quarantine import decide_span
from schemas.records import Check, Hyperparameters, RunEnded, SpanValidation, Tuned, Validation
from tests.perennial.folders import make_project
from tests.perennial.records import deployment

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]


class History:
    """A project's life: spans land, runs start and end."""

    def __init__(self, folder, **settings):
        self.project = make_project(folder, data={"window": 3, **settings})
        self.count = 0

    @property
    def ledger(self):
        return Ledger(self.project.ledger_url)

    def land(self, name, contents="as it was", pattern="data/{}.parquet"):
        path = self.project.folder / pattern.format(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{name}: {contents}")

    def start(self):
        self.count += 1
        return select_spans(self.project, f"run-{self.count}")

    def end(self, selection, outcome="kept_champion", rejected=()):
        spans = [self._validated(span, span.name in rejected) for span in selection.window]
        new = [span for span in spans if span.span.name in selection.new_spans]
        verdict = Validation(spans=new, accepted=not rejected, reasons=[])
        ended = RunEnded(
            outcome=outcome,
            reasons=[],
            window=[],
            new_spans=[],
            version=None,
            champion=None,
            report=None,
        )
        end = NewEvent("run_ended", ended, selection.run, key=f"run-ended:{selection.run}")
        self.ledger.append(*judge_spans(outcome, verdict, selection.run), end)

    def run(self, **end):
        selection = self.start()
        self.end(selection, **end)
        return selection

    def deploy(self, version, run=None):
        champion = self.ledger.champion()
        self.ledger.deploy(deployment(version, champion.deployment if champion else None), run)
        return self.ledger.champion()

    @staticmethod
    def _validated(span, rejected):
        failed = (
            [Check(kind="schema", subject="label", verdict="failed", message="no")]
            if rejected
            else []
        )
        return SpanValidation(span=span, new=True, rows={"train": 1}, labels={}, checks=failed)


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "digits")


def _window(selection):
    return [f"{span.name}@{span.version}" for span in selection.window]


def test_nothing_landed(history):
    selection = history.start()
    assert (selection.window, selection.new_spans, selection.champion) == ([], [], None)


def test_new_spans_join_the_window_and_are_new_once(history):
    history.land(DAYS[0])
    history.land(DAYS[1])
    first = history.run()
    assert first.new_spans == DAYS[:2] and _window(first) == [f"{day}@1" for day in DAYS[:2]]
    history.land(DAYS[2])
    second = history.run()
    assert second.new_spans == [DAYS[2]] and len(second.window) == 3
    assert history.start().new_spans == []


def test_window_holds_the_newest(history):
    for day in DAYS:
        history.land(day)
    assert _window(history.run()) == [f"{day}@1" for day in DAYS[1:]]


def test_what_fell_out_of_the_window_unseen_does_not_come_in_later(history):
    history.land(DAYS[1])
    history.land(DAYS[2])
    history.land(DAYS[3])
    history.run()
    history.land(DAYS[0])
    assert history.start().new_spans == []


def test_quarantined_version_stays_away_until_it_is_released_and_other_bytes_are_another_version(
    history,
):
    history.land(DAYS[0], "good")
    history.run()
    history.land(DAYS[1], "bad")
    assert history.run(outcome="data_rejected", rejected=[DAYS[1]]).new_spans == [DAYS[1]]
    assert (_window(history.run()), history.start().new_spans) == ([f"{DAYS[0]}@1"], [])
    history.land(DAYS[1], "better")
    again = history.run()
    assert again.new_spans == [DAYS[1]] and _window(again) == [f"{DAYS[0]}@1", f"{DAYS[1]}@2"]
    history.land(DAYS[1], "bad")
    assert _window(history.start()) == [f"{DAYS[0]}@1"]


def test_a_released_span_is_new_once_more(history):
    history.land(DAYS[0])
    history.run()
    history.land(DAYS[1])
    history.run(outcome="data_rejected", rejected=[DAYS[1]])
    decide_span(history.project, "release", DAYS[1], None, "the label is right")
    selection = history.start()
    assert selection.new_spans == selection.released == [DAYS[1]]
    history.end(selection)
    assert (history.start().new_spans, len(history.start().window)) == ([], 2)


def test_an_accepted_span_that_is_rejected_leaves_later_windows(history):
    history.land(DAYS[0])
    history.land(DAYS[1])
    history.run()
    decide_span(history.project, "reject", DAYS[1], None, "a test of the scanner")
    assert (_window(history.start()), history.start().new_spans) == ([f"{DAYS[0]}@1"], [])


def test_a_run_goes_on_without_what_it_quarantines(history):
    history.land(DAYS[0])
    history.land(DAYS[1])
    history.run(rejected=[DAYS[0]])
    assert (_window(history.start()), history.start().new_spans) == ([f"{DAYS[1]}@1"], [])


def test_late_data_replaces_the_version_that_its_location_names(tmp_path):
    history = History(tmp_path / "digits", spans="data/{YYYY}-{MM}-{DD}-v{VERSION}.parquet")
    for day in DAYS[:2]:
        history.land(day, pattern="data/{}-v1.parquet")
    first = history.run()
    history.land(DAYS[0], "corrected", pattern="data/{}-v2.parquet")
    second = history.run()
    assert _window(first) == [f"{day}@1" for day in DAYS[:2]]
    assert (_window(second), second.new_spans) == ([f"{DAYS[0]}@2", f"{DAYS[1]}@1"], [DAYS[0]])
    assert (history.project.folder / f"data/{DAYS[0]}-v1.parquet").is_file()


def test_a_late_version_that_is_bad_leaves_the_earlier_one_in_the_window(tmp_path):
    history = History(tmp_path / "digits", spans="data/{YYYY}-{MM}-{DD}-v{VERSION}.parquet")
    history.land(DAYS[0], pattern="data/{}-v1.parquet")
    history.run()
    history.land(DAYS[0], "broken", pattern="data/{}-v2.parquet")
    history.run(outcome="data_rejected", rejected=DAYS[:1])
    assert (_window(history.start()), history.start().new_spans) == ([f"{DAYS[0]}@1"], [])


def test_a_judged_version_that_changes_in_its_place_is_refused(tmp_path):
    history = History(tmp_path / "digits", spans="data/{SPAN}-v{VERSION}.parquet")
    history.land("7", pattern="data/{}-v1.parquet")
    history.run()
    history.land("7", "other bytes", pattern="data/{}-v1.parquet")
    with pytest.raises(DataError, match=r"7-v1\.parquet must not change.*next version \(2\)"):
        history.start()


def test_spans_of_a_table(tmp_path):
    database = tmp_path / "warehouse.db"
    history = History(tmp_path / "digits")
    table = {"url": f"sqlite:///{database}", "table": "labels", "span": "day", "version": "updated"}
    history.project = make_project(
        tmp_path / "table", data={"window": 3, "spans": None, "table": table}
    )
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE labels (id TEXT, day TEXT, updated INTEGER)")
        connection.executemany(
            "INSERT INTO labels VALUES (?, ?, 1)", [("a", DAYS[0]), ("b", DAYS[1]), ("c", DAYS[1])]
        )
    first = history.run()
    assert first.new_spans == DAYS[:2] and history.start().new_spans == []
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE labels SET updated = 2 WHERE id = 'a'")
    again = history.start()
    assert again.new_spans == [DAYS[0]] and _window(again) == [f"{DAYS[0]}@2", f"{DAYS[1]}@1"]


def test_an_accepted_span_that_lands_with_other_bytes_is_new(history):
    history.land(DAYS[0], "first")
    history.run()
    history.land(DAYS[0], "second")
    again = history.run()
    assert again.new_spans == [DAYS[0]] and _window(again) == [f"{DAYS[0]}@2"]
    history.land(DAYS[0], "first")
    assert (history.start().new_spans, _window(history.start())) == ([], [f"{DAYS[0]}@1"])


def test_the_same_bytes_that_land_again_are_not_new(history):
    history.land(DAYS[0])
    history.run()
    history.land(DAYS[0])
    assert history.start().new_spans == []


def test_spans_named_by_numbers(tmp_path):
    history = History(tmp_path / "digits", spans="data/span-{SPAN}.parquet")
    for number in (8, 9, 10, 11):
        history.land(str(number), pattern="data/span-{}.parquet")
    assert [span.name for span in history.start().window] == ["9", "10", "11"]


def test_the_start_is_recorded_with_all_digests(history):
    history.land(DAYS[0])
    selection = history.start()
    (_, start, end), project = history.ledger.runs()[0], history.project
    assert start.selection == selection and end is None
    assert selection.data_digest == project.digest_of("ingest_examples")
    assert selection.checks_digest == project.digest_of("validate_data")
    assert (
        selection.rules_digest == project.digest_of("check_examples") and selection.released == []
    )
    assert (selection.project_digest, selection.schema_digest) == (
        project.project_digest(),
        project.schema_digest(),
    )


def test_repeating_the_step_records_one_start(history):
    history.land(DAYS[0])
    assert select_spans(history.project, "run").run == select_spans(history.project, "run").run
    assert len(history.ledger.runs()) == 1


class TestInterrupted:
    """A run that was cut short is taken up again, and compares with the champion that it compared with."""

    def test_without_a_deployment(self, history):
        champion = history.deploy("1")
        history.land(DAYS[0])
        cut_short, again = history.start(), history.start()
        assert again.resumes == cut_short.run and again.champion == cut_short.champion == champion
        assert again.window == cut_short.window and again.new_spans == cut_short.new_spans

    def test_after_it_deployed_its_candidate(self, history):
        champion = history.deploy("1")
        history.land(DAYS[0])
        cut_short = history.start()
        history.deploy("2", run=cut_short.run)
        assert history.start().champion == champion

    def test_twice_after_it_deployed_its_candidate(self, history):
        champion = history.deploy("1")
        history.land(DAYS[0])
        first = history.start()
        history.deploy("2", run=first.run)
        second = history.start()
        third = history.start()
        assert (second.resumes, third.resumes) == (
            first.run,
            second.run,
        ) and third.champion == champion

    def test_after_it_deployed_the_first_champion(self, history):
        history.land(DAYS[0])
        cut_short = history.start()
        history.deploy("1", run=cut_short.run)
        assert history.start().champion is None

    def test_after_it_failed_with_its_candidate_deployed(self, history):
        champion = history.deploy("1")
        history.land(DAYS[0])
        failed = history.start()
        history.deploy("2", run=failed.run)
        history.end(failed, outcome="failed")
        again = history.start()
        assert (
            again.resumes == failed.run
            and again.champion == champion
            and again.new_spans == failed.new_spans
        )

    def test_a_deployment_by_hand_in_between_wins(self, history):
        history.deploy("1")
        history.land(DAYS[0])
        cut_short = history.start()
        history.deploy("2", run=cut_short.run)
        by_hand = history.deploy("1")
        again = history.start()
        assert again.resumes == cut_short.run and again.champion == by_hand

    def test_not_when_the_project_changed(self, history):
        history.land(DAYS[0])
        history.start()
        path = history.project.module_path
        path.write_text(path.read_text() + "\n")
        history.project = load_project(history.project.folder)
        assert history.start().resumes is None

    def test_not_when_something_else_landed(self, history):
        history.land(DAYS[0])
        history.start()
        history.land(DAYS[1])
        assert history.start().resumes is None

    def test_not_when_it_landed_again_with_other_bytes(self, history):
        history.land(DAYS[0])
        history.start()
        history.land(DAYS[0], "other bytes")
        assert history.start().resumes is None

    def test_a_repetition_of_a_run_whose_data_is_known(self, history):
        history.land(DAYS[0])
        history.run()
        cut_short, again = (
            select_spans(history.project, run, attempt=1) for run in ("first", "second")
        )
        assert again.resumes == cut_short.run and again.instances == cut_short.instances
        assert select_spans(history.project, "third", attempt=2).resumes is None

    def test_not_when_somebody_asks_to_train_again_on_known_data(self, history):
        history.land(DAYS[0])
        history.run()
        history.start()
        assert history.start().resumes is None

    def test_not_when_it_ended(self, history):
        history.land(DAYS[0])
        history.run()
        assert history.start().resumes is None


def test_an_earlier_search_is_used_until_it_is_old_or_a_person_asks(tmp_path):
    history = History(tmp_path / "digits")
    history.land("2026-01-01")
    assert (history.start().tuned, history.start().tune_reason) == (
        None,
        "there was no search before",
    )
    best = [Hyperparameters(learning_rate=0.02, batch_size=16, model={"width": 24}, source="tuner")]
    for days, usable in ((40, False), (3, True)):
        at = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        tuned = Tuned(best=best, space="s", at=at, run=f"run-of-{days}")
        history.ledger.append(NewEvent("hyperparameters_tuned", tuned, "r", key=f"tuned:{days}"))
        history.land(f"2026-01-0{days % 8 + 2}")
        selection = history.start()
        assert (selection.tuned == tuned) is usable
    asked = select_spans(history.project, "asked", tune=True)
    assert (asked.tuned, asked.tune_reason) == (None, "a person asked for it")


def test_a_run_that_takes_up_another_uses_what_that_one_used(tmp_path):
    history = History(tmp_path / "digits")
    history.land("2026-01-01")
    first = history.start()
    tuned = Tuned(best=[], space="s", at=datetime.now(UTC).isoformat(), run="other")
    history.ledger.append(NewEvent("hyperparameters_tuned", tuned, "other", key="tuned:other"))
    again = history.start()
    assert again.resumes == first.run and (again.tuned, again.tune_reason) == (
        None,
        first.tune_reason,
    )
