"""`perennial spans`.

A quarantined span waits for a person, whose decision is in the ledger with who, when and why.
"""

from __future__ import annotations

import getpass
import json
import multiprocessing
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.conclude_run.nothing_new import nothing_new_reasons
from components.conclude_run.step import judge_spans
from perennial.cli.main import app
from perennial.errors import DataError, LedgerError, PerennialError
from perennial.ledger.events import Ledger, NewEvent
from perennial.project import Project, load_project
from perennial.spans.landed import find_landed
from perennial.spans.quarantine import decide_span
from perennial.spans.window import choose_window, number_versions
from schemas.records import (
    Check,
    Decision,
    DecisionMade,
    RunEnded,
    Span,
    SpanJudged,
    SpanValidation,
    Validation,
)
from tests.perennial.folders import make_project
from tests.perennial.records import run_started, selection

GOOD, BAD, NEW = "2026-01-01", "2026-01-02", "2026-01-03"
REASON = "label: 7 of 300 rows have no label; expected one in every row"
FORK = multiprocessing.get_context("fork")


class Spans:
    """A project with an accepted span (a model was trained on it), a quarantined one, and a new one."""

    def __init__(self, folder: Path) -> None:
        self.project: Project = make_project(folder, data={"window": 3})
        self.ledger = Ledger(self.project.ledger_url)
        for name in (GOOD, BAD):
            self.land(name)
        good, bad = self.spans()
        self.run("run-1", [good, bad], "5", accepted=good, quarantined=bad)
        self.land(NEW)

    def land(self, name: str, contents: str = "first") -> Path:
        path = self.project.folder / "data" / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{name}: {contents}")
        return path

    def spans(self) -> list[Span]:
        return number_versions(find_landed(self.project), self.ledger.judged_spans())

    def judge(self, kind, span, run="run-1", **changes):
        judged = SpanJudged(
            span=span, rows=300, reasons=[] if kind == "span_accepted" else [REASON], set_aside=2
        )
        self.ledger.append(NewEvent(kind, judged.model_copy(update=changes), run))

    def run(self, name, window, version, accepted=None, quarantined=None):
        decided = Decision(promote=True, criteria=[], reasons=[], not_compared=[])
        ended = RunEnded(
            outcome="promoted",
            reasons=[],
            window=[],
            new_spans=[],
            version=version,
            champion=version,
            report=None,
        )
        read_by = self.project.digest_of("ingest_examples")
        chosen = selection(name, window, data_digest=read_by)
        self.ledger.append(run_started(name, chosen))
        self.ledger.append(
            NewEvent("decision", DecisionMade(decision=decided, version=version, digest="d"), name)
        )
        if accepted:
            self.judge("span_accepted", accepted, name)
        if quarantined:
            self.judge("span_quarantined", quarantined, name)
        self.ledger.append(NewEvent("run_ended", ended, name))

    def window(self) -> list[str]:
        return [s.name for s in choose_window(self.spans(), self.ledger.judged_spans(), 3).spans]

    def call(self, command, *arguments, **environment):
        done = CliRunner().invoke(
            app, ["spans", command, str(self.project.folder), *arguments], env=environment
        )
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done


@pytest.fixture
def spans(tmp_path: Path) -> Spans:
    return Spans(tmp_path / "digits")


def test_list_tells_every_span_with_its_state(spans: Spans) -> None:
    lines = spans.call("list").output.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        [GOOD, "1", "accepted"],
        [BAD, "1", "quarantined"],
        [NEW, "1", "new"],
    ]
    assert REASON in lines[2] and "300" in lines[2] and "UTC" in lines[3]


def test_list_for_programs(spans: Spans) -> None:
    rows = {row["span"]: row for row in json.loads(spans.call("list", "--json").output)}
    assert {name: row["state"] for name, row in rows.items()} == {
        GOOD: "accepted",
        BAD: "quarantined",
        NEW: "new",
    }
    assert (
        rows[BAD]["reasons"] == [REASON]
        and rows[BAD]["rows"] == 300
        and rows[BAD]["set_aside"] == 2
    )
    assert rows[NEW]["rows"] is None and rows[NEW]["at"] and rows[NEW]["lies_there"]
    assert {row["fingerprint"] for row in rows.values()} == {
        span.fingerprint for span in spans.spans()
    }


def test_list_before_anything_landed(tmp_path: Path) -> None:
    project = make_project(tmp_path / "digits")
    done = CliRunner().invoke(app, ["spans", "list", str(project.folder)])
    assert (done.exit_code, done.output) == (0, "no span has landed\n")


def test_list_keeps_what_does_not_lie_there_any_more(spans: Spans) -> None:
    (spans.project.folder / "data" / f"{BAD}.parquet").unlink()
    assert "does not lie there any more" in spans.call("list").output.splitlines()[2]


@pytest.mark.parametrize("columns", ["40", "99", "100", "120", "300"])
def test_no_terminal_is_so_narrow_that_a_name_is_cut(spans: Spans, columns: str) -> None:
    long = "a-span-with-a-very-long-name-indeed-that-no-narrow-terminal-could-show-in-one-line"
    spans.project = make_project(spans.project.folder, data={"spans": "data/{SPAN}.parquet"})
    spans.land(long)
    output = spans.call("list", COLUMNS=columns, FORCE_COLOR="1", TERM="xterm").output
    column = [re.split(r"\s", re.sub("\x1b[^m]*m", "", line))[0] for line in output.splitlines()]
    assert long in "".join(column) and BAD in column


def test_show_explains_a_span(spans: Spans) -> None:
    shown = spans.call("show", GOOD).output
    (good, *_) = spans.spans()
    assert (
        f"span {GOOD} version 1" in shown
        and "accepted by run run-1: 300 rows, 2 set aside" in shown
    )
    assert good.fingerprint in shown and good.uri in shown
    assert "trained by   run run-1 (promoted): registry version 5" in shown
    shown = spans.call("show", BAD).output
    assert (
        REASON in shown and "quarantined by run run-1" in shown and "trained by   no run" in shown
    )


def test_show_keeps_the_versions_apart(spans: Spans) -> None:
    spans.land(GOOD, "corrected")
    shown = spans.call("show", GOOD).output
    first, second = shown.split(f"span {GOOD} version 2")
    assert "registry version 5" in first and "lies there   no more" in first
    assert (
        "state        new" in second
        and "lies there   yes" in second
        and "trained by   no run" in second
    )


def test_show_suggests_names(spans: Spans) -> None:
    with pytest.raises(
        DataError, match=r"span 2026-01-20 must have landed.*Did you mean 2026-01-0"
    ):
        spans.call("show", "2026-01-20")


def test_release_lets_a_span_into_the_next_window(spans: Spans) -> None:
    assert spans.window() == [GOOD, NEW]
    done = spans.call("release", BAD, "--why", "the sensor was replaced that day")
    assert done.output == f"span {BAD} version 1 is released: the next run trains on it\n"
    assert spans.window() == [GOOD, BAD, NEW]
    verdict = spans.ledger.judged_spans()[BAD][-1]
    assert (verdict.verdict, verdict.run, verdict.judged.by) == (
        "released",
        None,
        f"user {getpass.getuser()}",
    )
    assert verdict.judged.reasons == ["the sensor was replaced that day"] and verdict.at.startswith(
        "20"
    )
    shown = spans.call("show", BAD).output
    assert (
        f"released by user {getpass.getuser()}" in shown
        and "the sensor was replaced that day" in shown
    )


def test_what_is_released_and_then_trained_on_names_its_models(spans: Spans) -> None:
    spans.call("release", BAD, "--why", "fine")
    _, bad, _ = spans.spans()
    spans.run("run-2", spans.spans(), "6", accepted=bad)
    shown = spans.call("show", BAD).output
    assert "run run-2 (promoted): registry version 6" in shown and "registry version 5" not in shown


def test_a_span_is_judged_again_by_corrected_rules(spans: Spans) -> None:
    (spans.project.folder / "data" / f"{NEW}.parquet").unlink()
    rules = {
        "data_digest": spans.project.digest_of("ingest_examples"),
        "rules_digest": spans.project.digest_of("check_examples"),
        "checks_digest": spans.project.digest_of("validate_data"),
    }
    chosen = selection("run-2", spans.spans()).model_copy(update=rules)
    bad = next(span for span in spans.spans() if span.name == BAD)
    spans.ledger.append(run_started("run-2", chosen))
    spans.judge("span_quarantined", bad, "run-2")
    source, waits = nothing_new_reasons(spans.project, spans.ledger)
    assert "not judged before" in source
    assert waits == (
        f"span {BAD} waits in quarantine: {REASON}; `perennial spans release|reject` decides"
    )
    spans.project.expectations_path.write_text('{"expectations": []}')
    (_, waits) = nothing_new_reasons(load_project(spans.project.folder), spans.ledger)
    assert waits == (
        f"span {BAD} waits in quarantine; what it is judged by has changed since: `perennial spans "
        f'judge PROJECT {BAD} --why "…"` has the next run judge it again'
    )
    done = spans.call("judge", BAD, "--why", "the range was wrong")
    assert done.output == f"span {BAD} version 1 is reopened: the next run judges it again\n"
    window = choose_window(spans.spans(), spans.ledger.judged_spans(), 3)
    assert (window.new, window.released) == ([BAD], [])
    assert len(nothing_new_reasons(spans.project, spans.ledger)) == 1
    refused = SpanValidation(
        span=bad,
        new=True,
        rows={"train": 300},
        labels={},
        checks=[Check(kind="rows", subject="table", verdict="failed", message="too few")],
    )
    again = Validation(spans=[refused], accepted=False, reasons=[])
    verdicts = judge_spans("data_rejected", again, "run-3", spans.ledger.judged_spans())
    spans.ledger.append(*verdicts)
    assert spans.window() == [GOOD]


def test_reject_keeps_a_quarantined_span_away(spans: Spans) -> None:
    done = spans.call("reject", BAD, "--why", "half of it is missing")
    assert done.output == f"span {BAD} version 1 is rejected: later windows go without it\n"
    assert spans.window() == [GOOD, NEW]
    with pytest.raises(DataError, match=r"must be quarantined for this. Received: it is rejected"):
        spans.call("release", BAD, "--why", "no, wait")


def test_reject_of_an_accepted_span_keeps_what_was_trained_on_it_explained(spans: Spans) -> None:
    done = spans.call("reject", GOOD, "--why", "a test of the scanner")
    assert "later windows go without it" in done.output and "stays recorded" in done.output
    assert spans.window() == [NEW]
    assert "registry version 5" in spans.call("show", GOOD).output


def test_reject_after_release_is_possible_until_it_is_trained_on(spans: Spans) -> None:
    spans.call("release", BAD, "--why", "fine")
    spans.call("reject", BAD, "--why", "not fine after all")
    assert spans.window() == [GOOD, NEW]


def test_a_rejection_outlives_a_run_that_was_training_on_the_span_meanwhile(spans: Spans) -> None:
    spans.call("release", BAD, "--why", "fine")
    _, bad, _ = spans.spans()
    spans.call("reject", BAD, "--why", "not fine after all")
    spans.judge("span_accepted", bad, "run-2")
    assert spans.window() == [GOOD, NEW]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (GOOD, "must be quarantined for this. Received: it is accepted"),
        (NEW, "must have been judged by a run. Received: it is new"),
        ("2026-01-99", "no such span. Did you mean 2026-01-0"),
        ("x", "no such span. `perennial spans list`"),
    ],
)
def test_release_of_what_is_not_quarantined_is_explained(
    spans: Spans, name: str, message: str
) -> None:
    before = spans.ledger.events()
    with pytest.raises(DataError) as refused:
        spans.call("release", name, "--why", "because")
    assert message in str(refused.value) and refused.value.exit_code == 3
    assert spans.ledger.events() == before


def test_what_could_not_be_read_cannot_be_released(spans: Spans) -> None:
    *_, new = spans.spans()
    spans.judge("span_quarantined", new, reasons=["file: is cut off"], readable=False, rows=0)
    with pytest.raises(
        DataError,
        match=r"must be readable to be released. Received: file: is cut off.*Land it again",
    ):
        spans.call("release", NEW, "--why", "because")
    assert spans.call("reject", NEW, "--why", "because").exit_code == 0


def test_a_decision_needs_a_reason(spans: Spans) -> None:
    assert spans.call("release", BAD).exit_code == 2
    done = spans.call("release", BAD, "--why", "  ")
    assert done.exit_code == 2 and "must say why" in done.output
    assert spans.window() == [GOOD, NEW]


def test_the_newest_quarantined_version_is_meant_unless_another_is_named(spans: Spans) -> None:
    spans.land(BAD, "second")
    second = next(span for span in spans.spans() if span.name == BAD)
    spans.judge("span_quarantined", second, "run-2")
    with pytest.raises(
        DataError, match=r"must have been judged in version 9. Received: versions 1, 2"
    ):
        spans.call("release", BAD, "--why", "because", "--version", "9")
    done = spans.call("release", BAD, "--why", "because", "--version", "1")
    assert done.output.endswith("version 1 is released: it does not lie there any more: land "
    "it again, then the "
                                "next run trains on it\n")  # fmt: skip
    assert (
        "version 2 is released: the next run trains on it"
        in spans.call("release", BAD, "--why", "because").output
    )


def test_what_is_too_old_for_the_window_is_said_to_be(spans: Spans) -> None:
    for day in ("2026-01-04", "2026-01-05"):
        spans.land(day)
    done = spans.call("release", BAD, "--why", "because")
    assert "no run trains on it: newer spans fill the window of 3" in done.output


def test_a_version_that_a_newer_one_replaced_is_said_to_be(tmp_path: Path) -> None:
    spans = Spans(tmp_path / "digits")
    spans.project = make_project(
        tmp_path / "other", data={"spans": "data/{YYYY}-{MM}-{DD}v{VERSION}.parquet"}
    )
    spans.ledger = Ledger(spans.project.ledger_url)
    for version in (1, 2):
        spans.land(f"{BAD}v{version}")
    spans.judge("span_quarantined", spans.spans()[0])
    done = spans.call("release", BAD, "--why", "because")
    assert (
        "version 1 is released: no run trains on it: its version 2 takes its place" in done.output
    )
    spans.judge("span_accepted", spans.spans()[1])
    done = spans.call("reject", BAD, "--why", "because", "--version", "2")
    assert "later windows go without it; version 1 takes its place" in done.output


def _decide(project: Project, act: str, answers: object) -> None:
    try:
        decide_span(project, act, BAD, None, f"{act} it")  # type: ignore[arg-type]
        answers.put(("done", act))  # type: ignore[attr-defined]
    except PerennialError as error:
        answers.put((type(error).__name__, str(error)))  # type: ignore[attr-defined]


def test_of_two_people_at_once_one_decides_and_the_other_is_told(spans: Spans) -> None:
    answers = FORK.Queue()
    people = [
        FORK.Process(target=_decide, args=(spans.project, "release", answers)) for _ in range(4)
    ]
    spans.ledger.close()
    for process in people:
        process.start()
    ends = sorted(answers.get(timeout=60) for _ in people)
    for process in people:
        process.join()
    assert [kind for kind, _ in ends].count("done") == 1
    assert all(
        "released by user" in text or "it is released" in text
        for kind, text in ends
        if kind != "done"
    )
    assert [verdict.verdict for verdict in spans.ledger.judged_spans()[BAD]] == [
        "quarantined",
        "released",
    ]


def test_who_decides_after_looking_too_long_is_told_what_holds_now(
    spans: Spans, monkeypatch
) -> None:
    really = Ledger.append_once

    def after_somebody_else(ledger: Ledger, event: NewEvent) -> bool:
        monkeypatch.setattr(Ledger, "append_once", really)
        decide_span(spans.project, "reject", BAD, None, "I was faster")
        return ledger.append_once(event)

    monkeypatch.setattr(Ledger, "append_once", after_somebody_else)
    with pytest.raises(
        LedgerError,
        match=r"must be as it was when you decided. Received: rejected by user .*faster",
    ):
        decide_span(spans.project, "release", BAD, None, "because")
    assert [verdict.verdict for verdict in spans.ledger.judged_spans()[BAD]] == [
        "quarantined",
        "rejected",
    ]
