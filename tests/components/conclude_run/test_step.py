"""The end of a run.

Verdicts and outcome are recorded together or not at all, and the report is there.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from components.conclude_run.step import Findings, conclude_run, judge_spans
from components.decide_promotion.step import decide_promotion
from components.select_spans.step import select_spans
from perennial.errors import LeaseLostError, LedgerError
from perennial.ledger.events import Ledger
from perennial.ledger.lease import hold_lease
from perennial.ledger.verification import verify_ledger
from schemas.records import Check, Evaluation, SpanValidation, Validation
from tests.chain import land
from tests.perennial.records import span

DAYS = ["2026-01-01", "2026-01-02"]


@pytest.fixture
def findings(chain, project, tmp_path):
    """What a run of the chain would hand to its end."""
    selection = select_spans(project, "r1")
    decision = decide_promotion(Evaluation.read(chain.evaluation), project.settings.gate)
    decision.write(tmp_path / "decision")
    return Findings(
        selection=selection,
        validation=chain.validation,
        stabilisation=chain.weights,
        evaluation=chain.evaluation,
        decision=tmp_path / "decision",
        version=chain.version,
    )


def _judged(project):
    return {
        name: [said.verdict for said in verdicts]
        for name, verdicts in Ledger(project.ledger_url).judged_spans().items()
    }


def test_the_end_is_recorded_with_its_verdicts_and_its_report(project, findings):
    ended = conclude_run(project, "r1", "kept_champion", findings)
    assert (ended.outcome, ended.window, ended.new_spans) == (
        "kept_champion",
        DAYS,
        DAYS,
    ) and ended.reasons
    assert Ledger(project.ledger_url).run_end("r1") == ended
    assert _judged(project) == {day: ["accepted"] for day in DAYS}
    report = project.folder / ended.report
    assert "</html>" in report.read_text()
    for place in (f"data_docs/{DAYS[0]}/index.html", f"statistics/{DAYS[1]}.html"):
        assert (report.parent / place).is_file() and f'href="{place}"' in report.read_text()
    assert select_spans(project, "r2").new_spans == []


def test_the_report_shows_the_head_that_the_ledger_still_holds_afterwards(project, findings):
    ledger = Ledger(project.ledger_url)
    head = ledger.head()
    ended = conclude_run(project, "r1", "kept_champion", findings)
    assert f"<code>{head}</code>" in (project.folder / ended.report).read_text()
    assert verify_ledger(ledger, noted=head).number > head.number > 0


def test_a_run_that_was_taken_over_judges_no_span_and_does_not_end(project, findings):
    ledger = Ledger(project.ledger_url)
    with hold_lease(ledger, "digits", "r1", 600) as lease:
        lease.pass_to("r2")  # as another process does that takes over
        stale = replace(findings, fence=lease.fence - 1)
        with pytest.raises(LeaseLostError, match="run r2 took over"):
            conclude_run(project, "r1", "kept_champion", stale)
        assert _judged(project) == {} and ledger.run_end("r1") is None
        conclude_run(project, "r2", "kept_champion", replace(findings, fence=lease.fence))
    assert list(_judged(project)) == DAYS


def test_a_failure_does_not_count_when_the_same_run_is_tried_again_and_succeeds(project, findings):
    ledger, failed = Ledger(project.ledger_url), Findings(reasons=["the disk was full"])
    assert conclude_run(project, "r1", "failed", failed).outcome == "failed"
    assert conclude_run(project, "r1", "failed", failed) == ledger.run_end("r1")
    ended = conclude_run(project, "r1", "kept_champion", findings)
    assert ended.outcome == "kept_champion" and ledger.run_end("r1") == ended
    assert ledger.newest_run()[2].body == ended == ledger.runs()[-1][2].body
    assert _judged(project) == {day: ["accepted"] for day in DAYS}
    assert conclude_run(project, "r1", "failed", failed) == ended
    assert len(ledger.events("run_ended")) == 2


def test_repeating_it_records_nothing(project, findings):
    ended = conclude_run(project, "r1", "kept_champion", findings)
    assert conclude_run(project, "r1", "failed", Findings()) == ended
    assert len(Ledger(project.ledger_url).events("run_ended")) == 1 and _judged(project) == {
        d: ["accepted"] for d in DAYS
    }


def test_cut_short_before_the_ledger_nothing_is_judged_and_the_next_run_goes_on(
    project, findings, monkeypatch
):
    def cut_short(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "append", cut_short)
        with pytest.raises(KeyboardInterrupt):
            conclude_run(project, "r1", "kept_champion", findings)
    assert _judged(project) == {} and Ledger(project.ledger_url).run_end("r1") is None
    again = select_spans(project, "r2")
    assert again.new_spans == DAYS and again.resumes == "r1"
    conclude_run(project, "r2", "kept_champion", replace(findings, selection=again))
    assert _judged(project) == {day: ["accepted"] for day in DAYS}


def test_a_span_that_another_run_judged_first_is_not_judged_again_nor_the_run_ended(
    project, findings
):
    other = replace(findings, selection=select_spans(project, "r2"))
    conclude_run(project, "r2", "kept_champion", other)
    with pytest.raises(LedgerError, match="twice"):
        conclude_run(project, "r1", "kept_champion", findings)
    assert _judged(project) == {day: ["accepted"] for day in DAYS}
    assert Ledger(project.ledger_url).run_end("r1") is None


def _with_failure(validation: Validation, name: str) -> Validation:
    failed = Check(kind="schema", subject="label", verdict="failed", message="no label")
    spans = [
        s.model_copy(update={"checks": [failed]}) if s.span.name == name else s
        for s in validation.spans
    ]
    return Validation(spans=spans, accepted=False, reasons=[f"span {name} was refused"])


def test_refused_data_judges_only_the_span_that_failed(chain, project, findings, tmp_path):
    refused = _with_failure(Validation.read(chain.validation), DAYS[1])
    refused.write(tmp_path / "refused")
    # A later step found fault with the data, too.
    told = Findings(
        selection=findings.selection, validation=tmp_path / "refused", reasons=["one label only"]
    )
    ended = conclude_run(project, "r1", "data_rejected", told)
    assert ended.reasons == ["one label only", f"span {DAYS[1]} was refused"]
    assert (project.folder / ended.report).is_file()
    assert _judged(project) == {DAYS[1]: ["quarantined"]}
    (said,) = Ledger(project.ledger_url).judged_spans()[DAYS[1]]
    assert said.judged.reasons == ["label: no label"]
    following = select_spans(project, "r2")
    assert ([span.name for span in following.window], following.new_spans) == ([DAYS[0]], [DAYS[0]])


@pytest.mark.parametrize("outcome", ["failed", "nothing_new"])
def test_a_run_that_trained_on_nothing_judges_nothing(project, outcome):
    ended = conclude_run(project, "r1", outcome, Findings(reasons=["a reason"]))
    assert ended.reasons == ["a reason"] and _judged(project) == {}
    assert (project.folder / ended.report).is_file()


def test_a_failed_run_judges_nothing_of_what_its_steps_made_and_tells_their_warnings(
    chain, project, findings, tmp_path
):
    drifted = Check(kind="drift", subject="image", verdict="failed", message="far", severity="warn")
    validation = Validation.read(chain.validation)
    spans = [
        span.model_copy(update={"checks": [*span.checks, drifted]}) for span in validation.spans
    ]
    validation.model_copy(update={"spans": spans}).write(tmp_path / "validation")
    left = replace(
        findings,
        validation=tmp_path / "validation",
        version=None,
        reasons=["it ended"],
        failed_step="validate_serving",
    )
    ended = conclude_run(project, "r1", "failed", left)
    assert (ended.outcome, ended.reasons) == ("failed", ["it ended"]) and _judged(project) == {}
    assert ended.warned and any(warning.subject == "image" for warning in ended.warnings)
    page = (project.folder / ended.report).read_text()
    assert "The run failed in validate_serving" in page and 'id="decided"' in page


def test_spans_that_were_not_new_are_not_judged_again(chain):
    validation = Validation.read(chain.validation)
    spans = [
        span.model_copy(update={"new": span.span.name == DAYS[1]}) for span in validation.spans
    ]
    events = judge_spans("promoted", validation.model_copy(update={"spans": spans}), "r1")
    assert [event.body.span.name for event in events] == [DAYS[1]]


def _judge(outcome, released=False, kind="schema", failing=(DAYS[1],)):
    """The verdicts on two new spans, of which some fail."""
    failed = Check(kind=kind, subject="label", verdict="failed", message="no label")
    spans = [
        SpanValidation(
            span=span(day, f"bytes of {day}"),
            new=True,
            rows={"train": 3, "eval": 1},
            labels={},
            checks=[failed] if day in failing else [],
            set_aside=2,
            released=released,
        )
        for day in DAYS
    ]
    events = judge_spans(outcome, Validation(spans=spans, accepted=True, reasons=[]), "r1")
    return {event.body.span.name: event for event in events}


@pytest.mark.parametrize("outcome", ["promoted", "kept_champion"])
def test_a_run_that_went_on_without_a_span_quarantines_it_and_accepts_the_rest(outcome):
    events = _judge(outcome)
    assert [event.kind for event in events.values()] == ["span_accepted", "span_quarantined"]
    assert (
        events[DAYS[0]].body.rows,
        events[DAYS[0]].body.set_aside,
        events[DAYS[0]].body.reasons,
    ) == (4, 2, [])
    assert events[DAYS[1]].body.reasons == ["label: no label"] and events[DAYS[1]].body.readable


def test_when_everything_new_is_bad_all_of_it_is_quarantined():
    events = _judge("data_rejected", failing=DAYS)
    assert [event.kind for event in events.values()] == ["span_quarantined", "span_quarantined"]


def test_a_released_span_is_accepted_in_spite_of_its_failures_which_stay_recorded():
    assert [event.kind for event in _judge("kept_champion", released=True).values()] == [
        "span_accepted"
    ] * 2
    assert _judge("kept_champion", released=True)[DAYS[1]].body.reasons == ["label: no label"]


def test_a_released_span_that_cannot_be_read_is_quarantined_a_second_time():
    first, again = (
        _judge("kept_champion", released, "readable")[DAYS[1]] for released in (False, True)
    )
    assert first.kind == again.kind == "span_quarantined" and first.key != again.key
    assert not first.body.readable


def test_nothing_new_says_where_it_looked(project):
    assert (
        project.settings.data.spans
        in conclude_run(project, "r1", "nothing_new", Findings()).reasons[0]
    )


def test_state_may_be_kept_outside_the_project(project, tmp_path):
    elsewhere = replace(
        project, settings=project.settings.model_copy(update={"state": str(tmp_path / "elsewhere")})
    )
    land(elsewhere, 1)
    ended = conclude_run(elsewhere, "r1", "nothing_new", Findings())
    assert (elsewhere.folder / ended.report).is_file() and not ended.report.startswith("/")
